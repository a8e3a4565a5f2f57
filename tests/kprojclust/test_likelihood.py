import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from kprojclust import KSubspaces, make_subspaces


@pytest.mark.parametrize("affine", [False, True])
def test_score_samples_match_the_dense_normal_densities(affine):
    X, _, _ = make_subspaces(200, 5, noise=0.1, random_state=0)
    model = KSubspaces(3, [1, 2, 3], affine=affine, random_state=0).fit(X)
    logs = []
    for c, basis in enumerate(model.components_):
        rows = X[model.labels_ == c] - model.means_[c]
        along = np.mean((rows @ basis.T) ** 2, axis=0)
        noise = model.noise_variance_[c]
        covariance = basis.T @ np.diag(along - noise) @ basis + noise * np.eye(5)
        normal = multivariate_normal(model.means_[c], covariance)
        logs.append(np.log(model.weights_[c]) + normal.logpdf(X))
    assert_allclose(model.score_samples(X), logsumexp(logs, axis=0), rtol=1e-8)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())


def test_one_affine_cluster_scores_like_pca():
    X, _, _ = make_subspaces(
        400, 6, n_clusters=1, n_components=2, noise=0.2, random_state=0
    )
    X = X + np.arange(6)
    model, pca = KSubspaces(1, 2, affine=True).fit(X), PCA(2).fit(X)
    # PCA divides by n - 1.
    assert model.score(X) == pytest.approx(pca.score(X), abs=1e-2)
    ratio = model.explained_variance_[0][:2] / pca.explained_variance_
    assert_allclose(ratio, 399 / 400, rtol=1e-6)


def test_variances_and_weights_are_those_of_the_clusters():
    X, _, _ = make_subspaces(300, 8, noise=0.1, random_state=0)
    model = KSubspaces(3, 2, random_state=0).fit(X)
    for c in range(3):
        rows = X[model.labels_ == c]
        values = np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1]
        assert_allclose(model.explained_variance_[c], values, atol=1e-10)
        assert model.noise_variance_[c] == pytest.approx(values[2:].mean(), rel=1e-3)
        assert model.weights_[c] == len(rows) / 300


def test_grid_search_finds_the_planted_pair_with_default_scoring():
    X, _, _ = make_subspaces(
        300, 8, n_clusters=3, n_components=2, noise=0.1, random_state=0
    )
    search = GridSearchCV(
        KSubspaces(n_init=3, random_state=0),
        {"n_clusters": [2, 3, 4], "n_components": [1, 2, 3]},
    ).fit(X)
    assert search.best_params_ == {"n_clusters": 3, "n_components": 2}


def test_bic_prefers_the_planted_pair():
    X, _, _ = make_subspaces(
        300, 8, n_clusters=3, n_components=2, noise=0.1, random_state=0
    )
    bic = {
        (k, j): KSubspaces(k, j, n_init=3, random_state=0).fit(X).bic(X)
        for k in (2, 3, 4)
        for j in (1, 2, 3)
    }
    assert min(bic, key=bic.get) == (3, 2)


def test_densities_stay_finite_on_rows_without_noise():
    X, _, _ = make_subspaces(60, 5, random_state=0)
    for j in (1, 2, 4):
        model = KSubspaces(3, j, random_state=0).fit(X)
        assert np.all(np.isfinite(model.score_samples(X)))
        assert np.all(np.isfinite(model.score_samples(10 * X + 1)))


def test_score_weighs_rows():
    X, _, _ = make_subspaces(noise=0.1, random_state=0)
    model = KSubspaces(3, 2, random_state=0).fit(X)
    weight = np.zeros(300)
    weight[:10] = 1
    assert model.score(X, sample_weight=weight) == pytest.approx(model.score(X[:10]))
