import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from kprojclust import PartitioningGuidedKMeans, ProductQuantizer
from tests import reference


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32)


def test_codes_are_those_of_the_nearest_codewords(rows):
    quantizer = ProductQuantizer(4, 16).fit(rows)
    assert quantizer.codebooks_.shape == (4, 16, 3)
    expected = reference.product_codes(rows[:40], quantizer.codebooks_)
    assert_array_equal(quantizer.transform(rows[:40]), expected)


def test_codes_of_codewords_come_back(rows):
    quantizer = ProductQuantizer(4, 16).fit(rows)
    codes = quantizer.transform(rows)
    decoded = quantizer.inverse_transform(codes)
    assert decoded.dtype == np.float32
    assert_array_equal(quantizer.transform(decoded), codes)
    assert_allclose(decoded[0, 3:6], quantizer.codebooks_[1, codes[0, 1]])


@pytest.mark.parametrize(("n_codewords", "dtype"), [(256, "uint8"), (257, "uint16")])
def test_codes_and_codebooks_take_the_bytes_that_are_claimed(rows, n_codewords, dtype):
    quantizer = ProductQuantizer(2, n_codewords).fit(rows)
    codes = quantizer.transform(rows)
    assert codes.dtype == dtype
    total = codes.nbytes + quantizer.codebooks_.nbytes
    assert quantizer.stored_bytes(len(rows)) == total


def test_weights_reach_the_clusterer(rows):
    weights = np.random.default_rng(1).uniform(0, 3, len(rows))
    quantizer = ProductQuantizer(3, 8).fit(rows, sample_weight=weights)
    part = np.ascontiguousarray(rows[:, :4])
    alone = PartitioningGuidedKMeans(8).fit(part, sample_weight=weights)
    assert_array_equal(quantizer.codebooks_[0], alone.cluster_centers_)


def test_any_clusterer_finds_codewords(rows):
    clusterer = KMeans(n_clusters=3, n_init=1, random_state=0)
    quantizer = ProductQuantizer(2, 8, clusterer=clusterer).fit(rows)
    assert quantizer.codebooks_.shape == (2, 8, 6)
    assert clusterer.n_clusters == 3  # what the user passed stays
    assert quantizer.set_params(clusterer__n_init=2).clusterer.n_init == 2


def test_more_codewords_lose_less(rows):
    lost = [
        np.sum((q.inverse_transform(q.transform(rows)) - rows) ** 2)
        for q in (ProductQuantizer(4, k).fit(rows) for k in (4, 16, 64))
    ]
    assert lost[0] > lost[1] > lost[2]


def test_fewer_distinct_parts_than_codewords_are_said():
    X = np.repeat(np.eye(4), 5, axis=0)
    with pytest.warns(ConvergenceWarning, match="Only 3 of n_clusters=8"):
        quantizer = ProductQuantizer(2, 8).fit(X)
    assert_array_equal(quantizer.inverse_transform(quantizer.transform(X)), X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_subvectors": 5},
            r"must divide n_features=12: one of \[1, 2, 3, 4, 6, 12\]",
        ),
        ({"n_codewords": 2**16 + 1}, "n_codewords"),
        ({"n_subvectors": 4, "n_codewords": 301}, "n_samples=300 must not be below"),
        ({"clusterer": "k-means"}, "clusterer"),
    ],
)
def test_bad_parameters_are_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        ProductQuantizer(**options).fit(rows)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[0, 1, 2]], r"shape \(n_samples, 2\)"),
        ([[0.5, 1.0]], "whole numbers"),
        ([[0, 4]], "between 0 and n_codewords - 1 = 3"),
        ([[-1, 0]], "Got codes from -1"),
    ],
)
def test_bad_codes_are_named(rows, codes, message):
    quantizer = ProductQuantizer(2, 4).fit(rows)
    with pytest.raises(ValueError, match=message):
        quantizer.inverse_transform(codes)
