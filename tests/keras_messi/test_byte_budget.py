"""A model within a budget of bytes."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_messi
from keras_messi import (
    BudgetConfig,
    RoundingConfig,
    calibrate,
    compress,
    compress_in_groups,
)
from keras_messi.allocation.bytes import BudgetTooSmall, allocate_bytes
from keras_messi.allocation.candidates import Candidate, best_of
from keras_messi.calibration.batches import set_apart
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.cli import main
from keras_messi.cli.arguments import _size as size_in_bytes
from keras_messi.layers import RoundedDense
from keras_messi.methods.registry import Compressed
from keras_messi.report import CompressionReport, SkipReason
from keras_messi.searching.curves import save_allocation
from tests.keras_messi import models

STEPS = st.lists(
    st.tuples(st.integers(1, 50), st.floats(0.01, 5)), min_size=1, max_size=4
)


def candidates(steps):
    """Candidates of rising bytes and falling errors."""
    sizes = np.cumsum([size for size, _ in steps])
    errors = np.cumsum([gain for _, gain in steps])[::-1]
    pairs = zip(sizes, errors, strict=True)
    return [
        Candidate(RoundingConfig(8), Compressed(None, e), int(n), float(e))
        for n, e in pairs
    ]


@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(0, 250))
def test_a_budget_is_kept_and_no_layer_could_do_better_with_what_is_left(
    layers, budget
):
    options = {str(i): candidates(steps) for i, steps in enumerate(layers)}
    worth = dict.fromkeys(options, 1.0)
    least = sum(own[0].num_bytes for own in options.values())
    if least > budget:
        with pytest.raises(BudgetTooSmall) as raised:
            allocate_bytes(options, worth, budget)
        assert raised.value.missing == least - budget
        return
    taken = allocate_bytes(options, worth, budget)
    spent = sum(x.num_bytes for x in taken.values())
    assert spent <= budget
    for name, own in taken.items():
        for x in options[name]:
            assert x.error >= own.error or spent - own.num_bytes + x.num_bytes > budget


@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(20, 250))
def test_the_error_is_near_the_least_that_any_choice_has(layers, budget):
    options = {str(i): candidates(steps) for i, steps in enumerate(layers)}
    every = [
        (sum(x.error for x in chosen), sum(x.num_bytes for x in chosen))
        for chosen in itertools.product(*options.values())
    ]
    if min(size for _, size in every) > budget:
        return
    taken = allocate_bytes(options, dict.fromkeys(options, 1.0), budget)
    error = sum(x.error for x in taken.values())
    least = min(error for error, size in every if size <= budget)
    # A Lagrange multiplier misses at most what the costliest single step gains.
    steps = [a.error - b.error for own in options.values() for a in own for b in own]
    assert least - 1e-9 <= error <= least + max(steps, default=0) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_no_candidate_is_beaten_in_both(pairs):
    config, found = RoundingConfig(8), Compressed(None, 0.0)
    every = [Candidate(config, found, n, e) for n, e in pairs]
    best = best_of(every)
    assert [x.num_bytes for x in best] == sorted({x.num_bytes for x in best})
    for x in every:
        assert any(y.num_bytes <= x.num_bytes and y.error <= x.error for y in best)
    for x, y in itertools.pairwise(best):
        assert y.error < x.error


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist.x_train[:256]


@pytest.fixture(scope="module")
def small(trained_lenet, digits):
    """LeNet in 16 x fewer bytes, and its report."""
    config = BudgetConfig(times_smaller=16)
    return compress(trained_lenet, config, calibration_data=digits)


def test_the_file_fits_and_the_network_keeps_its_accuracy(
    small, trained_lenet, mnist, tmp_path
):
    model, report = small
    keras_messi.save_model(model, tmp_path / "small.keras")
    size = (tmp_path / "small.keras").stat().st_size
    assert size == report.file_bytes_after <= report.file_bytes_before / 16
    found = model.predict(mnist.x_test, batch_size=2000, verbose=0).argmax(axis=1)
    assert 100 * np.mean(found == mnist.y_test) > 96
    again = keras_messi.load_model(tmp_path / "small.keras")
    images = mnist.x_test[:10]
    outputs = [keras.ops.convert_to_numpy(x(images)) for x in (again, model)]
    assert np.array_equal(*outputs)


def test_the_report_says_how_each_matrix_is_stored(small):
    _, report = small
    assert all("bits" in row.form for row in report.replaced)
    assert "stored in" in str(report)
    assert CompressionReport.from_json(report.to_json()) == report


def test_the_allocation_is_drawn(small, tmp_path):
    save_allocation(small[1], tmp_path / "bytes.png", "LeNet")
    assert (tmp_path / "bytes.png").read_bytes().startswith(b"\x89PNG")


def test_more_bytes_change_the_outputs_less(small, trained_lenet, digits):
    config = BudgetConfig(max_bytes=200_000)
    model, report = compress(trained_lenet, config, calibration_data=digits)
    assert report.file_bytes_after <= 200_000
    assert report.output_change < small[1].output_change


def test_without_calibration_data_random_inputs_decide():
    inputs = keras.Input((12,), dtype="int32")
    x = keras.layers.Embedding(300, 16, name="words")(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(40, name="head")(x))
    with pytest.raises(ValueError, match="worth all its numbers"):
        compress(model, BudgetConfig(max_bytes=10**9))
    model, report = compress(model, BudgetConfig(max_bytes=24_000))
    assert report.file_bytes_after <= 24_000
    assert report.output_change is not None


def test_a_budget_below_the_smallest_file_says_so(trained_lenet, digits):
    with pytest.raises(ValueError, match="smallest file, about .* Received: 9000"):
        compress(trained_lenet, BudgetConfig(9000), "fc3", calibration_data=digits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of `max_bytes` and `times_smaller`"),
        ({"max_bytes": 5, "times_smaller": 2}, "Exactly one of"),
        ({"max_bytes": 0}, "`max_bytes` must be an integer of at least 1"),
        ({"max_bytes": 1.5}, "`max_bytes` must be an integer"),
        ({"times_smaller": 1}, "`times_smaller` must be a number above 1"),
        ({"times_smaller": float("nan")}, "`times_smaller` must be a number above 1"),
        ({"times_smaller": 2, "seed": -1}, "`seed` must be an integer"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BudgetConfig(**arguments)


def test_one_batch_is_set_apart_unless_there_is_no_other():
    x = np.arange(100.0).reshape(50, 2)
    first, rest = set_apart(x)
    assert np.array_equal(first, x)
    assert np.array_equal(next(iter(rest))[0], x)
    first, rest = set_apart(iter([x[:20], x[20:30], x[30:]]))
    assert np.array_equal(first, x[:20])
    assert np.array_equal(np.concatenate([batch for (batch,) in rest]), x[20:])


@pytest.mark.parametrize(
    ("text", "size"), [("7MB", 7_000_000), ("1.5kb", 1500), ("12", 12), ("9 B", 9)]
)
def test_sizes_have_units(text, size):
    assert size_in_bytes(text) == size


def test_the_command_line_takes_a_size_or_a_share(
    trained_lenet, digits, tmp_path, capsys
):
    keras_messi.save_model(trained_lenet, tmp_path / "model.keras")
    np.save(tmp_path / "digits.npy", digits)
    paths = [str(tmp_path / x) for x in ("model.keras", "small.keras")]
    data = ["--calibration", str(tmp_path / "digits.npy")]
    assert main(["compress", *paths, "--max-size", "80kB", *data]) == 0
    assert (tmp_path / "small.keras").stat().st_size <= 80_000
    assert "stored in" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compress", *paths, "--max-size", "small", *data])
    assert "must be a size such as 7MB" in capsys.readouterr().err
    (tmp_path / "texts.txt").write_text("a text\n")
    data[1] = str(tmp_path / "texts.txt")
    assert main(["compress", *paths, "--force", "--times-smaller", "9", *data]) == 1
    assert "for a model that is no folder" in capsys.readouterr().err


def test_a_target_is_given_what_its_runtime_is_fast_with(trained_lenet, digits):
    config = BudgetConfig(times_smaller=6, target="onnx")
    small, report = compress(trained_lenet, config, calibration_data=digits)
    assert report.file_bytes_after <= report.file_bytes_before / 6
    rounded = [x for x in small.layers if isinstance(x, RoundedDense)]
    assert rounded
    assert all(x.bits in (4, 8) and x.block_size is None for x in rounded)
    with pytest.raises(ValueError, match="`target` must be one of None, 'onnx'"):
        BudgetConfig(times_smaller=6, target="coreml")


def test_groups_have_no_budget_for_the_whole_file(trained_lenet):
    config = BudgetConfig(times_smaller=9)
    with pytest.raises(ValueError, match="which a BudgetConfig for the whole file"):
        compress_in_groups(trained_lenet, config, ["fc1", "fc2"], lambda model: None)


def test_statistics_that_were_made_by_hand_do(trained_lenet, digits):
    known = CalibrationStatistics(calibrate(trained_lenet, digits).by_path)
    config = BudgetConfig(max_bytes=300_000)
    _, report = compress(trained_lenet, config, "fc2|fc1", calibration_data=known)
    assert report.file_bytes_after <= 300_000


def test_a_layer_that_the_model_refuses_stays_as_it_is():
    model = models.tied("_embeddings")
    config, inputs = BudgetConfig(max_bytes=20_500), models.inputs_of(model, 64)
    small, report = compress(model, config, calibration_data=inputs)
    assert isinstance(small.words, keras.layers.Embedding)
    assert {x.path: x.reason for x in report.skipped} == {"words": SkipReason.REFUSED}
    assert [x.path for x in report.replaced] == ["dense"]
    assert report.file_bytes_after <= 20_500 < report.file_bytes_before
