"""The experiments on GLUE: what is read off their rows, and batches."""

import importlib.util

import numpy as np
import pytest
from glue_losses import MESSI, SVD, best_by_training, losses, over_seeds
from glue_rows import Result, Trial

BASELINE = Trial("RTE", "uncompressed", 1, 0.0)
RESULTS = {
    BASELINE: Result(100, 0.0, 60.0, 61.0, 70.0),
    Trial("RTE", *SVD, 0.4): Result(60, 0.2, 50.0, 58.0, 71.0),
    Trial("RTE", *MESSI, 0.4): Result(60, 0.1, 55.0, 59.0, 69.0),
    Trial("RTE", *MESSI, 0.4, seed=1): Result(60, 0.1, 54.0, 57.0, 72.0),
    Trial("RTE", *MESSI, 0.8): Result(20, 0.1, 40.0),
}


def test_losses_are_points_below_the_uncompressed_score_before_fine_tuning():
    lost = losses(RESULTS, "score_after")
    assert lost[BASELINE] == -1
    assert over_seeds(lost, ["RTE"], MESSI, 0.4) == [1, 3]
    assert over_seeds(lost, ["RTE"], MESSI, 0.8) == []


def test_averages_are_of_seeds_that_have_all_tasks():
    others = {
        Trial("MRPC", "uncompressed", 1, 0.0): Result(100, 0.0, 80.0),
        Trial("MRPC", *MESSI, 0.4): Result(60, 0.1, 77.0),
    }
    lost = losses(RESULTS | others, "score_before")
    assert over_seeds(lost, ["RTE", "MRPC"], MESSI, 0.4) == [(5 + 3) / 2]


def test_the_ensemble_goes_by_the_training_score():
    best = best_by_training(RESULTS)
    assert best == {
        Trial("RTE", *SVD, 0.4): 2,
        Trial("RTE", *MESSI, 0.4, seed=1): 3,
    }


@pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None, reason="needs tf-keras"
)
def test_batches_hold_each_example_once_and_are_padded_by_their_mask(minilm_folder):
    from glue_data import BATCH_SIZE, TASKS, load

    batches = load(TASKS["STS-B"], "dev", 70)
    assert len(batches) == 3
    inputs, labels = zip(*batches, strict=True)
    assert [len(x) for x in labels] == [BATCH_SIZE, BATCH_SIZE, 70 - 2 * BATCH_SIZE]
    np.testing.assert_array_equal(np.concatenate(labels), batches.labels)
    for batch in inputs:
        lengths = batch["attention_mask"].sum(axis=1)
        assert lengths.max() == batch["input_ids"].shape[1]
        np.testing.assert_array_equal(lengths, (batch["input_ids"] != 0).sum(axis=1))
        assert set(batch["token_type_ids"].ravel()) == {0, 1}
