"""Starts: functions (X, sample_weight, n_components, random_state) -> labels.

``n_components`` is an int ndarray of shape (n_clusters,).
"""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import row_norms

from kprojclust._geometry.subspaces import Flat, fit_flat
from kprojclust._rows.validation import check_bases, check_labels, is_list_of_bases
from kprojclust._starts.affinity import (
    default_n_neighbors,
    nearest_directions,
    ridge_directions,
    spectral_clusters,
)

# Rows around the seed row beyond the dimension of a subspace, to fit it to.
_SPARE_ROWS = 3

# Powers of two beyond which rows are scaled before a start is made.
_FAR = 20

# Ridge of the "spectral" start, in units of the mean eigenvalue: as much penalty as an
# average direction has energy.
RIDGE = 1.0


def random_labels(X, sample_weight, n_components, random_state):
    """Split the rows at random into clusters of equal size."""
    return random_state.permutation(np.arange(len(X)) % len(n_components))


def spherical_kmeans_labels(X, sample_weight, n_components, random_state):
    """Cluster the directions of the rows: k-means on rows scaled to length one."""
    n_clusters = len(n_components)
    if n_clusters == 1:
        return np.zeros(len(X), dtype=np.intp)
    kmeans = KMeans(n_clusters, n_init=1, random_state=random_state)
    with warnings.catch_warnings():
        # Fewer distinct directions than clusters: the subspaces themselves decide
        # later whether that is worth a warning.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(normalize(X), sample_weight=sample_weight).labels_


def farthest_labels(X, sample_weight, n_components, random_state):
    """Nearest of k local subspaces, each fitted where the ones before it fit badly.

    A seed row is drawn with probability proportional to its weight times its squared
    distance to the union of the subspaces so far; the next subspace is fitted to the
    rows of largest absolute cosine with it. This is the D^2 sampling of k-means++ [1]_
    for subspaces.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: The Advantages of Careful
       Seeding", SODA 2007. https://dl.acm.org/doi/10.5555/1283383.1283494
    """
    directions = normalize(X)
    energies = costs = row_norms(X, squared=True)
    weightless = sample_weight == 0
    distances = np.empty((len(X), len(n_components)), dtype=X.dtype)
    for c, dimension in enumerate(n_components):
        seed = _draw(sample_weight * costs, random_state)
        cosines = np.abs(directions @ directions[seed])
        cosines[weightless] = -1
        n_near = min(dimension + _SPARE_ROWS, len(X))
        near = np.argpartition(cosines, len(X) - n_near)[-n_near:]
        flat = fit_flat(X[near], sample_weight[near], dimension)
        coordinates = X @ flat.components.T
        along = np.einsum("ij,ij->i", coordinates, coordinates)
        # Digits lost to cancellation do not matter here.
        distances[:, c] = np.maximum(energies - along, 0)
        costs = np.minimum(costs, distances[:, c])
    return np.argmin(distances, axis=1)


def _draw(weights, random_state):
    """Index drawn with probability proportional to the weights, which may vanish."""
    total = np.cumsum(weights, dtype=np.float64)
    draw = random_state.uniform() * total[-1]
    return min(np.searchsorted(total, draw, side="right"), len(weights) - 1)


def spectral_labels(X, sample_weight, n_components, random_state):
    """Spectral clustering of the rows that explain one another in a ridge regression.

    The thresholding of [1]_, absolute cosines of which each row keeps its largest, on
    the coefficients of a ridge regression of the rows on one another [2]_: what all
    rows have in common, such as the shading of faces, no longer links them.

    References
    ----------
    .. [1] R. Heckel and H. Bölcskei, "Robust Subspace Clustering via Thresholding",
       IEEE Transactions on Information Theory, 2015. https://arxiv.org/abs/1307.4891
    .. [2] C. Lu et al., "Robust and Efficient Subspace Segmentation via Least Squares
       Regression", ECCV 2012. https://arxiv.org/abs/1404.6736
    """
    n_neighbors = default_n_neighbors(len(X))
    graph = nearest_directions(ridge_directions(X, RIDGE), n_neighbors)
    return spectral_clusters(
        graph, len(n_components), random_state, sample_weight=sample_weight
    )


# "auto" leaves out the start that looks at all pairs where there are more rows than
# that, or so few for each cluster that other starts are better, in less time.
_MAX_ROWS_FOR_PAIRS = 5000
_MIN_ROWS_PER_CLUSTER = 3


def automatic_starts(n_samples, n_clusters, n_starts):
    """Names of the starts of "auto": one of the directions, then all different draws.

    The first looks at all pairs of rows and finds most on moderate data; the second is
    the best on weight matrices; drawing far seeds is cheap and never the same twice.
    """
    fewest = _MIN_ROWS_PER_CLUSTER * n_clusters
    compares_pairs = fewest <= n_samples <= _MAX_ROWS_FOR_PAIRS
    names = [*(["spectral"] if compares_pairs else []), "k-means"]
    return [*names, *["farthest"] * max(0, n_starts - len(names))][:n_starts]


def is_given(init):
    """Whether the start is labels or bases, rather than a way to find some."""
    return not (isinstance(init, str) or callable(init))


def starts(problem, init, n_starts, n_samples, random_state):
    """Starts for the rows of a problem: labels, or flats, one after the other.

    ``init`` is that of KSubspaces. The rows must be in memory unless the start is
    given, and may be a sample of n_samples rows.
    """
    if problem.n_clusters == 1:
        return [np.zeros(len(problem.rows), dtype=np.int32)]
    if is_given(init):
        return [_given_start(problem, init)]
    return _drawn_starts(problem, init, n_starts, n_samples, random_state)


def _given_start(problem, init):
    """Labels as they are, bases as flats."""
    n_clusters, (n_samples, n_features) = problem.n_clusters, problem.rows.shape
    if not is_list_of_bases(init):
        return check_labels(init, n_samples, n_clusters, "init")
    dtype = problem.rows.dtype
    bases = check_bases(init, n_clusters, n_features, dtype)
    return [Flat(np.zeros(n_features, dtype), basis) for basis in bases]


def _drawn_starts(problem, init, n_starts, n_samples, random_state):
    """Yield the labels to start from, one array a start."""
    X, n_clusters = problem.rows.X, problem.n_clusters
    weights = problem.rows.sample_weight
    near_one = _near_one(X)
    for start in _kinds_of_start(init, n_starts, n_samples, n_clusters):
        if callable(start):
            labels = start(X, n_clusters, random_state)
            yield check_labels(labels, len(X), n_clusters, "init")
        else:
            yield STARTS[start](near_one, weights, problem.n_components, random_state)


def _near_one(X):
    """Rows times a power of two: scikit-learn takes rows that are tiny for zeros."""
    exponent = np.frexp(np.abs(X).max(initial=0))[1]
    return X if abs(exponent) < _FAR else np.ldexp(X, -exponent)


def _kinds_of_start(init, n_starts, n_samples, n_clusters):
    """What each start is made from: a name or a callable."""
    if isinstance(init, str) and init == "auto":
        return automatic_starts(n_samples, n_clusters, n_starts)
    return [init] * n_starts


STARTS = {
    "farthest": farthest_labels,
    "k-means": spherical_kmeans_labels,
    "random": random_labels,
    "spectral": spectral_labels,
}
