"""What a compression did, in numbers taken from real variables and files."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


class SkipReason:
    """Why a layer was left as it is."""

    FILTERED_OUT = "filtered out"
    LEFT_ALONE = "left alone"
    NOT_SUPPORTED = "not supported"
    REFUSED = "can't be replaced"
    CONSTRAINED = "has a constraint"
    QUANTIZED = "quantized or with LoRA"
    TOO_FEW_ROWS = "fewer rows than clusters"
    RANK_TOO_LARGE = "rank above the width"
    NO_RANK = "no rank at this rate"
    WOULD_GROW = "would grow"
    WHOLE = "worth all its numbers"
    UNEVEN_BLOCKS = "can't be cut into such blocks"
    TOO_LARGE = "numbers too large"


@dataclass(frozen=True)
class ReplacedLayer:
    """A layer that was replaced; sizes are of the layer with its bias.

    Attributes:
        path: Where in the model.
        layer_type: Class of the old layer.
        shape: Shape (n, d) of its matrix.
        num_clusters: Number of subspaces; 0 if the matrix is whole or became codes.
        ranks: Their dimensions.
        quantization: "int8", "int4" or None; of a rounded layer "int1" to "int8", by
            its bits.
        parameters_before: Numbers in the old layer.
        parameters_after: Numbers in the new one.
        bytes_before: Bytes of the old layer as stored on disk.
        bytes_after: Bytes of the new one.
        relative_error: Squared Frobenius norm of the difference of the matrices over
            that of the original.
        output_error: Squared error of the outputs on calibration data over their
            spread; None without such data.
        plain_output_error: The same without what calibration data changed.
        adopted: Changes due to calibration data that were kept.
        dropped: Changes that would have raised the output error.
        num_codewords, num_codebooks, block_size: Shape of its codebooks, or 0; of a
            rounded layer, numbers that share a scale, 0 for a whole unit or row.
        form: How its numbers are stored, where that was chosen for this layer.
        side: What the subspaces are of: "inputs" of a kernel, as well for the tokens of
            a table, or "outputs".
    """

    path: str
    layer_type: str
    shape: tuple[int, int]
    num_clusters: int
    ranks: list[int]
    quantization: str | None
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    relative_error: float
    output_error: float | None = None
    plain_output_error: float | None = None
    adopted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    num_codewords: int = 0
    num_codebooks: int = 0
    block_size: int = 0
    form: str = ""
    side: str = "inputs"

    @property
    def error(self) -> float:
        """What counts: the error of the outputs, if it is known."""
        known = self.output_error
        return self.relative_error if known is None else known


@dataclass(frozen=True)
class SkippedLayer:
    """A layer with weights that was left as it is, and why."""

    path: str
    layer_type: str
    parameters: int
    reason: str
    detail: str


@dataclass(frozen=True)
class FoldedLayer:
    """A layer that needs no cluster ids, since another one hands its inputs on sorted.

    That one is the `producer`; both are paths.
    """

    path: str
    producer: str


@dataclass(frozen=True)
class CompressionReport:
    """What `compress` did to a model.

    Attributes:
        replaced: One `ReplacedLayer` for each layer that was replaced.
        skipped: One `SkippedLayer` for each other layer with weights.
        folded: One `FoldedLayer` for each new layer that needs no cluster ids.
        parameters_before: Numbers in the weights of the model, integers aside.
        parameters_after: The same of the new model.
        bytes_before: Bytes of all weights as stored on disk.
        bytes_after: The same of the new model, cluster ids included.
        file_bytes_before: Size of the `.keras` file of the model, without optimizer.
        file_bytes_after: The same of the new model: what `save_model` will write.
        export_bytes_before: Bytes that `export` would write for the model, by format
            `"onnx"` and `"litert"`, to a few percent; without formats that this backend
            does not write, or whose package is not installed.
        export_bytes_after: The same of the new model. No format has an entropy code.
        output_change: Squared change of the outputs of the model over their spread, on
            the first batch of calibration data or else on random inputs; None if the
            model can't be run on these.
    """

    replaced: list[ReplacedLayer]
    skipped: list[SkippedLayer]
    folded: list[FoldedLayer]
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    file_bytes_before: int
    file_bytes_after: int
    export_bytes_before: dict[str, int] = field(default_factory=dict)
    export_bytes_after: dict[str, int] = field(default_factory=dict)
    output_change: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python objects."""
        return asdict(self)

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "CompressionReport":
        """The report that `to_json` wrote."""
        facts = json.loads(text)
        layers = [{**x, "shape": tuple(x["shape"])} for x in facts["replaced"]]
        facts["replaced"] = [ReplacedLayer(**layer) for layer in layers]
        facts["skipped"] = [SkippedLayer(**layer) for layer in facts["skipped"]]
        facts["folded"] = [FoldedLayer(**layer) for layer in facts["folded"]]
        return cls(**facts)

    def change_as_text(self) -> str:
        """What `output_change` says."""
        return (
            f"The outputs of the new model differ by {self.output_change:.3f} of their "
            "spread, both squared"
        )

    def __str__(self) -> str:
        parts = [_replaced_table(self.replaced)]
        if any(layer.output_error is not None for layer in self.replaced):
            parts.append(_calibration_table(self.replaced))
        if self.skipped:
            parts.append(_skipped_table(self.skipped))
        if self.folded:
            parts.append(_folded_table(self.folded))
        totals = [
            ["whole model", "before", "after", "smaller"],
            _total("parameters", self.parameters_before, self.parameters_after),
            _total("bytes of weights", self.bytes_before, self.bytes_after),
            _total("bytes of the file", self.file_bytes_before, self.file_bytes_after),
        ]
        for format, before in self.export_bytes_before.items():
            after = self.export_bytes_after[format]
            totals.append(_total(f"bytes exported, {format}", before, after))
        parts.append(format_table(totals))
        if self.output_change is not None:
            parts.append(self.change_as_text() + ".")
        return "\n\n".join(parts)


def format_table(rows: list[list[str]]) -> str:
    """Text table: first row the heading, first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _replaced_table(layers: list[ReplacedLayer]) -> str:
    heading = ["replaced", "type", "matrix", "k", "j", "parameters", "bytes", "error"]
    rows = [
        [
            layer.path,
            layer.layer_type,
            f"{layer.shape[0]} x {layer.shape[1]}",
            *_format_form(layer),
            f"{layer.parameters_before:,} -> {layer.parameters_after:,}",
            f"{layer.bytes_before:,} -> {layer.bytes_after:,}",
            f"{layer.relative_error:.4f}",
        ]
        for layer in layers
    ]
    if any(layer.form for layer in layers):
        heading.append("stored in")
        rows = [[*row, layer.form] for row, layer in zip(rows, layers, strict=True)]
    return format_table([heading, *rows])


def _format_form(layer: ReplacedLayer) -> tuple[str, str]:
    """What the columns k and j say of the form that the matrix was given."""
    if layer.num_codewords:
        books = f"{layer.num_codebooks} x " if layer.num_codebooks > 1 else ""
        codes = f"{books}{layer.num_codewords}", f"blocks of {layer.block_size}"
        if not layer.ranks:
            return codes
        return f"{_clusters(layer)}, {codes[0]}", f"{_span(layer.ranks)}, {codes[1]}"
    if not layer.ranks:
        return "-", f"whole, {layer.quantization}" if layer.quantization else "whole"
    return _clusters(layer), _span(layer.ranks)


def _clusters(layer: ReplacedLayer) -> str:
    return f"{layer.num_clusters}" + (" of outputs" * (layer.side == "outputs"))


def _span(ranks: list[int]) -> str:
    low, high = min(ranks), max(ranks)
    return f"{low}" if low == high else f"{low}-{high}"


def _calibration_table(layers: list[ReplacedLayer]) -> str:
    heading = ["on calibration data", "error", "without", "with", "dropped"]
    rows = [
        [
            layer.path,
            f"{layer.output_error:.4f}",
            f"{layer.plain_output_error:.4f}",
            ", ".join(layer.adopted) or "-",
            ", ".join(layer.dropped) or "-",
        ]
        for layer in layers
        if layer.output_error is not None
    ]
    return format_table([heading, *rows])


def _skipped_table(layers: list[SkippedLayer]) -> str:
    heading = ["skipped", "type", "parameters", "reason"]
    rows = [
        [
            layer.path,
            layer.layer_type,
            f"{layer.parameters:,}",
            f"{layer.reason}: {layer.detail}" if layer.detail else layer.reason,
        ]
        for layer in layers
        if layer.reason != SkipReason.FILTERED_OUT
    ]
    filtered_out = [x for x in layers if x.reason == SkipReason.FILTERED_OUT]
    if filtered_out:  # no news to who wrote the filter
        parameters = sum(layer.parameters for layer in filtered_out)
        others = f"others: {len(filtered_out)}"
        rows.append([others, "", f"{parameters:,}", SkipReason.FILTERED_OUT])
    return format_table([heading, *rows])


def _folded_table(layers: list[FoldedLayer]) -> str:
    heading = ["without cluster ids", "inputs sorted by"]
    return format_table([heading, *([x.path, x.producer] for x in layers)])


def _total(name: str, before: int, after: int) -> list[str]:
    return [name, f"{before:,}", f"{after:,}", f"{before / after:.2f} x"]
