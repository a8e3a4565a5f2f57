"""Ensemble K-subspaces: a consensus of many short runs."""

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from kprojclust._engine.em import run_em
from kprojclust._engine.problem import Problem
from kprojclust._ksubspaces import KSubspaces
from kprojclust._parallel.tiles import row_blocks
from kprojclust._rows.blocks import LocalRows
from kprojclust._rows.checking import check_training_array
from kprojclust._rows.validation import (
    Integral,
    Interval,
    check_n_components,
    check_n_samples,
    fit_context,
)
from kprojclust._starts.affinity import (
    default_n_neighbors,
    keep_largest,
    nearest_directions,
    ridge_directions,
    spectral_clusters,
)
from kprojclust.losses import SquaredLoss

# What the runs draw from, around the "spectral" start of KSubspaces: ridges, in units
# of the mean eigenvalue, and links of a row, as factors of the default.
_RIDGES = (0.3, 1.0, 3.0)
_LINK_FACTORS = (2 / 3, 3 / 2)

# The default number of co-associated rows that are kept stays within these.
_FEWEST, _MOST = 10, 100


class EnsembleKSubspaces(ClusterMixin, BaseEstimator):
    r"""Cluster rows around k linear subspaces by the vote of many short runs.

    Each of B runs starts from a spectral clustering of the rows, with a ridge and a
    number of links drawn at random, and does a few iterations of
    :class:`~kprojclust.KSubspaces`. The share of the runs that put two rows into one
    cluster,

    .. math::

        A_{ij} = \frac{1}{B} \sum_{b=1}^{B} 1[c^{(b)}_i = c^{(b)}_j],

    is cut into ``n_clusters`` by spectral clustering, after each row has kept its
    largest entries only. One run of KSubspaces from there, to the end, gives the
    subspaces.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of subspaces.

    n_components : int or array-like of shape (n_clusters,), default=1
        Dimension of each subspace, as of `KSubspaces`, but at least 1.

    n_estimators : int, default=50
        Number B of runs.

    n_base_clusters : int or None, default=None
        Number of subspaces of each run, of the largest of the ``n_components``. None
        takes the ``n_clusters`` and ``n_components`` of the result.

    n_neighbors : int or None, default=None
        Entries of the co-association matrix that each row keeps. None takes the mean
        size of a cluster, ``n_samples / n_clusters``, but at least 10 and at most 100.

    max_iter : int, default=2
        Iterations of each of the B runs.

    random_state : int, RandomState instance or None, default=None
        Randomness of the runs. Pass an int for reproducible output.

    Attributes
    ----------
    estimator_ : KSubspaces
        The last run, with all that KSubspaces offers, such as ``transform``.

    labels_ : ndarray of shape (n_samples,)
        Nearest subspace of each training row; always equal to ``predict(X)``.

    components_ : list of ndarray of shape (`n_components_[c]`, n_features)
        Orthonormal rows spanning each subspace, strongest direction first.

    n_components_ : ndarray of shape (n_clusters,)
        Dimension of each subspace.

    inertia_ : float
        The objective of KSubspaces: sum of squared distances to the nearest subspace.

    affinity_matrix_ : csr_array of shape (n_samples, n_samples)
        What each row keeps of the co-association matrix; not symmetric.

    n_iter_ : int
        Number of iterations of the last run.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, where all of them are strings.

    See Also
    --------
    KSubspaces : One model, by the lowest objective; ``init="spectral"`` is one member
        of this ensemble.

    Notes
    -----
    The runs of Lipor et al. start from random subspaces. Here they start from the
    thresholded coefficients of a ridge regression, so that fewer runs are needed and
    rows with a strong common background, such as the shading of faces, can be told
    apart. Time grows as n^2, memory as n times ``n_neighbors``.

    The labels with the lowest objective are not always the best ones: an ensemble often
    recovers true classes better at a higher objective.

    References
    ----------
    .. [1] J. Lipor, D. Hong, Y. S. Tan and L. Balzano, "Subspace Clustering using
       Ensembles of K-Subspaces", Information and Inference, 2021.
       https://arxiv.org/abs/1709.04744
    .. [2] R. Heckel and H. Bölcskei, "Robust Subspace Clustering via Thresholding",
       IEEE Transactions on Information Theory, 2015. https://arxiv.org/abs/1307.4891

    Examples
    --------
    >>> from kprojclust import EnsembleKSubspaces, clustering_accuracy, make_subspaces
    >>> X, y, _ = make_subspaces(
    ...     n_samples=150, n_features=10, n_clusters=3, n_components=2, random_state=0
    ... )
    >>> model = EnsembleKSubspaces(3, 2, n_estimators=10, random_state=0).fit(X)
    >>> clustering_accuracy(y, model.labels_)
    1.0
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "n_base_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [None, Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters=8,
        n_components=1,
        *,
        n_estimators=50,
        n_base_clusters=None,
        n_neighbors=None,
        max_iter=2,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.n_estimators = n_estimators
        self.n_base_clusters = n_base_clusters
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Run the ensemble, cut its co-association, and fit the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, which must fit in memory; float32 stays float32.
        y : Ignored

        Returns
        -------
        self : EnsembleKSubspaces
            Fitted.
        """
        X = check_training_array(self, X)
        check_n_samples(len(X), self.n_clusters, "n_clusters")
        check_n_samples(len(X), self.n_base_clusters or 1, "n_base_clusters")
        dimensions = check_n_components(self.n_components, self.n_clusters, X.shape[1])
        random_state = check_random_state(self.random_state)
        n_neighbors = self.n_neighbors or int(
            np.clip(len(X) / self.n_clusters, _FEWEST, _MOST)
        )
        labels = ensemble_labels(
            X,
            self._base_dimensions(dimensions),
            self.n_estimators,
            self.max_iter,
            random_state,
        )
        self.affinity_matrix_ = co_association(labels, n_neighbors)
        start = spectral_clusters(self.affinity_matrix_, self.n_clusters, random_state)
        fitted = KSubspaces(self.n_clusters, self.n_components, init=start).fit(X)
        self.estimator_ = fitted
        self.labels_, self.components_ = fitted.labels_, fitted.components_
        self.n_components_ = fitted.n_components_
        self.inertia_, self.n_iter_ = fitted.inertia_, fitted.n_iter_
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
        check_is_fitted(self)
        dtype = self.components_[0].dtype
        X = validate_data(self, X, dtype=dtype, order="C", reset=False)
        return self.estimator_.predict(X)

    def _base_dimensions(self, dimensions):
        """Dimension of each subspace of a run."""
        if self.n_base_clusters is None:
            return dimensions
        return np.full(self.n_base_clusters, dimensions.max())


def ensemble_labels(X, n_components, n_estimators, max_iter, random_state):
    """Labels of several short runs from different spectral clusterings.

    ``n_components`` has shape (n_base_clusters,), the labels (n_estimators, n_samples).
    """
    fewest, most = (
        max(1, round(factor * default_n_neighbors(len(X)))) for factor in _LINK_FACTORS
    )
    graphs = [nearest_directions(ridge_directions(X, ridge), most) for ridge in _RIDGES]
    rows = LocalRows([X], np.ones(len(X), dtype=X.dtype), X.dtype)
    problem = Problem(rows, n_components, None, SquaredLoss(), 2, False)
    labels = np.empty((n_estimators, len(X)), dtype=np.intp)
    for b in range(n_estimators):
        graph = graphs[random_state.randint(len(graphs))]
        graph = keep_largest(graph, random_state.randint(fewest, most + 1))
        start = spectral_clusters(graph, len(n_components), random_state, n_init=1)
        labels[b] = run_em(problem, start, max_iter=max_iter, tol=0).state.labels
    return labels


def co_association(labels, n_neighbors):
    """Share of the clusterings in which two rows are together, largest entries only.

    From labels of shape (n_clusterings, n_samples) a csr_array of shape (n_samples,
    n_samples), of which each row keeps n_neighbors entries, its own aside.
    """
    n_clusterings, n_samples = labels.shape
    # One column for each cluster of each clustering.
    columns = labels + (labels.max() + 1) * np.arange(n_clusterings)[:, np.newaxis]
    pointers = n_clusterings * np.arange(n_samples + 1)
    members = sparse.csr_array(
        (np.ones(columns.size), columns.T.ravel(), pointers),
        shape=(n_samples, columns.max() + 1),
    )
    blocks = []
    for rows in row_blocks(n_samples, 4 * n_samples * 8):
        together = (members[rows] @ members.T).toarray() / n_clusterings
        own = np.arange(rows.start, rows.stop)
        together[np.arange(len(own)), own] = 0
        blocks.append(keep_largest(together, n_neighbors))
    return sparse.csr_array(sparse.vstack(blocks))
