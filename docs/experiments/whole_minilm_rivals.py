"""All of MiniLM as others make it smaller: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/whole_minilm_rivals.py
        [--models MiniLM paraphrase-MiniLM-L3]

ONNX Runtime's dynamic int8 and its int4 in blocks, run by ONNX Runtime; int8 and int4
of Keras; and Keras's GPTQ of all Dense layers, calibrated on training sentences of
STS-B, with int4 for the tables, which it leaves alone. The dev pairs are scored once
for each row. Rows are written to whole_minilm_rivals.csv as they come; the same command
goes on where it was interrupted, and the pages of byte_budget.py and whole_minilm.py
show them.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from glue_data import TASKS, read_rows
from keras_gptq import gptq
from onnx_runtime_int4 import int4_blocks
from real_data import minilm_folder, paraphrase_folder
from rows import Rows
from sentence_similarity import Pairs, pad, tokens

from keras_messi import calibrate, export, quantize
from keras_messi.calibration.statistics import second_moment
from keras_messi.huggingface import from_pretrained
from keras_messi.layers.sizes import stored_bytes
from keras_messi.models.adapter import family_of

HERE = Path(__file__)
MODELS = {"MiniLM": minilm_folder, "paraphrase-MiniLM-L3": paraphrase_folder}
SENTENCES, BATCH_SIZE = 512, 64
TABLES = "embeddings"


@dataclass(frozen=True)
class Trial:
    """Who makes which model smaller."""

    rival: str
    model: str = "MiniLM"


@dataclass(frozen=True)
class Result:
    """Bytes of the files, and Spearman's correlation x 100."""

    bytes_before: int
    bytes: int
    score_before: float
    score: float


class OnnxModel:
    """A file that ONNX Runtime runs, called as models of transformers are."""

    def __init__(self, path: Path, config: Any):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options)
        self.config = config

    def __call__(self, inputs: dict[str, np.ndarray]) -> Any:
        names = [x.name for x in self.session.get_inputs()]
        known = {**inputs, "token_type_ids": np.zeros_like(inputs["input_ids"])}
        feed = {name: known[name.split(":")[0]] for name in names}
        (found,) = self.session.run(["last_hidden_state"], feed)
        states = SimpleNamespace(numpy=lambda: found)
        return SimpleNamespace(last_hidden_state=states)


def by_onnx_runtime(
    model: Any, pairs: Pairs, smaller: Callable[[Path, Path], None]
) -> tuple[int, float]:
    """Size and score of the exported model after a step from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        export(model, plain)
        smaller(plain, small)
        return small.stat().st_size, pairs.score(OnnxModel(small, model.config))


def dynamic_int8(plain: Path, small: Path) -> None:
    """All products and look-ups in int8."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(plain, small)


def by_keras(
    model: Any, pairs: Pairs, smaller: Callable[[Any], Any]
) -> tuple[int, float]:
    """Size and score of a model that Keras made smaller."""
    small = smaller(model)
    return family_of(small).saved_size(small), pairs.score(small)


def by_gptq(model: Any, pairs: Pairs, bits: int) -> tuple[int, float]:
    """Size and score with all Dense layers by GPTQ of Keras, and all tables in int4.

    A model of transformers can't hold layers of that kind: they answer in the place of
    the others, and the size is that of the model with what they store instead.
    """
    sentences = [row[7] for row in read_rows(TASKS["STS-B"], "train")[:SENTENCES]]
    family, ids = family_of(model), tokens(sentences)
    starts = range(0, len(ids), BATCH_SIZE)
    batches = [pad(ids[start : start + BATCH_SIZE]) for start in starts]
    small = quantize(model, "int4", TABLES)
    dense = [x for x in family.find_layers(small) if hasattr(x.layer, "kernel")]
    known = calibrate(model, batches).by_path
    new_layers = {
        named.layer: gptq(
            named.layer, second_moment(known[named.path], centred=False), bits
        )
        for named in dense
        if named.path in known
    }
    less = stored_bytes(new_layers) - stored_bytes(new_layers.values())
    with family.substitute(small, new_layers):
        return family.saved_size(small) - less, pairs.score(small)


RIVALS: dict[str, Callable[[Any, Pairs], tuple[int, float]]] = {
    "ONNX Runtime, dynamic int8": partial(by_onnx_runtime, smaller=dynamic_int8),
    "ONNX Runtime, int4, blocks of 32": partial(
        by_onnx_runtime, smaller=partial(int4_blocks, block_size=32)
    ),
    "ONNX Runtime, int4, blocks of 128": partial(
        by_onnx_runtime, smaller=partial(int4_blocks, block_size=128)
    ),
    "Keras, int8": partial(
        by_keras, smaller=partial(quantize, mode="int8", filters=".*")
    ),
    "Keras, int4": partial(
        by_keras, smaller=partial(quantize, mode="int4", filters=".*")
    ),
    "Keras, GPTQ in 4 bits, tables in int4": partial(by_gptq, bits=4),
}


def run(trial: Trial, model: Any, pairs: Pairs, size: int, score: float) -> Result:
    """Make the model smaller, and score it."""
    small_size, small_score = RIVALS[trial.rival](model, pairs)
    return Result(size, small_size, score, small_score)


def all_rows() -> Rows:
    """What was measured so far."""
    return Rows(HERE.with_suffix(".csv"), Trial, Result)


def table(model: str) -> str:
    """The rows of a model as a table; empty if there are none."""
    found = {t.rival: x for t, x in all_rows().results.items() if t.model == model}
    lines = ["| how | files, MB | times smaller | lost |", "|---|---|---|---|"]
    for rival, x in found.items():
        lines.append(
            f"| {rival} | {x.bytes / 1e6:.2f} | {x.bytes_before / x.bytes:.1f} x "
            f"| {x.score_before - x.score:.2f} |"
        )
    return "\n".join(lines) if found else ""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    rows, pairs = all_rows(), Pairs("dev")
    for name in parser.parse_args().models:
        model = from_pretrained(MODELS[name]())
        size, score = family_of(model).saved_size(model), pairs.score(model)
        measure = partial(run, model=model, pairs=pairs, size=size, score=score)
        rows.complete([Trial(rival, name) for rival in RIVALS], measure)


if __name__ == "__main__":
    main()
