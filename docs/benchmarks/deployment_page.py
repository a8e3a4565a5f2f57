"""The page of the benchmark of deployment."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from deployment_pictures import PICTURES
from deployment_rows import Result, Results
from provenance import provenance


def sizes(result: Result) -> list[str]:
    """Cells about bytes, the export and scores."""
    return [
        f"{result.saved_bytes / 1e3:,.1f}",
        f"{result.file_bytes / 1e3:,.1f}",
        f"{result.file_bytes / result.saved_bytes:.2f}",
        f"{result.seconds:.1f}",
        f"{result.memory_mb:.1f}",
        f"{result.distance:.1g}",
        _number(result.model_score),
        _number(result.model_score - result.score),
    ]


SIZES = [
    "saved, kB",
    "file, kB",
    "file / saved",
    "export, s",
    "memory, MB",
    "distance",
    "score of the model",
    "lost by exporting",
]


def times(result: Result) -> list[str]:
    """Cells about the time of a call."""
    return [
        f"{result.ratio_1:.2f} ({result.milliseconds_1:.3g} ms)",
        f"{result.ratio_32:.2f} ({result.milliseconds_32:.3g} ms)",
        f"{result.ratio_1_by_two:.2f} ({result.milliseconds_1_by_two:.3g} ms)",
        f"{result.ratio_32_by_two:.2f} ({result.milliseconds_32_by_two:.3g} ms)",
    ]


TIMES = [
    "one thread, batch of 1",
    "one thread, batch of 32",
    "two threads, batch of 1",
    "two threads, batch of 32",
]


def table(
    results: Results, heading: list[str], cells: Callable[[Result], list[str]]
) -> str:
    """A line for each result of one network."""
    lines = [["model", "file", *heading], ["---"] * (2 + len(heading))]
    lines += [[x.form, x.kind, *cells(result)] for x, result in results.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


INTRODUCTION = (
    "Times are ratios to the float file of the uncompressed network in the same "
    "runtime, run in turn by as many threads, and milliseconds of a call. Memory is "
    "how much larger a process is once it has loaded the file and run a batch of 1, "
    "than with the runtime alone. The distance is that of the outputs of the file from "
    "those of the model, over their size. Scores are Spearman's correlation x 100 on "
    "the dev pairs of STS-B for MiniLM, and accuracy on the test images of MNIST, in "
    "percent, for LeNet-300-100.",
    "ONNX files are run by ONNX Runtime, and LiteRT files by `tf.lite.Interpreter` of "
    "TensorFlow, with XNNPACK. Rivals are `quantize_dynamic` (ONNX Runtime int8), "
    "`MatMulNBitsQuantizer` in blocks of 128 (ONNX Runtime int4) and "
    "`Optimize.DEFAULT` (LiteRT int8), each on the uncompressed network. Keras int8 "
    "and int4 are what `quantize` of Keras makes of the layers; `keras_messi.export` "
    "writes them.",
)


def write_page(results: Results, folder: Path, rounds: int) -> None:
    """Write the page of all rows that there are."""
    parts = ["# Compressed models where they run", *INTRODUCTION]
    for name, picture in PICTURES.items():
        picture.draw(results, folder / name)
        parts.append(f"![{picture.says}]({name})")
    for network in dict.fromkeys(trial.network for trial in results):
        own = {x: found for x, found in results.items() if x.network == network}
        parts += [f"## {network}", table(own, SIZES, sizes), table(own, TIMES, times)]
    parts.append(provenance(f"python docs/benchmarks/deployment.py --rounds {rounds}"))
    text = "\n\n".join(parts)
    (folder / "deployment.md").write_text(text + "\n", encoding="utf-8")
