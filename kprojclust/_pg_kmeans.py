"""Partitioning-guided k-means: k-means without empty clusters."""

import warnings

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted, validate_data

from kprojclust._kmeans.atoms import Atoms, consolidate, snap
from kprojclust._kmeans.empty_clusters import (
    FarthestPolicy,
    PartitionPolicy,
    PerturbPolicy,
)
from kprojclust._kmeans.lloyd import Problem, run_lloyd
from kprojclust._kmeans.nearest import nearest_centers
from kprojclust._kmeans.partition import partition_centers
from kprojclust._rows.checking import check_training_array
from kprojclust._rows.validation import (
    Integral,
    Interval,
    Real,
    StrOptions,
    check_centers,
    check_n_samples,
    check_sample_weight,
    fit_context,
)

# From so many rows a cluster on, the first iterations look at half as many.
_MANY = 256


class PartitioningGuidedKMeans(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    r"""k-means that leaves no cluster empty, for very many clusters.

    Finds centres :math:`m_1, \dots, m_k` and labels :math:`c_i` that minimise
    :math:`\sum_i w_i \lVert x_i - m_{c_i} \rVert^2`. It is made for codebooks, where k
    is large, most rows are alike, and an empty cluster is a codeword wasted:

    - the start cuts the rows in two, and the part that gains most by it again, until
      there are k parts;
    - in each iteration, clusters that are empty or cheap to merge are dissolved, and
      their centres split the clusters that gain most: this needs no pass over all
      distances;
    - rows within ``dense_eps`` of one another may be made to share a centre.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters k.

    init : {"partition", "k-means++", "random"} or array-like of shape \
            (n_clusters, n_features), default="partition"
        The start:

        - "partition": of each part, as above, the row nearest to its mean, so that no
          cluster starts empty; not random;
        - "k-means++": :func:`sklearn.cluster.kmeans_plusplus`;
        - "random": rows drawn with replacement, as iPQ [3] does, with probabilities in
          proportion to their weights;
        - an array of centres.

    empty_clusters : {"partition", "farthest", "perturb"}, default="partition"
        What is done about clusters without rows:

        - "partition": their centres split other clusters, as do those of clusters whose
          merging costs less than the split gains;
        - "farthest": their centres go to the rows farthest from their own, as in
          :class:`sklearn.cluster.KMeans`;
        - "perturb": the heuristic of iPQ [3]. One empty cluster takes the centre of
          the largest, both are moved apart by noise of 1e-6, and all rows are assigned
          again, up to ``max_tentatives`` times an iteration. If clusters are empty
          still, the fit ends with a warning.

    dense_eps : float, default=None
        Rows that are moved to the same point of a cubic grid, by no more than this
        distance, count as one, here and in ``predict``. 0 is for equal rows, which come
        to the same end with fewer distances. None is for none.

    max_iter : int, default=100
        Largest number of iterations.

    tol : float, default=1e-4
        The fit has converged once an iteration lowers the objective by no more than
        ``tol`` times its value.

    max_tentatives : int, default=100
        Only with ``empty_clusters="perturb"``.

    random_state : int, RandomState instance or None, default=None
        Randomness of "k-means++", "random" and "perturb", and of the sample where rows
        are many. Pass an int for reproducible output.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        Where there are fewer distinct rows than clusters, the last ones repeat the
        first one.

    labels_ : ndarray of shape (n_samples,)
        Cluster of each training row; always equal to ``predict(X)``.

    inertia_ : float
        Weighted sum of the squared distances of the rows to their centres.

    n_effective_clusters_ : int
        Number of clusters with rows of positive weight.

    history_ : list of tuple
        For each iteration the numbers ``n_empty_before`` and ``n_empty_after`` of empty
        clusters before and after ``n_rounds`` of filling them, with ``n_e_steps``
        assignment steps beyond the one of the iteration, and the ``objective``, of
        which a step that raised it was undone; of a sample, first, where rows are many.

    n_iter_ : int
        Number of iterations.

    converged_ : bool
        Whether the fit converged within ``max_iter`` iterations.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, where all of them are strings.

    See Also
    --------
    ProductQuantizer : Codebooks for parts of the columns.
    KSubspaces : Clusters around subspaces.
    sklearn.cluster.KMeans : For few clusters, or sparse rows.

    Notes
    -----
    Of [1] only the abstract is public. From there come the three components: a start
    from partitioning, empty clusters resolved by cautious partitioning of large ones,
    and dense clusters consolidated. How each is done here is ours: the order of the
    cuts, by what they gain; the cut, at the mean across the main axis; the dissolution
    of clusters that are not empty, by Ward's criterion [2]; the grid. Until the
    objective has settled once, moves are made that gain 0.6 of what they cost before
    rows go to better centres, and the other centres go beyond the means of their rows,
    by 0.8 of the step there.

    The nearest centres are found as :class:`sklearn.cluster.KMeans` finds them, O(n k
    d) in an iteration; all else is O(n d + k^2 d). Where there are more than 256 rows
    for each cluster, a random sample of 128 for each is clustered first, and all rows
    from the centres found.

    References
    ----------
    .. [1] "Partitioning-Guided K-Means: Extreme Empty Cluster Resolution for Extreme
       Model Compression", ICLR 2024, withdrawn submission 1303; the abstract.
    .. [2] J. H. Ward, "Hierarchical Grouping to Optimize an Objective Function",
       Journal of the American Statistical Association, 1963.
       https://doi.org/10.1080/01621459.1963.10500845
    .. [3] P. Stock, A. Joulin, R. Gribonval, B. Graham and H. Jégou, "And the Bit Goes
       Down: Revisiting the Quantization of Neural Networks", ICLR 2020.
       https://arxiv.org/abs/1907.05686

    Examples
    --------
    >>> import numpy as np
    >>> from kprojclust import PartitioningGuidedKMeans
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0]])
    >>> model = PartitioningGuidedKMeans(n_clusters=2).fit(X)
    >>> model.labels_
    array([0, 0, 0, 1, 1])
    >>> model.cluster_centers_
    array([[ 1.,  2.],
           [10.,  3.]])
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"partition", "k-means++", "random"}), "array-like"],
        "empty_clusters": [StrOptions({"partition", "farthest", "perturb"})],
        "dense_eps": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_tentatives": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters=8,
        *,
        init="partition",
        empty_clusters="partition",
        dense_eps=None,
        max_iter=100,
        tol=1e-4,
        max_tentatives=100,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.empty_clusters = empty_clusters
        self.dense_eps = dense_eps
        self.max_iter = max_iter
        self.tol = tol
        self.max_tentatives = max_tentatives
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Find the centres.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster; float32 stays float32.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows, not all zero. None weighs all alike.

        Returns
        -------
        self : PartitioningGuidedKMeans
            Fitted.
        """
        X = check_training_array(self, X)
        check_n_samples(len(X), self.n_clusters, "n_clusters")
        weights = check_sample_weight(sample_weight, len(X), X.dtype)
        random_state = check_random_state(self.random_state)
        atoms = self._atoms(X, weights)
        problem = Problem(atoms.X, atoms.weights)
        run = self._run(problem, random_state)
        self._store(run, X, weights, atoms.members)
        self._warn(run)
        return self

    def predict(self, X):
        """Nearest centre of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return self._nearest(self._check(X))

    def transform(self, X):
        """Distance of each row to each centre.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        distances : ndarray of shape (n_samples, n_clusters)
        """
        return euclidean_distances(self._check(X), self.cluster_centers_)

    def score(self, X, y=None, sample_weight=None):
        """Minus the weighted sum of the squared distances to the own centres.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        X = self._check(X)
        weights = check_sample_weight(sample_weight, len(X), X.dtype)
        return -_inertia(X, weights, self._nearest(X), self.cluster_centers_)

    def _check(self, X):
        check_is_fitted(self)
        dtype = self.cluster_centers_.dtype
        return validate_data(self, X, dtype=dtype, order="C", reset=False)

    def _nearest(self, X):
        eps = self.dense_eps
        moved = X if eps is None else snap(X, eps)
        return nearest_centers(moved, self.cluster_centers_)[0]

    def _atoms(self, X, row_weights):
        """What is clustered: rows as they are, unless near ones are to be one."""
        if self.dense_eps is None:
            return Atoms(X, row_weights, np.arange(len(X)))
        return consolidate(X, row_weights, self.dense_eps)

    def _run(self, problem, random_state):
        """Start and run; where rows are many, on a sample of them first."""
        policy, options = self._policy(), {"max_iter": self.max_iter, "tol": self.tol}
        if len(problem.X) <= _MANY * self.n_clusters or not isinstance(self.init, str):
            centers = self._start(problem, random_state)
            return run_lloyd(problem, centers, policy, random_state, **options)
        sample = problem.sample(_MANY // 2 * self.n_clusters, random_state)
        centers = self._start(sample, random_state)
        first = run_lloyd(sample, centers, policy, random_state, **options)
        options["max_iter"] = max(1, self.max_iter - len(first.history))
        centers = first.state.centers
        run = run_lloyd(problem, centers, policy, random_state, **options)
        return run._replace(history=[*first.history, *run.history])

    def _start(self, problem, random_state):
        """Centres to start from; where there are too few, the first one again."""
        X, row_weights = problem
        n_found = min(self.n_clusters, len(X))
        if not isinstance(self.init, str):
            return check_centers(self.init, self.n_clusters, X.shape[1], X.dtype)
        if self.init == "partition":
            centers = partition_centers(X, row_weights, n_found)
        elif self.init == "k-means++":
            options = {"sample_weight": row_weights, "random_state": random_state}
            centers, _ = kmeans_plusplus(X, n_found, **options)
        else:
            shares = row_weights.astype(np.float64) / row_weights.sum(dtype=np.float64)
            centers = X[random_state.choice(len(X), self.n_clusters, p=shares)]
        n_missing = self.n_clusters - len(centers)
        return np.concatenate([centers, np.repeat(centers[:1], n_missing, axis=0)])

    def _policy(self):
        if self.empty_clusters == "partition":
            return PartitionPolicy()
        if self.empty_clusters == "farthest":
            return FarthestPolicy()
        return PerturbPolicy(self.max_tentatives)

    def _store(self, run, X, row_weights, members):
        self.cluster_centers_ = run.state.centers
        self.labels_ = run.state.labels[members]
        self.inertia_ = _inertia(X, row_weights, self.labels_, run.state.centers)
        self.n_effective_clusters_ = np.count_nonzero(run.state.weights)
        self.history_ = run.history
        self.n_iter_ = len(run.history)
        self.converged_ = run.converged
        self._n_features_out = self.n_clusters

    def _warn(self, run):
        if run.gave_up:
            problem = (
                f"Clusters were still empty after max_tentatives={self.max_tentatives} "
                "perturbations, and the fit ended in iteration "
                f"{self.n_iter_}. Use empty_clusters='partition'."
            )
        elif self.n_effective_clusters_ < self.n_clusters:
            problem = (
                f"Only {self.n_effective_clusters_} of n_clusters={self.n_clusters} "
                "clusters have rows. There may be no more distinct rows."
            )
        elif not run.converged:
            problem = (
                "PartitioningGuidedKMeans did not converge within max_iter="
                f"{self.max_iter} iterations. Increase max_iter or tol."
            )
        else:
            return
        warnings.warn(problem, ConvergenceWarning, stacklevel=4)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _inertia(X, row_weights, labels, centers):
    squared = row_norms(X - centers[labels], squared=True)
    return float(row_weights.astype(np.float64) @ squared)
