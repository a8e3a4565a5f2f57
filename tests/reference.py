"""Slow, literal versions of what the packages compute fast."""

from itertools import permutations

import numpy as np


def squared_distance(x, basis):
    """|x - V'Vx|^2 for one row and one basis with orthonormal rows."""
    projection = sum(np.dot(v, x) * v for v in basis.astype(np.float64))
    return float(np.sum((x.astype(np.float64) - projection) ** 2))


def squared_distances(X, components):
    """The same for all rows and all bases: shape (n_samples, n_clusters)."""
    return np.array([[squared_distance(x, basis) for basis in components] for x in X])


def fit_subspace(X, sample_weight, n_components):
    """Leading right singular vectors of the weighted rows, by a full SVD."""
    weighted = np.sqrt(sample_weight)[:, np.newaxis] * X.astype(np.float64)
    return np.linalg.svd(weighted, full_matrices=True)[2][:n_components]


def ksubspaces(X, sample_weight, labels, n_components, n_iter):
    """Lloyd's loop for subspaces from given labels; no cluster may become empty.

    Returns the labels, the bases they come from, and the objective per iteration.
    """
    loss_curve = []
    for _ in range(n_iter):
        components = [
            fit_subspace(X[labels == c], sample_weight[labels == c], dimension)
            for c, dimension in enumerate(n_components)
        ]
        distances = squared_distances(X, components)
        labels = distances.argmin(axis=1)
        loss_curve.append(float(sample_weight @ distances.min(axis=1)))
    return labels, components, loss_curve


def clustering_accuracy(labels_true, labels_pred):
    """Best share of agreement over all renamings of the predicted labels."""
    names = range(max(*labels_true, *labels_pred) + 1)
    return max(
        np.mean(np.asarray(labels_true) == np.array([names[p] for p in labels_pred]))
        for names in permutations(names)
    )


def dense_matrix(assignments, coordinates, bases):
    """Matrix whose row i is (coordinates of i in its cluster) @ (its basis)."""
    seen = [0] * len(bases)
    rows = []
    for c in assignments:
        rows.append(coordinates[c][seen[c]] @ bases[c])
        seen[c] += 1
    return np.array(rows)


def paper_rank(rate, n, d, k):
    """Largest j with n j + k j d <= (1 - rate) n d, rate in whole percent."""
    j = 0
    while 100 * (j + 1) * (n + k * d) <= (100 - rate) * n * d:
        j += 1
    return j


def kmeans(X, sample_weight, centers, n_iter):
    """Lloyd's loop from given centres; no cluster may become empty.

    Returns the labels, their centres, and the objective of each iteration.
    """
    objectives, labels = [], None
    for _ in range(n_iter):
        if labels is not None:
            centers = np.array(
                [
                    np.average(
                        X[labels == c], axis=0, weights=sample_weight[labels == c]
                    )
                    for c in range(len(centers))
                ]
            )
        squared = np.array([[np.sum((x - c) ** 2) for c in centers] for x in X])
        labels = squared.argmin(axis=1)
        objectives.append(float(sample_weight @ squared.min(axis=1)))
    return labels, centers, objectives


def best_move(X, labels, victim, heir, donor):
    """Centres, and the objective with these labels, after one move of a centre.

    The victim's rows go to the heir, and the donor's are cut across the main axis.
    """
    labels = labels.copy()
    labels[labels == victim] = heir
    own = np.flatnonzero(labels == donor)
    centred = X[own] - X[own].mean(axis=0)
    axis = np.linalg.svd(centred)[2][0]
    labels[own[centred @ axis > 0]] = victim
    centers = np.array([X[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    return centers, float(np.sum((X - centers[labels]) ** 2))


def product_codes(X, codebooks):
    """Number of the nearest codeword of each part of each row."""
    size = codebooks.shape[2]
    return np.array(
        [
            [
                np.argmin(
                    [np.sum((x[m * size : (m + 1) * size] - b) ** 2) for b in book]
                )
                for m, book in enumerate(codebooks)
            ]
            for x in X
        ]
    )


def decoded(codebooks, codes):
    """Matrix whose rows are the codewords of their codes, one after another."""
    blocks_per_book = codes.shape[1] // len(codebooks)
    return np.array(
        [
            np.concatenate(
                [codebooks[m // blocks_per_book][c] for m, c in enumerate(row)]
            )
            for row in codes
        ]
    )


def uses(codes, num_codebooks, num_codewords):
    """How often each codeword of each codebook is in the codes."""
    found = np.zeros((num_codebooks, num_codewords), int)
    for row in codes:
        for m, c in enumerate(row):
            found[m // (codes.shape[1] // num_codebooks), c] += 1
    return found


def codebooks_gradient(gradient, codes, codebooks):
    """Mean of the gradients of all blocks of a matrix that are one codeword."""
    found, size = np.zeros(codebooks.shape), codebooks.shape[2]
    for row, own in zip(gradient, codes, strict=True):
        for m, c in enumerate(own):
            book = m // (codes.shape[1] // len(codebooks))
            found[book, c] += row[m * size : (m + 1) * size]
    number = np.maximum(uses(codes, len(codebooks), codebooks.shape[1]), 1)
    return found / number[:, :, np.newaxis]


def relative_error(got, want):
    """Norm of the difference over the norm of what is wanted."""
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def nearest_level(number, levels):
    """Index of the level next to a number, the lower one of two as near."""
    return int(np.argmin([abs(float(number) - float(level)) for level in levels]))


def round_with_feedback(kernel, moment, scales, levels):
    """Optimal brain quantization of a kernel (n, d), row by row.

    After each row the rest moves to where the error of the outputs is least, by the
    inverse of the moment (n, n), from which the row is then removed. Scales are of each
    number. Rows of the greatest moment come first.
    """
    rest, inverse = kernel.astype(np.float64), np.linalg.inv(moment)
    rounded, codes = np.zeros_like(rest), np.zeros(kernel.shape, int)
    for i in np.argsort(-np.diag(moment), kind="stable"):
        for unit, scale in enumerate(scales[i]):
            codes[i, unit] = nearest_level(rest[i, unit] / (scale or 1), levels)
            rounded[i, unit] = levels[codes[i, unit]] * scale
        error = (rest[i] - rounded[i]) / inverse[i, i]
        rest = rest - np.outer(inverse[:, i], error)
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return codes, rounded
