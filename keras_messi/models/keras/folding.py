"""Fold the routing of a MessiDense into the layer before it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import activations, ops, regularizers

from keras_messi.layers import MessiDense
from keras_messi.layers.replacement import copy_layer
from keras_messi.models.keras._keras_internals import (
    Call,
    direct_layers,
    graph_calls,
    is_graph,
)
from keras_messi.models.keras.altered import all_layers
from keras_messi.models.keras.surgery import find_layers, replace_layers
from keras_messi.report import FoldedLayer

# What these do with a number does not depend on where it stands.
_ELEMENTWISE = {
    activations.celu,
    activations.elu,
    activations.exponential,
    activations.gelu,
    activations.hard_shrink,
    activations.hard_sigmoid,
    activations.hard_silu,
    activations.hard_tanh,
    activations.leaky_relu,
    activations.linear,
    activations.log_sigmoid,
    activations.mish,
    activations.relu,
    activations.relu6,
    activations.selu,
    activations.sigmoid,
    activations.silu,
    activations.soft_shrink,
    activations.softplus,
    activations.softsign,
    activations.sparse_plus,
    activations.sparse_sigmoid,
    activations.squareplus,
    activations.tanh,
    activations.tanh_shrink,
    activations.threshold,
}
_ELEMENTWISE_LAYERS = (
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
)
_SYMMETRIC_REGULARIZERS = (regularizers.L1, regularizers.L2, regularizers.L1L2)


def fold_permutations(model: keras.Model) -> tuple[keras.Model, list[FoldedLayer]]:
    """Drop the routing of each MessiDense that follows a layer which can take it over.

    A `MessiDense` gathers its inputs cluster by cluster. Where they come from a `Dense`
    or a `MessiDense` that nothing else uses, directly or through dropout and
    elementwise activations, the columns of that layer are put into this order once, and
    the gather goes. The outputs of the model stay as they are, up to rounding.

    Args:
        model: A built model. It is left as it is. Only Sequential and Functional
            models, and such models inside them, tell what follows what.

    Returns:
        The model, or a copy where there is something to fold; and what was folded.
    """
    uses = _count_uses(model)
    pairs = [pair for graph in _graphs(model) for pair in _pairs(graph, uses)]
    if not pairs:
        return model, []
    grouped = {consumer for consumer, _ in pairs}
    orders = {producer: consumer.routing for consumer, producer in pairs}
    replacements = {
        layer: _copy(layer, layer in grouped, orders.get(layer))
        for layer in grouped | orders.keys()
    }
    paths = {place.layer: place.path for place in find_layers(model)}
    folded = [
        FoldedLayer(paths[consumer], paths[producer]) for consumer, producer in pairs
    ]
    return replace_layers(model, replacements), folded


def _graphs(model: keras.Model) -> list[keras.Model]:
    """The model and the models inside it, as far as they are graphs, each once."""
    if not is_graph(model):
        return []
    inner = [graph for layer in direct_layers(model) for graph in _graphs(layer)]
    return list(dict.fromkeys([model, *inner]))


def _count_uses(model: keras.Model) -> Counter[keras.Layer]:
    """How often graphs call each layer, or other layers hold it."""
    uses: Counter[keras.Layer] = Counter()
    for graph in _graphs(model):
        uses.update(call.layer for call in graph_calls(graph))
        for layer in direct_layers(graph):
            if not is_graph(layer):
                uses.update(all_layers(layer)[1:])
    return uses


def _pairs(
    graph: keras.Model, uses: Counter[keras.Layer]
) -> Iterator[tuple[MessiDense, keras.Layer]]:
    """Each MessiDense of a graph that can do without routing, and its producer."""
    calls = graph_calls(graph)
    made_by = {id(tensor): call for call in calls for tensor in call.outputs}
    readers = defaultdict(int, {id(tensor): 1 for tensor in graph.outputs})
    for call in calls:
        for tensor in call.inputs:
            readers[id(tensor)] += 1

    def producer_of(tensor: Any) -> keras.Layer | None:
        call = made_by.get(id(tensor))
        if call is None or readers[id(tensor)] > 1 or uses[call.layer] > 1:
            return None
        if type(call.layer) in (keras.layers.Dense, MessiDense):
            return call.layer if _can_reorder_outputs(call.layer) else None
        return producer_of(call.inputs[0]) if _is_elementwise(call) else None

    for call in calls:
        consumer = call.layer
        if type(consumer) is not MessiDense or consumer.routing is None:
            continue
        if consumer.side == "outputs":  # which gathers none of its inputs
            continue
        if consumer.lora_enabled:  # whose weights are in the order of the inputs
            continue
        producer = producer_of(call.inputs[0]) if uses[consumer] == 1 else None
        if producer is not None:
            yield consumer, producer


def _is_elementwise(call: Call) -> bool:
    layer = call.layer
    if len(call.inputs) != 1:
        return False
    if type(layer) is keras.layers.Activation:
        return layer.activation in _ELEMENTWISE
    if getattr(layer, "noise_shape", None) is not None:
        return False
    return type(layer) in _ELEMENTWISE_LAYERS


def _can_reorder_outputs(layer: keras.layers.Dense | MessiDense) -> bool:
    is_dense = type(layer) is keras.layers.Dense
    if layer.lora_enabled or (is_dense and layer.quantization_mode):
        return False
    names = ["bias_regularizer", "activity_regularizer"]
    names += ["kernel_regularizer"] if is_dense else ["factors_regularizer"]
    constraints = ["bias_constraint"] + ["kernel_constraint"] * is_dense
    return (
        layer.activation in _ELEMENTWISE
        and all(getattr(layer, name) is None for name in constraints)
        and all(
            getattr(layer, name) is None
            or type(getattr(layer, name)) in _SYMMETRIC_REGULARIZERS
            for name in names
        )
    )


def _copy(layer: keras.Layer, grouped: bool, order: Any) -> keras.Layer:
    """A copy without routing if grouped, and with its outputs in order if not None."""
    copy = copy_layer(layer, **({"grouped_inputs": True} if grouped else {}))
    if order is None:
        return copy
    if type(copy) is MessiDense and copy.side == "outputs":
        _reorder_clusters(copy, ops.convert_to_numpy(order))
        variables = [copy.bias]
    elif type(copy) is MessiDense:
        variables = [copy.bases, copy.bias]
    else:
        variables = [copy.kernel, copy.bias]
    for variable in variables:
        if variable is not None:
            variable.assign(ops.take(variable, order, axis=-1))
    return copy


def _reorder_clusters(layer: MessiDense, order: np.ndarray) -> None:
    """Put the clustered outputs of a layer in order, those of a cluster as well."""
    assignments = layer.assignments[order]
    by_cluster = np.argsort(assignments, kind="stable")
    places = np.argsort(np.argsort(layer.assignments, kind="stable"))
    old = places[order[by_cluster]]
    starts = np.cumsum([0, *layer.cluster_sizes[:-1]])
    for table, start, size in zip(
        layer.coordinates, starts, layer.cluster_sizes, strict=True
    ):
        own = old[start : start + size] - start
        table.assign(ops.take(table, own, axis=0))
    if layer.row_scales is not None:
        layer.row_scales.assign(ops.take(layer.row_scales, old))
    if layer.routing is not None:
        layer.routing.assign(np.argsort(by_cluster).astype("int32"))
