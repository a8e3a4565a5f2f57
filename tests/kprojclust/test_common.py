"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from kprojclust import (
    EnsembleKSubspaces,
    KSubspaces,
    PartitioningGuidedKMeans,
    ProductQuantizer,
)

# scikit-learn marks the same check as expected to fail for KMeans: weighting a row and
# repeating it draw different random starts.
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": "random starts differ"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        KSubspaces(),
        KSubspaces(n_clusters=2, n_components=1, init="random", random_state=0),
        KSubspaces(n_clusters=2, n_components=1, init="spectral", random_state=0),
        EnsembleKSubspaces(n_clusters=3, n_estimators=3, random_state=0),
        PartitioningGuidedKMeans(),
        PartitioningGuidedKMeans(init="k-means++", empty_clusters="farthest"),
        PartitioningGuidedKMeans(init="random", empty_clusters="perturb"),
        PartitioningGuidedKMeans(dense_eps=0.1),
        ProductQuantizer(n_subvectors=1, n_codewords=4),
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
