"""What MiniLM makes of a codebook for its word table, or for its first Dense layer."""

from functools import cache

import numpy as np
from codebooks_rows import Scores
from sentence_similarity import Runner

from kprojclust import PartitioningGuidedKMeans

runner = cache(Runner)


@cache
def uncompressed() -> float:
    """Spearman's correlation on the dev pairs of STS-B."""
    return runner().score("dev") / 100


def measure(matrix: np.ndarray, model: PartitioningGuidedKMeans) -> Scores:
    """Put the nearest codewords in place of all blocks; nothing is fine-tuned.

    Args:
        matrix: The word table, or the weights of the Dense layer, a row for each unit.
        model: The codebook.
    """
    coded = decoded(matrix, model)
    bert = runner().model.bert
    weight = bert.encoder.layer[0].intermediate.dense.kernel
    values = coded.T
    if len(matrix) == len(runner().table):
        weight, values = runner().words, coded
    score = runner().score_with(weight, values, "dev") / 100
    return Scores(uncompressed(), score)


def decoded(matrix: np.ndarray, model: PartitioningGuidedKMeans) -> np.ndarray:
    """The matrix of the nearest codewords."""
    codebook = model.cluster_centers_
    blocks = matrix.reshape(-1, codebook.shape[1])
    return codebook[model.predict(blocks)].reshape(matrix.shape)
