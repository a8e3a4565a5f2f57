"""Small Keras models of many architectures: how far compression goes."""

import keras
import pytest

from tests.keras_messi.zoo import loaded

if keras.backend.backend() != "tensorflow":
    pytest.skip("The zoo of Keras is built on TensorFlow", allow_module_level=True)
pytest.importorskip("keras_hub")

row_of = loaded("rows").row_of
NETWORKS = {
    (name, network): build
    for name in ("own_models", "keras_hub_models")
    for network, build in loaded(name).NETWORKS.items()
}
# What LiteRT has no operations for, with or without compression.
NOT_IN_LITERT = {"LSTM", "GRU", "SimpleRNN", "Bidirectional"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_a_model_is_compressed_saved_loaded_and_exported(kind, name):
    keras.utils.set_random_seed(0)
    formats = ["onnx", "litert"] if kind == "own_models" else []
    row = row_of(name, *NETWORKS[kind, name](), formats)
    # Random weights of T5, whose attention is not scaled, make its outputs jump.
    steps = ["factors", "reloads", *([] if name == "T5" else ["integers"])]
    steps += [x for x in formats if x == "onnx" or name not in NOT_IN_LITERT]
    assert {step: row[step] for step in steps} == dict.fromkeys(steps, "yes")
    assert row["share"] > 0.98, row["left"]
