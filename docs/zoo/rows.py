"""What can be done with a model: one row of the zoo, for a model of any family."""

import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from reloading import outputs_elsewhere

from keras_messi import MessiConfig, RoundingConfig, compress, export
from keras_messi.calibration.outputs import output_change
from keras_messi.models.adapter import family_of, outputs_of
from keras_messi.report import CompressionReport

_FACTORS = MessiConfig(rate=0.5, scope="layer")
_INTEGERS = RoundingConfig(8, None)

# Squared change of outputs over their spread that 8 bits a number may make.
NEAR = 0.01

_SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "tf_saved_model": ""}


def row_of(
    name: str, model: Any, inputs: Any, formats: Iterable[str] = ()
) -> dict[str, Any]:
    """One row: a dict of what was measured, or of what failed and how.

    Args:
        name: What to call the model.
        model: A built model of any family. It is left as it is.
        inputs: Inputs that it takes, as numpy arrays.
        formats: Formats of `keras_messi.export` to write.

    Returns:
        The entries

        - `name`, `parameters`;
        - `share`: the share of the parameters in layers that are compressed;
        - `left`: a list of dicts, the other layers with weights: `path`, `layer_type`,
          `parameters`, `reason`, `detail`;
        - `factors`: "yes", or why factors of half the size failed;
        - `integers`: "yes" if 8 bits a number keep the outputs, or what failed;
        - `change`: squared change of the outputs by that, over their spread;
        - `reloads`: "yes" if the saved model gives the same outputs bit for bit in
          another process;
        - one for each format: "yes"; "fixed sizes" if only such inputs can be exported;
          or why the model is not exported. "as uncompressed" comes before that if it is
          so for the model as it was.
    """
    row: dict[str, Any] = {"name": name, "parameters": 0, "share": 0.0, "left": []}
    row["change"] = float("nan")
    row["factors"] = _attempt(lambda: _compressed(model, _FACTORS, inputs))
    small: Any = None

    def round_numbers() -> str:
        nonlocal small
        small, report = _compressed(model, _INTEGERS, inputs)
        row.update(_reached(report))
        row["change"] = _change(model, small, inputs)
        return "yes" if row["change"] < NEAR else "outputs change"

    row["integers"] = _attempt(round_numbers)
    row["reloads"] = _attempt(lambda: _reloads(small, inputs))
    for format in formats:
        row[format] = _exported(model, small, inputs, format)
    return row


def _attempt(action: Any) -> str:
    """What an action says, "yes" if it says nothing, or how it failed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = action()
    except Exception as error:  # a row tells of any failure
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return re.sub(rf"{re.escape(tempfile.gettempdir())}\S*", "a file", said)
    return said if isinstance(said, str) else "yes"


def _compressed(model: Any, config: Any, inputs: Any) -> tuple[Any, CompressionReport]:
    small, report = compress(model, config)
    for array in outputs_of(family_of(small), small, inputs):
        if not np.isfinite(array).all():
            raise ValueError("outputs are not finite")
    return small, report


def _reached(report: CompressionReport) -> dict[str, Any]:
    reached = sum(layer.parameters_before for layer in report.replaced)
    left = [
        {
            "path": layer.path,
            "layer_type": layer.layer_type,
            "parameters": layer.parameters,
            "reason": str(layer.reason),
            "detail": layer.detail,
        }
        for layer in report.skipped
    ]
    total = report.parameters_before
    return {"parameters": total, "share": reached / total, "left": left}


def _change(model: Any, small: Any, inputs: Any) -> float:
    before, after = (outputs_of(family_of(x), x, inputs) for x in (model, small))
    return output_change(before, after)


def _reloads(small: Any, inputs: Any) -> str:
    family = family_of(small)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"small{family.suffix}"
        family.save(small, path, None, False)
        again = outputs_elsewhere(path, inputs)
    here = outputs_of(family, small, inputs)
    same = all(np.array_equal(a, b) for a, b in zip(here, again, strict=True))
    return "yes" if same else "outputs differ"


def _exported(model: Any, small: Any, inputs: Any, format: str) -> str:
    said = _attempt(lambda: _export(small, format))
    if said == "yes":
        return said

    def with_fixed_sizes(one: Any) -> str:
        return _attempt(
            lambda: _export(one, format, input_signature=_sizes(one, inputs))
        )

    if with_fixed_sizes(small) == "yes":
        return "fixed sizes"
    fails = "yes" not in (
        _attempt(lambda: _export(model, format)),
        with_fixed_sizes(model),
    )
    return f"as uncompressed: {said}" if fails else said


def _export(model: Any, format: str, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / f"model{_SUFFIXES[format]}", format, **options)


def _sizes(model: Any, inputs: Any) -> Any:
    """What these inputs are, with their sizes, as the framework of a model has it."""
    if isinstance(model, keras.Model):
        arrays = inputs if isinstance(inputs, dict) else {None: inputs}
        specs = {
            name: keras.InputSpec(str(x.dtype), x.shape, name=name)
            for name, x in arrays.items()
        }
        return [specs if isinstance(inputs, dict) else specs[None]]
    spec = model.input_signature
    return {
        key: type(x)(inputs[key].shape, x.dtype, name=key)
        for key, x in spec.items()
        if key in inputs
    }


def measure(
    networks: dict[str, Any], formats: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """The rows of some networks, each of which is built, measured and let go."""
    for name, build in networks.items():
        keras.utils.set_random_seed(0)
        row = row_of(name, *build(), formats)
        print(line_of(row), flush=True)
        yield row


def line_of(row: dict[str, Any]) -> str:
    """A row of a table of Markdown."""
    known = ("name", "parameters", "share", "left", "change")
    cells = [row["name"], f"{row['parameters']:,}", f"{row['share']:.2%}"]
    cells += [row[key].splitlines()[0] for key in row if key not in known]
    return f"| {' | '.join([*cells, _names_of(row['left'])])} |"


def _names_of(left: list[dict[str, Any]]) -> str:
    """Classes of the layers that are left, with their parameters."""
    sizes: dict[str, int] = {}
    for layer in left:
        kind = layer["layer_type"]
        sizes[kind] = sizes.get(kind, 0) + layer["parameters"]
    return ", ".join(f"{kind} {size:,}" for kind, size in sizes.items())
