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
from sklearn.utils.validation import check_is_fitted, validate_data

from kprojclust._em import assign, ksubspaces_single
from kprojclust._init import STARTS
from kprojclust._subspaces import squared_distances
from kprojclust._validation import (
    Integral,
    Interval,
    Real,
    StrOptions,
    check_labels,
    check_n_components,
    check_sample_weight,
    fit_context,
)


class KSubspaces(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    r"""Cluster rows around k linear subspaces.

    Finds subspaces, given by orthonormal bases :math:`V_1, \dots, V_k`, and labels
    :math:`c_i` that minimise

    .. math::

        \sum_i w_i \, \lVert x_i - V_{c_i}^\top V_{c_i} x_i \rVert^2

    by alternating two exact steps: each row goes to its nearest subspace, each subspace
    becomes the leading right singular vectors of its weighted rows. The objective never
    rises. Empty clusters take over rows of the cluster that is served worst. With
    ``n_clusters=1`` this is the truncated singular value decomposition.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of subspaces.

    n_components : int or array-like of shape (n_clusters,), default=1
        Dimension of the subspaces: of all of them, or of each. Between 1 and
        ``n_features``.

    init : {"k-means", "random"}, array-like or callable, default="k-means"
        The start:

        - "k-means": k-means on the directions of the rows;
        - "random": rows dealt out at random into clusters of equal size;
        - an array of shape (n_samples,) of labels from 0 to ``n_clusters - 1``;
        - a callable ``init(X, n_clusters, random_state)`` that returns such labels.

    n_init : int or "auto", default="auto"
        Number of starts, of which the one with the lowest objective is kept. "auto" is
        1 where ``init`` is an array of labels and 10 otherwise.

    max_iter : int, default=100
        Largest number of iterations of one start.

    tol : float, default=1e-4
        A start has converged once an iteration lowers the objective by no more than
        ``tol`` times its value, or once no label changes.

    random_state : int, RandomState instance or None, default=None
        Randomness of the starts. Pass an int for reproducible output.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Nearest subspace of each training row; always equal to ``predict(X)``.

    components_ : list of ndarray of shape (`n_components_[c]`, n_features)
        Orthonormal rows spanning each subspace, strongest direction first.

    n_components_ : ndarray of shape (n_clusters,)
        Dimension of each subspace.

    inertia_ : float
        The objective: weighted sum of squared distances to the nearest subspace.

    loss_curve_ : list of float
        The objective after each iteration of the best start.

    n_iter_ : int
        Number of iterations of the best start.

    converged_ : bool
        Whether the best start converged within ``max_iter`` iterations.

    n_parameters_ : int
        Numbers needed to store the projected training rows: the sum over the clusters
        of dimension times (rows in the cluster + ``n_features``).

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, where all of them are strings.

    See Also
    --------
    sklearn.cluster.KMeans : Clusters around points.
    sklearn.decomposition.TruncatedSVD : One subspace for all rows.

    Notes
    -----
    One iteration costs O(n d sum_c j_c) operations for the distances and O(n d^2) for
    the refit. The problem is NP-hard; what is found is a local optimum, which depends
    on the start.

    References
    ----------
    .. [1] P. S. Bradley and O. L. Mangasarian, "k-Plane Clustering", Journal of Global
       Optimization, 2000. https://doi.org/10.1023/A:1008324625522
    .. [2] A. Maalouf, H. Lang, D. Rus and D. Feldman, "Deep Learning Meets Projective
       Clustering", ICLR 2021, Section 2. https://arxiv.org/abs/2010.04290

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
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "init": [StrOptions(set(STARTS)), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters=8,
        n_components=1,
        *,
        init="k-means",
        n_init="auto",
        max_iter=100,
        tol=1e-4,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Find the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster; float32 stays float32.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows, not all zero. None weighs all alike.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        if len(X) < self.n_clusters:
            raise ValueError(
                f"n_samples={len(X)} must not be below n_clusters={self.n_clusters}."
            )
        sample_weight = check_sample_weight(sample_weight, X)
        dimensions = check_n_components(self.n_components, self.n_clusters, X.shape[1])
        best = min(
            (
                ksubspaces_single(
                    X,
                    sample_weight,
                    start,
                    dimensions,
                    max_iter=self.max_iter,
                    tol=self.tol,
                )
                for start in self._starts(X, sample_weight)
            ),
            key=lambda run: run.loss_curve[-1],
        )
        self._store(best, dimensions, X.shape)
        self._warn(best)
        return self

    def predict(self, X):
        """Nearest subspace of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        X = self._check_rows(X)
        return assign(X, self.components_)[0]

    def transform(self, X):
        """Euclidean distance of each row to each subspace.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
        """
        X = self._check_rows(X)
        return np.sqrt(squared_distances(X, self.components_))

    def project(self, X):
        """Nearest point of the union of the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_projected : ndarray of shape (n_samples, n_features)
        """
        return self.decode(*self.encode(X))

    def encode(self, X):
        """Subspace of each row and the row's coordinates in it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Nearest subspace.
        coordinates : ndarray of shape (n_samples, max(`n_components_`))
            Coordinates in the basis ``components_[label]``, zeros beyond its dimension.
        """
        X = self._check_rows(X)
        labels, _ = assign(X, self.components_)
        coordinates = np.zeros((len(X), self.n_components_.max()), dtype=X.dtype)
        for c, basis in enumerate(self.components_):
            coordinates[labels == c, : len(basis)] = X[labels == c] @ basis.T
        return labels, coordinates

    def decode(self, labels, coordinates):
        """Points of given coordinates: the inverse of ``encode`` on the subspaces.

        Parameters
        ----------
        labels : array-like of shape (n_samples,)
        coordinates : array-like of shape (n_samples, max(`n_components_`))

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        coordinates = np.asarray(coordinates)
        if coordinates.ndim != 2 or coordinates.shape[1] != self.n_components_.max():
            raise ValueError(
                "coordinates must have shape (n_samples, "
                f"{self.n_components_.max()}). Got shape {coordinates.shape}."
            )
        labels = check_labels(labels, len(coordinates), self.n_clusters, "labels")
        dtype = self.components_[0].dtype
        X = np.empty((len(coordinates), self.n_features_in_), dtype=dtype)
        for c, basis in enumerate(self.components_):
            X[labels == c] = coordinates[labels == c, : len(basis)] @ basis
        return X

    def _check_rows(self, X):
        check_is_fitted(self)
        dtype = self.components_[0].dtype
        return validate_data(self, X, dtype=dtype, order="C", reset=False)

    def _starts(self, X, sample_weight):
        """Yield the labels to start from, one array a start."""
        random_state = check_random_state(self.random_state)
        given = not (isinstance(self.init, str) or callable(self.init))
        n_init = (1 if given else 10) if self.n_init == "auto" else self.n_init
        if given or self.n_clusters == 1:
            n_init = 1
        for _ in range(n_init):
            if callable(self.init):
                labels = self.init(X, self.n_clusters, random_state)
            elif given:
                labels = self.init
            else:
                labels = STARTS[self.init](
                    X, self.n_clusters, sample_weight, random_state
                )
            yield check_labels(labels, len(X), self.n_clusters, "init")

    def _store(self, run, dimensions, shape):
        n_samples, n_features = shape
        sizes = np.bincount(run.labels, minlength=self.n_clusters)
        self.labels_ = run.labels
        self.components_ = run.components
        self.n_components_ = dimensions
        self.inertia_ = run.loss_curve[-1]
        self.loss_curve_ = run.loss_curve
        self.n_iter_ = len(run.loss_curve)
        self.converged_ = run.converged
        self.n_parameters_ = int(dimensions @ (sizes + n_features))
        self._n_features_out = self.n_clusters

    def _warn(self, run):
        n_found = len(np.unique(run.labels))
        if n_found < self.n_clusters:
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
