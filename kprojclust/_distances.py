"""Distances of rows to several flats at once, from one product for all of them."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

from kprojclust._minkowski import minkowski_distances
from kprojclust._subspaces import residuals
from kprojclust._threads import parallel_map
from kprojclust._tiles import chunk_rows

# Below this share of |a|^2, times the machine epsilon, |a|^2 - |V a|^2 has lost about
# three digits to cancellation, and the residual is formed explicitly instead.
_CANCELLATION = 1e3


class Stack(NamedTuple):
    """Flats with their bases in one matrix."""

    flats: list
    bases: np.ndarray  # (n_directions, n_features)
    stops: np.ndarray  # (n_clusters + 1,) where each flat begins
    along: np.ndarray  # (n_clusters,) whether the basis has components, not normals
    origin: np.ndarray | None  # (n_features,) amid the means, None if all are zero
    means: np.ndarray  # (n_clusters, n_features) less the origin


def stack_flats(flats):
    """Put the flats into one Stack."""
    parts = [flat.basis for flat in flats]
    stops = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    along = np.array([flat.normals is None for flat in flats])
    means = np.array([flat.mean for flat in flats])
    # About a point amid the means, little is lost to cancellation.
    origin = means.mean(axis=0) if means.any() else None
    if origin is not None:
        means -= origin
    return Stack(flats, np.concatenate(parts), stops, along, origin, means)


def chunks(n_samples, stack):
    """Slices of rows to handle at once."""
    n_directions, n_features = stack.bases.shape
    if not n_samples:
        return []
    return gen_batches(
        n_samples, chunk_rows(n_directions, n_features, stack.bases.itemsize)
    )


def squared_distances(X, flats):
    """Squared Euclidean distance of every row to every flat.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    flats : list of Flat

    Returns
    -------
    distances : ndarray of shape (n_samples, n_clusters)
    """
    return _chunk_by_chunk(chunk_squared_distances, X, flats)


def distances_to_flats(X, flats, p=2):
    """Distance of every row to every flat: shape (n_samples, n_clusters)."""
    return _chunk_by_chunk(
        lambda rows, stack: chunk_distances(rows, stack, p), X, flats
    )


def _chunk_by_chunk(function, X, flats):
    stack = stack_flats(flats)
    distances = np.empty((len(X), len(flats)), dtype=X.dtype)

    def fill(rows):
        distances[rows] = function(X[rows], stack).T

    parallel_map(fill, chunks(len(X), stack))
    return distances


def chunk_distances(X, stack, p):
    """Distances of few rows: shape (n_clusters, n_samples)."""
    if p == 2:
        return np.sqrt(chunk_squared_distances(X, stack))
    return minkowski_distances(X, stack.flats, p)


def chunk_squared_distances(X, stack):
    """|a - m|^2 - |V (a - m)|^2, or |N (a - m)|^2 for normals N, of few rows.

    Its shape is (n_clusters, n_samples), so that all that follows runs along the rows.
    """
    if stack.origin is not None:
        X = X - stack.origin
    coordinates = stack.bases @ X.T
    distances = np.empty((len(stack.flats), len(X)), dtype=X.dtype)
    for c, flat in enumerate(stack.flats):
        own = coordinates[stack.stops[c] : stack.stops[c + 1]]
        if stack.origin is not None:
            own -= (flat.basis @ stack.means[c])[:, np.newaxis]
        np.einsum("jb,jb->b", own, own, out=distances[c])
    if stack.along.any():
        _take_from_energies(distances, X, stack)
    return distances


def _take_from_energies(lengths, X, stack):
    """Turn squared lengths along flats into those across them, in place."""
    along = np.flatnonzero(stack.along)
    size = total = row_norms(X, squared=True)[np.newaxis]
    if stack.origin is not None:
        means = stack.means[along]
        size = size + row_norms(means, squared=True)[:, np.newaxis]
        total = size - 2 * (means @ X.T)
    across = total - lengths[along]
    near = across < _CANCELLATION * np.finfo(X.dtype).eps * size
    for c in np.flatnonzero(near.any(axis=1)):
        rows = near[c]
        flat = stack.flats[along[c]]._replace(mean=stack.means[along[c]])
        left = residuals(X[rows], flat)
        across[c, rows] = row_norms(left, squared=True)
    lengths[along] = across
