"""Small models of many architectures of transformers: how far compression goes."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import keras
import pytest

from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

ZOO = Path(__file__).parents[2] / "docs" / "zoo"


def loaded(name):
    """A module of the zoo, whose names are those of others elsewhere."""
    spec = spec_from_file_location(f"zoo_{name}", ZOO / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


row_of = loaded("rows").row_of
zoo = loaded(f"transformers_{models.BACKEND}")

pytestmark = [
    pytest.mark.slow,
    models.FILTERS,
    # What TensorFlow models of transformers say of their own code.
    pytest.mark.filterwarnings("ignore:`TFSharedEmbeddings` is:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The initializer TruncatedNormal:UserWarning"),
]
EXPORTED = {"GPT-2": ["onnx"], "BERT": ["onnx"]}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_a_model_is_compressed_saved_and_loaded(name):
    keras.utils.set_random_seed(0)
    row = row_of(name, *zoo.NETWORKS[name](), EXPORTED.get(name, []))
    steps = ["factors", "integers", "reloads", *EXPORTED.get(name, [])]
    assert {step: row[step] for step in steps} == dict.fromkeys(steps, "yes")
    assert row["share"] > 0.98, row["left"]
