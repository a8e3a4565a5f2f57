"""Product quantization: codes for parts of the columns."""

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from kprojclust._kmeans.nearest import nearest_centers
from kprojclust._pg_kmeans import PartitioningGuidedKMeans
from kprojclust._rows.checking import check_training_array
from kprojclust._rows.validation import (
    HasMethods,
    Integral,
    Interval,
    check_codes,
    check_n_samples,
    check_sample_weight,
    fit_context,
)

# Codes take two bytes at most.
MAX_CODEWORDS = 2**16


class ProductQuantizer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Code rows by the nearest codewords of their parts.

    Each row is cut into ``n_subvectors`` parts of equal length. A clustering of the
    training rows' m-th parts gives the m-th codebook, and a row is coded by the number
    of the codeword nearest to each of its parts:

    .. math::

        x = [x^{(1)}, \dots, x^{(M)}] \approx
        [b^{(1)}_{c_1}, \dots, b^{(M)}_{c_M}].

    A code takes one byte up to 256 codewords, and two bytes above.

    Parameters
    ----------
    n_subvectors : int, default=8
        Number of parts M; must divide the number of columns.

    n_codewords : int, default=256
        Number of codewords of each codebook, up to 65,536.

    clusterer : object, default=None
        What finds the codewords: an estimator with a parameter ``n_clusters`` and an
        attribute ``cluster_centers_``, such as :class:`sklearn.cluster.KMeans`. It is
        cloned for each codebook. None is ``PartitioningGuidedKMeans()``.

    Attributes
    ----------
    codebooks_ : ndarray of shape (n_subvectors, n_codewords, subvector_size)
        Codewords. Where a codebook needs fewer, its last ones repeat others.

    clusterers_ : list of object
        The fitted clusterers.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, where all of them are strings.

    See Also
    --------
    PartitioningGuidedKMeans : Finds the codewords.
    sklearn.preprocessing.KBinsDiscretizer : Codes single columns.

    References
    ----------
    .. [1] H. Jégou, M. Douze and C. Schmid, "Product Quantization for Nearest Neighbor
       Search", IEEE Transactions on Pattern Analysis and Machine Intelligence, 2011.
       https://doi.org/10.1109/TPAMI.2010.57

    Examples
    --------
    >>> import numpy as np
    >>> from kprojclust import ProductQuantizer
    >>> X = np.random.default_rng(0).standard_normal((1000, 32)).astype("float32")
    >>> quantizer = ProductQuantizer(n_subvectors=8, n_codewords=16).fit(X)
    >>> codes = quantizer.transform(X)
    >>> codes.shape, codes.dtype
    ((1000, 8), dtype('uint8'))
    >>> quantizer.inverse_transform(codes).shape
    (1000, 32)
    >>> X.nbytes, quantizer.stored_bytes(len(X))  # codes and codebooks
    (128000, 10048)
    """

    _parameter_constraints = {
        "n_subvectors": [Interval(Integral, 1, None, closed="left")],
        "n_codewords": [Interval(Integral, 1, MAX_CODEWORDS, closed="both")],
        "clusterer": [HasMethods(["fit", "get_params", "set_params"]), None],
    }

    def __init__(self, n_subvectors=8, n_codewords=256, *, clusterer=None):
        self.n_subvectors = n_subvectors
        self.n_codewords = n_codewords
        self.clusterer = clusterer

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Find the codebooks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to quantize; float32 stays float32.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            As of `PartitioningGuidedKMeans.fit`.

        Returns
        -------
        self : ProductQuantizer
            Fitted.
        """
        X = check_training_array(self, X)
        self._check_divides()
        check_n_samples(len(X), self.n_codewords, "n_codewords")
        weights = {}
        if sample_weight is not None:
            weights["sample_weight"] = check_sample_weight(
                sample_weight, len(X), X.dtype
            )
        self.clusterers_ = [
            self._new_clusterer().fit(part, **weights) for part in self._parts(X)
        ]
        self.codebooks_ = np.stack(
            [clusterer.cluster_centers_ for clusterer in self.clusterers_]
        ).astype(X.dtype, copy=False)
        self._n_features_out = self.n_subvectors
        return self

    def transform(self, X):
        """Codes of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        codes : ndarray of shape (n_samples, n_subvectors)
            Of dtype uint8 up to 256 codewords, otherwise uint16.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.codebooks_.dtype, reset=False)
        columns = [
            nearest_centers(part, codebook)[0]
            for part, codebook in zip(self._parts(X), self.codebooks_, strict=True)
        ]
        return np.stack(columns, axis=1).astype(self._dtype)

    def inverse_transform(self, codes):
        """Rows that codes stand for.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_subvectors)
            Whole numbers from 0 to ``n_codewords - 1``.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        codes = check_codes(codes, *self.codebooks_.shape[:2])
        parts = self.codebooks_[np.arange(codes.shape[1]), codes]
        return parts.reshape(len(codes), -1)

    def stored_bytes(self, n_samples):
        """Bytes of the codes of some rows, and of the codebooks.

        Parameters
        ----------
        n_samples : int

        Returns
        -------
        n_bytes : int
        """
        check_is_fitted(self)
        codes = n_samples * self.n_subvectors * self._dtype.itemsize
        return codes + self.codebooks_.nbytes

    @property
    def _dtype(self):
        return np.min_scalar_type(self.codebooks_.shape[1] - 1)

    def _check_divides(self):
        n_features = self.n_features_in_
        if n_features % self.n_subvectors:
            allowed = [m for m in range(1, n_features + 1) if n_features % m == 0]
            raise ValueError(
                f"n_subvectors must divide n_features={n_features}: one of {allowed}. "
                f"Got {self.n_subvectors}."
            )

    def _new_clusterer(self):
        clusterer = self.clusterer
        if clusterer is None:
            clusterer = PartitioningGuidedKMeans()
        return clone(clusterer).set_params(n_clusters=self.n_codewords)

    def _parts(self, X):
        """The parts of all rows, contiguous: shape (n_samples, subvector_size) each."""
        return map(np.ascontiguousarray, np.split(X, self.n_subvectors, axis=1))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
