"""K-subspaces: k-means with subspaces for centres."""

import warnings

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from kprojclust._engine.assignment import Criterion, all_distances, nearest_labels
from kprojclust._engine.problem import Problem, refits_from_rows, stored_numbers
from kprojclust._engine.update import starting_dimensions
from kprojclust._geometry.subspaces import dimensions_of
from kprojclust._likelihood import MixtureScoreMixin, fit_mixture
from kprojclust._parallel.threads import own_threads
from kprojclust._projection import ProjectionMixin
from kprojclust._rows.checking import check_rows, check_training_rows
from kprojclust._rows.validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    StrOptions,
    check_max_parameters,
    check_n_components,
    check_n_samples,
    fit_context,
)
from kprojclust._starts.initialization import STARTS, is_given, starts
from kprojclust._starts.restarts import (
    ENOUGH,
    automatic_number,
    draw_subsamples,
    search,
)
from kprojclust.losses import get_loss


class KSubspaces(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    MixtureScoreMixin,
    ProjectionMixin,
    BaseEstimator,
):
    r"""Cluster rows around k subspaces.

    Finds flats, given by orthonormal bases :math:`V_1, \dots, V_k` and means
    :math:`m_1, \dots, m_k` (zero unless ``affine``), and labels :math:`c_i` that
    minimise

    .. math::

        \sum_i w_i \, \rho(\lVert r_i \rVert_p), \quad
        r_i = (I - V_{c_i}^\top V_{c_i}) (x_i - m_{c_i})

    by alternating two steps: each row goes to its nearest flat, each flat becomes the
    weighted principal subspace of its rows. The weights majorise the loss, so that for
    p = 2 the objective never rises, whatever the loss. Empty clusters and clusters with
    fewer rows than dimensions take over rows of a cluster of large loss. With
    ``n_clusters=1`` and the squared loss this is the truncated singular value
    decomposition.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of subspaces.

    n_components : int or array-like of shape (n_clusters,), default=1
        Dimension of the subspaces: of all of them, or of each. Between 0 and
        ``n_features``. Ignored if ``max_parameters`` is given.

    max_parameters : int, default=None
        Choose the dimensions so that the projected rows take at most this many stored
        numbers: the sum over clusters of dimension times (rows + ``n_features``), plus
        ``n_features`` a cluster if ``affine``.

    loss : str or object, default="squared"
        The loss :math:`\rho`: "squared", "l1", "huber", "cauchy", "geman-mcclure",
        "welsch", "tukey", "truncated", or an object with ``rho(residuals)`` and
        ``weights(residuals)``, such as those of :mod:`kprojclust.losses`. Tuning
        constants that are not given come from a robust estimate of the scale of the
        residuals, which is fixed for each start.

    p : float, default=2
        Power of the Minkowski distance between a row and its projection: 2 is
        Euclidean, 1 Manhattan. Between 1 and 2. For p < 2 all residuals have to be
        formed, and a flat moves only if the objective falls.

    affine : bool, default=False
        Whether the subspaces have a mean, and need not contain the origin.

    init : str, array-like, list of ndarray or callable, default="auto"
        The start:

        - "auto": one "spectral" start where there are at most 5000 rows, and three or
          more for each cluster; one from "k-means", and "farthest" ones;
        - "k-means": k-means on the directions of the rows;
        - "farthest": local subspaces around rows drawn far from those before;
        - "spectral": spectral clustering of the rows that explain one another in a
          ridge regression; compares all pairs of rows;
        - "random": rows assigned at random to clusters of equal size;
        - an array of shape (n_samples,) of labels from 0 to ``n_clusters - 1``;
        - a list of one basis of shape (dimension, n_features) for each cluster; from
          these and from labels, every iteration is one of the plain loop;
        - a callable ``init(X, n_clusters, random_state)`` that returns the labels of
          the rows it gets: a sample of them where the starts race.

    n_init : int or "auto", default="auto"
        Number of starts, of which the one with the lowest objective is kept, after an
        exchange of clusters with the others where that lowers it further. Where there
        are more than 8192 rows, and 800 for each cluster, several starts race on a
        sample of the rows, and the one with the lowest objective on a held-out sample
        is the warm start of the run on all rows. "auto" is 1 where ``init`` is an array
        or a list. Otherwise it is 10, or as little as 4 if the subspaces are large for
        the sample of a race. Without ``max_parameters`` no more starts are made once
        three of them led to the same clusters, the best so far.

    n_relocations : int, default=0
        Largest number of times that, after the best start, a cluster is dissolved and
        one of large loss is split instead. It ends as soon as none of a few candidates
        lowers the objective. Not under ``max_parameters``.

    max_iter : int, default=100
        Largest number of iterations of one start, partial passes among them.

    tol : float, default=1e-4
        A start has converged once an iteration over all rows lowers the objective by
        no more than ``tol`` times its value, or changes no label.

    random_state : int, RandomState instance or None, default=None
        Randomness of the starts. Pass an int for reproducible output.

    verbose : int, default=0
        1 prints a line for each iteration, except in races: the objective, rows moved,
        empty clusters, seconds, and whether it was a partial pass.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training row; always equal to ``predict(X, sample_weight)``. A
        Dask array if X is one.

    components_ : list of ndarray of shape (`n_components_[c]`, n_features)
        Orthonormal rows spanning each subspace, strongest direction first.

    means_ : ndarray of shape (n_clusters, n_features)
        A point of each flat; zeros unless ``affine``.

    n_components_ : ndarray of shape (n_clusters,)
        Dimension of each subspace.

    explained_variance_ : list of ndarray of shape (n_features,)
        Mean squares of the rows of each cluster, less its mean, along all of their
        principal directions, largest first.

    noise_variance_ : ndarray of shape (n_clusters,)
        Mean square across each flat, per direction.

    weights_ : ndarray of shape (n_clusters,)
        Share of the sample weight in each cluster.

    inertia_ : float
        The objective.

    loss_ : object
        The loss, with its tuning constant.

    loss_curve_ : list of float
        The objective after each iteration of the best start, and each relocation.

    n_iter_ : int
        Number of iterations of the best start, partial passes among them, and of
        relocations.

    converged_ : bool
        Whether the best start converged within ``max_iter`` iterations.

    n_parameters_ : int
        Numbers needed to store the projected training rows, as for ``max_parameters``.

    price_ : float
        Loss that each stored number saves at least; 0 without ``max_parameters``. A row
        goes to the cluster with the least loss plus price times dimension.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, where all of them are strings.

    See Also
    --------
    EnsembleKSubspaces : The vote of many short runs.
    sklearn.cluster.KMeans : Clusters around points.
    sklearn.decomposition.TruncatedSVD : One subspace for all rows.

    Notes
    -----
    An iteration over all rows takes O(n d sum_c min(j_c, d - j_c)) operations for the
    distances. Second moments of the clusters take O(m d^2) for m rows that moved, or
    for all rows unless the loss is "squared", and the flats O(d^2 j_c) or O(d^3) a
    cluster. Where the rows are many, as for ``n_init``, and the loss is "squared",
    partial passes reassign only the eighth of the rows nearest to another flat.

    Labels do not depend on the number of threads. Rows that are not in memory are read
    block by block; a row takes 12 bytes in float32 and 20 in float64. All rows are
    loaded for ``p`` below 2, or where they are fewer than ``n_clusters`` times
    ``n_features``.

    The problem is NP-hard; what is found is a local optimum, which depends on the
    start.

    References
    ----------
    .. [1] P. S. Bradley and O. L. Mangasarian, "k-Plane Clustering", Journal of Global
       Optimization, 2000. https://doi.org/10.1023/A:1008324625522
    .. [2] A. Maalouf, H. Lang, D. Rus and D. Feldman, "Deep Learning Meets Projective
       Clustering", ICLR 2021, Sections 2 and E.1. https://arxiv.org/abs/2010.04290
    .. [3] M. E. Tipping and C. M. Bishop, "Mixtures of Probabilistic Principal
       Component Analysers", Neural Computation, 1999.
       https://doi.org/10.1162/089976699300016728

    Examples
    --------
    >>> from kprojclust import KSubspaces, clustering_accuracy, make_subspaces
    >>> X, y, _ = make_subspaces(
    ...     n_samples=300, n_features=10, n_clusters=3, n_components=2, random_state=0
    ... )
    >>> model = KSubspaces(n_clusters=3, n_components=2, random_state=0).fit(X)
    >>> clustering_accuracy(y, model.labels_)
    1.0
    >>> model.transform(X).shape
    (300, 3)
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 0, None, closed="left"), "array-like"],
        "max_parameters": [Interval(Integral, 1, None, closed="left"), None],
        "loss": [str, HasMethods(["rho", "weights"])],
        "p": [Interval(Real, 1, 2, closed="both")],
        "affine": ["boolean"],
        "init": [StrOptions({"auto", *STARTS}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_relocations": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters=8,
        n_components=1,
        *,
        max_parameters=None,
        loss="squared",
        p=2,
        affine=False,
        init="auto",
        n_init="auto",
        n_relocations=0,
        max_iter=100,
        tol=1e-4,
        random_state=None,
        verbose=0,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.max_parameters = max_parameters
        self.loss = loss
        self.p = p
        self.affine = affine
        self.init = init
        self.n_init = n_init
        self.n_relocations = n_relocations
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Find the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster; float32 stays float32. Also a memory map, the path of a
            .npy file, a list of such paths, or a Dask array that is split along the
            rows only.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows, not all zero. None weighs all alike.

        Returns
        -------
        self : KSubspaces
            Fitted.
        """
        rows = check_training_rows(self, X, sample_weight)
        with own_threads(rows.shape[0] * rows.shape[1]):
            check_n_samples(len(rows), self.n_clusters, "n_clusters")
            problem = self._problem(rows)
            random_state = check_random_state(self.random_state)
            n_starts = self._n_starts(problem)
            subsamples = draw_subsamples(problem, n_starts, random_state)
            problem, best = search(
                problem,
                subsamples,
                starts(subsamples.train, self.init, n_starts, len(rows), random_state),
                self._enough(),
                self.n_relocations,
                max_iter=self.max_iter,
                tol=self.tol,
                shortcuts=n_starts > 0,
                verbose=self.verbose,
            )
            self._store(problem, best, rows.labels_of(best.state))
        self._warn(best)
        return self

    def predict(self, X, sample_weight=None):
        """Cluster of each row: the nearest subspace, unless there is a budget.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), default=None
            Only with ``max_parameters``: what a row's loss weighs against the price of
            its coordinates.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            A Dask array if X is one.
        """
        rows = check_rows(self, X, sample_weight)
        criterion = Criterion(self.loss_, self.p, self.price_)
        return rows.map(nearest_labels, np.int32, None, self._mixture.flats, criterion)

    def transform(self, X):
        """Distance of each row to each subspace, Euclidean unless ``p`` says otherwise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in ``fit``.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
            A Dask array if X is one.
        """
        rows, flats = check_rows(self, X), self._mixture.flats
        return rows.map(all_distances, rows.dtype, len(flats), flats, self.p)

    def _n_starts(self, problem):
        """Number of starts to draw; 0 if there is a given one."""
        if is_given(self.init) or self.n_clusters == 1:
            return 0
        return automatic_number(problem) if self.n_init == "auto" else self.n_init

    def _enough(self):
        """Number of starts that must agree for the others to be left out."""
        # Under a price few rows move, so that starts agree too easily.
        free = self.n_init == "auto" and self.max_parameters is None
        return ENOUGH if free else np.inf

    def _problem(self, rows):
        n_features = rows.shape[1]
        if self.max_parameters is None:
            n_components = check_n_components(
                self.n_components, self.n_clusters, n_features, least=0
            )
        else:
            check_max_parameters(
                self.max_parameters, self.n_clusters, rows.shape, self.affine, self.p
            )
            n_components = starting_dimensions(
                self.max_parameters, self.n_clusters, rows.shape
            )
        from_rows = refits_from_rows(rows.shape, self.n_clusters, self.p)
        return Problem(
            rows.load() if from_rows else rows,
            n_components,
            self.max_parameters,
            get_loss(self.loss),
            self.p,
            self.affine,
        )

    def _store(self, problem, run, labels):
        self._mixture = fit_mixture(problem, run)
        self.labels_ = labels
        self.components_ = [flat.components for flat in run.flats]
        self.means_ = np.array([flat.mean for flat in run.flats])
        self.n_components_ = dimensions_of(run.flats)
        self.explained_variance_ = self._mixture.spectra
        self.noise_variance_ = self._mixture.noise
        self.weights_ = self._mixture.weights
        self.inertia_ = run.loss_curve[-1]
        self.loss_ = problem.loss
        self.loss_curve_ = run.loss_curve
        self.n_iter_ = len(run.loss_curve)
        self.converged_ = run.converged
        self.n_parameters_ = stored_numbers(run.totals.sizes, run.flats, self.affine)
        self.price_ = run.price
        self._n_features_out = self.n_clusters

    def _warn(self, run):
        n_found = np.count_nonzero(run.totals.sizes)
        if n_found < self.n_clusters and self.max_parameters is None:
            warnings.warn(
                f"Only {n_found} of n_clusters={self.n_clusters} subspaces have rows: "
                "the rows lie on fewer distinct subspaces, for example because of "
                "duplicates.",
                ConvergenceWarning,
                stacklevel=4,
            )
        elif not run.converged:
            warnings.warn(
                f"KSubspaces did not converge within max_iter={self.max_iter} "
                "iterations. Increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
