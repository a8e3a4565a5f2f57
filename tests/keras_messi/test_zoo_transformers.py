"""Small models of many architectures of transformers: how far compression goes."""

import keras
import pytest

from tests.keras_messi import transformer_models as models
from tests.keras_messi.zoo import loaded

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

row_of = loaded("rows").row_of
zoo = loaded(f"transformers_{models.BACKEND}")

pytestmark = [
    pytest.mark.slow,
    models.FILTERS,
    # What TensorFlow models of transformers say of their own code.
    pytest.mark.filterwarnings("ignore:`TFSharedEmbeddings` is:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The initializer TruncatedNormal:UserWarning"),
]
EXPORTED = dict.fromkeys(["GPT-2", "BERT", "ViT"], ["onnx"])


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_a_model_is_compressed_saved_and_loaded(name):
    keras.utils.set_random_seed(0)
    row = row_of(name, *zoo.NETWORKS[name](), EXPORTED.get(name, []))
    steps = ["factors", "integers", "reloads", *EXPORTED.get(name, [])]
    assert {step: row[step] for step in steps} == dict.fromkeys(steps, "yes")
    assert row["share"] > 0.98, row["left"]
