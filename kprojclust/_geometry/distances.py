"""Distances of rows to several flats at once, from one product for all of them."""

from typing import NamedTuple

import numpy as np

from kprojclust._geometry.minkowski import minkowski_distances
from kprojclust._geometry.subspaces import residuals
from kprojclust._parallel.threads import parallel_map
from kprojclust._parallel.tiles import batches, chunk_rows

# Below this share of |a|^2, times the machine epsilon, |a|^2 - |V a|^2 has lost about
# three digits to cancellation, and the residual is formed explicitly instead.
_CANCELLATION = 1e3


class Stack(NamedTuple):
    """Flats with their bases in one matrix."""

    flats: list
    bases: np.ndarray  # (n_directions, n_features)
    sizes: list  # (n_clusters,) directions of each flat
    normals: list  # flats whose basis has normals, not components
    origin: np.ndarray | None  # (n_features,) amid the means, None if all are zero
    means: np.ndarray  # (n_clusters, n_features) less the origin
    shift: np.ndarray | None  # (n_directions,) coordinates of the means


def stack_flats(flats):
    """Stack the flats."""
    parts = [flat.basis for flat in flats]
    normals = [c for c, flat in enumerate(flats) if flat.normals is not None]
    means, origin, shift = np.array([flat.mean for flat in flats]), None, None
    if means.any():
        # About a point amid the means, little is lost to cancellation.
        origin = means.mean(axis=0)
        means -= origin
        shift = np.concatenate([a @ b for a, b in zip(parts, means, strict=True)])
    sizes = list(map(len, parts))
    return Stack(flats, np.concatenate(parts), sizes, normals, origin, means, shift)


def chunks(n_samples, stack):
    """Slices of rows to process at once."""
    n_directions, n_features = stack.bases.shape
    size = chunk_rows(n_directions, n_features, stack.bases.itemsize)
    return batches(n_samples, size)


def squared_distances(X, flats):
    """Squared distance of every row to every flat: (n_samples, n_clusters)."""
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
    if stack.shift is not None:
        coordinates -= stack.shift[:, np.newaxis]
    lengths = _squared_lengths(coordinates, stack.sizes)
    if len(stack.normals) == len(stack.flats):
        return lengths
    across = _less_than_energies(lengths, X, stack)
    across[stack.normals] = lengths[stack.normals]
    return across


def _squared_lengths(coordinates, sizes):
    """Of the coordinates in each flat: shape (n_clusters, n_samples)."""
    n_clusters, n_samples = len(sizes), coordinates.shape[1]
    if min(sizes) == max(sizes):
        own = coordinates.reshape(n_clusters, sizes[0], n_samples)
        return np.einsum("cjb,cjb->cb", own, own)
    lengths = np.empty((n_clusters, n_samples), dtype=coordinates.dtype)
    parts = np.split(coordinates, np.cumsum(sizes)[:-1])
    for own, out in zip(parts, lengths, strict=True):
        np.einsum("jb,jb->b", own, own, out=out)
    return lengths


def _less_than_energies(lengths, X, stack):
    """Squared lengths across flats from those along them."""
    size = total = _energies(X)
    if stack.origin is not None:
        size = size + _energies(stack.means)[:, np.newaxis]
        total = size - 2 * (stack.means @ X.T)
    across = total - lengths
    near = across < _CANCELLATION * np.finfo(X.dtype).eps * size
    near[stack.normals] = False
    for c in near.any(axis=1).nonzero()[0]:
        rows = near[c]
        flat = stack.flats[c]._replace(mean=stack.means[c])
        across[c, rows] = _energies(residuals(X[rows], flat))
    return across


def _energies(X):
    return np.einsum("ij,ij->i", X, X)
