"""Seconds that the calls take which make MiniLM smaller.

    KPROJCLUST_DATA=folder python docs/benchmarks/minilm_calls.py

Calibrated on 2048 sentences of the training pairs of STS-B, which run through the model
in each of the calls. Seconds depend on the machine: the page says what a product of
matrices takes there. Nothing else should run meanwhile.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from byte_budget import batches_of
from provenance import provenance
from real_data import minilm_folder

from keras_messi import BudgetConfig, MessiConfig, RoundingConfig, calibrate, compress
from keras_messi.huggingface import from_pretrained


def calls(model: Any) -> dict[str, Callable[[], Any]]:
    """What is timed, by what it is."""
    data = batches_of("STS-B", 0)
    found = calibrate(model, data)
    encoder = RoundingConfig(4, 128), "encoder"
    return {
        "statistics of all layers": lambda: calibrate(model, data),
        "encoder in 4 bits by GPTQ, statistics at hand": lambda: compress(
            model, *encoder, calibration_data=found
        ),
        "encoder in 4 bits by GPTQ": lambda: compress(
            model, *encoder, calibration_data=data
        ),
        "`MessiConfig(rate=0.5)`, no calibration": lambda: compress(
            model, MessiConfig(rate=0.5)
        ),
        "`BudgetConfig(8_100_000)`": lambda: compress(
            model, BudgetConfig(8_100_000), calibration_data=data
        ),
    }


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def product_seconds() -> float:
    """Seconds of the product of two matrices of 2048 x 2048, the best of ten."""
    x = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    return min(seconds_of(lambda: x @ x) for _ in range(10))


def main() -> None:
    """Measure, and write the page."""
    model, here = from_pretrained(minilm_folder()), Path(__file__)
    lines = ["| call | seconds |", "|---|---|"]
    for what, call in calls(model).items():
        lines.append(f"| {what} | {seconds_of(call):.0f} |")
        print(lines[-1], flush=True)
    text = [
        "# Seconds to make MiniLM smaller",
        "Calibrated on 2048 sentences of STS-B's training pairs. A product of two "
        f"matrices of 2048 x 2048 floats took {1e3 * product_seconds():.0f} ms.",
        "\n".join(lines),
        provenance(here.name),
    ]
    here.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
