"""Small models of transformers in the framework of the backend, and what they do."""

import re

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig

BACKEND = keras.backend.backend()
MISSING = None  # why there are no models, a reason to skip tests
try:
    import transformers

    if BACKEND == "tensorflow":
        import tensorflow as tf
        import tf_keras
        from transformers import TFPreTrainedModel  # noqa: F401
    elif BACKEND == "torch":
        import torch
    else:
        MISSING = f"transformers has no models for {BACKEND}"
except ImportError as error:
    MISSING = f"pip install transformers, for TensorFlow with tf-keras: {error}"

# What transformers 4.54 says of its own PyTorch code.
FILTERS = pytest.mark.filterwarnings(
    "ignore:.* will be removed in version 4.55:FutureWarning"
)
PREFIX = "TF" if BACKEND == "tensorflow" else ""
CLASSES = [
    family + head
    for family in ("Bert", "Roberta", "DistilBert", "Albert")
    for head in ("Model", "ForSequenceClassification", "ForMaskedLM")
]
SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 30,
    "num_labels": 3,
}
# Of a model whose tables and layers are worth factoring with several clusters.
LARGER = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_labels": 2,
}
# Under its own names, or beside those of the others.
DISTIL_SIZES = {"dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 40}


def class_named(name):
    """A class of transformers in the framework of the backend."""
    return getattr(transformers, PREFIX + name)


def build(name, **changes):
    """A small model with random weights, biases among them."""
    family = re.match("Bert|Roberta|DistilBert|Albert", name)[0]
    sizes = {**SIZES, **({"embedding_size": 16} if family == "Albert" else {})}
    if family == "DistilBert":
        kept = ("vocab_size", "max_position_embeddings", "num_labels")
        sizes = {key: SIZES[key] for key in kept} | DISTIL_SIZES
    config = getattr(transformers, f"{family}Config")(**{**sizes, **changes})
    keras.utils.set_random_seed(0)
    model = class_named(name)(config)
    if BACKEND == "tensorflow":
        model.build_in_name_scope()
    else:
        model.eval()  # no dropout
    rng = np.random.default_rng(0)
    for weight in trained_weights(model):
        set_weight(weight, read(weight) + 0.1 * rng.standard_normal(weight.shape))
    return model


def trained_weights(model):
    """What an optimizer is given."""
    if BACKEND == "tensorflow":
        return list(model.trainable_variables)
    return [weight for weight in model.parameters() if weight.requires_grad]


def read(value):
    """A weight or an output as an array."""
    return (value if BACKEND == "tensorflow" else value.detach()).numpy()


def set_weight(weight, value):
    if BACKEND == "tensorflow":
        weight.assign(value)
    else:
        weight.data.copy_(torch.as_tensor(value))


def tokens():
    """Two texts; the second is padded in the mask."""
    ids = np.random.default_rng(0).integers(3, 60, (2, 7))
    mask = np.array([[1] * 7, [1] * 5 + [0] * 2])
    return {"input_ids": tensor(ids), "attention_mask": tensor(mask)}


def tensor(values):
    return tf.constant(values) if BACKEND == "tensorflow" else torch.as_tensor(values)


def outputs_of(model, inputs=None):
    """The first output of a model for some texts."""
    return read(model(**(inputs or tokens()))[0])


def gradients_of(model):
    """Gradient of the sum of squares of the first output, by id of the weight."""
    weights = trained_weights(model)
    if BACKEND == "torch":
        model.zero_grad()
        model(**tokens())[0].square().sum().backward()
        gradients = [weight.grad for weight in weights]
    else:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(**tokens())[0] ** 2)
        gradients = tape.gradient(loss, weights)
        gradients = [None if x is None else tf.convert_to_tensor(x) for x in gradients]
    found = zip(weights, gradients, strict=True)
    return {id(weight): read(x) for weight, x in found if x is not None}


def train_one_step(model):
    """A step of Adam down that gradient."""
    gradients = gradients_of(model)
    weights = [weight for weight in trained_weights(model) if id(weight) in gradients]
    if BACKEND == "torch":
        torch.optim.Adam(weights, 1e-3).step()
    else:
        pairs = [(tf.constant(gradients[id(weight)]), weight) for weight in weights]
        tf_keras.optimizers.Adam(1e-3).apply_gradients(pairs)


def freeze_encoder(model):
    """Freeze the encoder of a BERT."""
    if BACKEND == "tensorflow":
        model.bert.encoder.trainable = False
    else:
        model.bert.encoder.requires_grad_(False)


CONFIG = MessiConfig(rate=0.3, num_clusters=2, scope="layer")


@pytest.fixture
def small():
    """A compressed BERT with tied logits."""
    # Not above: fresh processes import this file where nothing can be clustered.
    from keras_messi import compress

    return compress(build("BertForMaskedLM"), CONFIG)[0]
