"""scikit-learn's KMeans: as many clusters, around points."""

from sklearn.cluster import KMeans

from competitors import Clustering


def fit(X, k, j, seed, **parameters) -> Clustering:
    """KMeans at its defaults, but for the parameters given; j plays no part."""
    model = KMeans(k, random_state=seed, **parameters).fit(X)
    return Clustering(model.labels_, model.inertia_, [model.inertia_])
