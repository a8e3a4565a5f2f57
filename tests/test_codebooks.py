"""The comparison of codebooks, on made-up rows and on few real ones."""

import codebooks
import codebooks_lenet
import codebooks_minilm
import codebooks_page
import codebooks_rows as cb
import keras
import numpy as np
import pytest

from kprojclust import PartitioningGuidedKMeans

LENET = next(iter(cb.MATRICES))


def test_ours_stands_beside_ipq_and_k_means_plus_plus():
    errors = {"random": 0.2, "k-means++": 0.1, "partition": 0.09}
    found = {
        cb.Trial(LENET, 256, "float32", *pair): cb.Result(
            3, 1, 7, 15, 1.0, errors[pair[0]]
        )
        for pair in codebooks_page.SIDES.values()
    }
    (row,) = codebooks_page.side_by_side(found).splitlines()[2:]
    assert row.startswith(f"| {LENET} | 256 | 3 → 1 | 7 | 0.2000 |")
    assert row.endswith("| 0.0900 | 0.900 |")


def test_pages_hold_what_was_run_only():
    starts = {
        cb.Start(LENET, 1024, name): cb.Started(9, 2, 0) for name in codebooks.CENTERS
    }
    times = {
        cb.Timing(name, s): cb.Timed(2.0 + s, 5, 0.1)
        for name in ("scikit-learn", "ours")
        for s in (0, 1)
    }
    results = {"fits": {}, "starts": starts, "times": times, "networks": {}}
    page = codebooks_page.write_page(results)
    assert f"| {LENET} | 9 | 1024 | 2 | 2 | 0 |" in page
    assert "| ours | 2.50 | 1.00 | 0.1000 |" in page
    assert "In the network" not in page


@pytest.mark.parametrize("name", codebooks.CENTERS)
def test_starts_are_rows_or_means_of_rows(name):
    X = np.random.default_rng(0).standard_normal((50, 2))
    centers = codebooks.CENTERS[name](X, 5, 0)
    assert centers.shape == (5, 2)
    assert np.abs(centers).max() <= np.abs(X).max()


def test_the_layer_in_codes_has_the_error_of_its_codebook(data_folder):
    trial = cb.Trial(LENET, 256, "float32", "partition", "partition")
    model, _ = codebooks.fitted(trial)
    layer = codebooks_lenet.coded(model.cluster_centers_, model.labels_)
    blocks = keras.ops.convert_to_numpy(layer.kernel).T.reshape(-1, 8)
    error = np.sum((blocks - codebooks.sample(LENET, "float32")) ** 2)
    assert error == pytest.approx(model.inertia_, rel=1e-3)


def test_networks_are_told_apart_by_start_and_policy():
    found = {
        cb.Trial(LENET, 256, "float32", "random", "perturb"): cb.Scores(
            0.98, 0.97, 0.975
        ),
        cb.Trial("MiniLM, Dense, 8", 256, "float32", "random", "farthest"): cb.Scores(
            0.8, 0.7
        ),
    }
    rows = codebooks_page.in_the_network(found).splitlines()[-2:]
    assert rows[0] == f"| {LENET} | 256 | random | 1.00 → 0.50 |  |  |"
    assert rows[1] == "| MiniLM, Dense, 8 | 256 | random |  | 10.00 |  |"


def test_a_matrix_is_decoded_block_by_block():
    matrix = np.arange(24, dtype=np.float32).reshape(4, 6)
    blocks = matrix.reshape(-1, 3)
    model = PartitioningGuidedKMeans(len(blocks)).fit(blocks)
    assert np.array_equal(codebooks_minilm.decoded(matrix, model), matrix)
