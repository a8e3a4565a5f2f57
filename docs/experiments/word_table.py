"""Relative squared error of a real word table at a given number of parameters.

    python docs/experiments/word_table.py [--seeds N]

The 30522 x 384 word table of MiniLM becomes a MessiEmbedding with k = 5, j = 128, and,
with no more numbers, the SVD (k = 1, j = 134). Writes word_table.md.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from provenance import provenance
from real_data import minilm_word_table

from keras_messi import MessiConfig, compress


def embedding_model(table: np.ndarray) -> keras.Model:
    """A model that looks words up in a table."""
    tokens = keras.Input((None,), dtype="int32")
    layer = keras.layers.Embedding(*table.shape, name="words")
    model = keras.Model(tokens, layer(tokens))
    layer.set_weights([table])
    return model


def measured_error(table: np.ndarray, config: MessiConfig) -> tuple[float, int]:
    """Error of what the layer really looks up, and the numbers it stores."""
    small, report = compress(embedding_model(table), config)
    vectors = np.concatenate(
        [
            keras.ops.convert_to_numpy(small(block[np.newaxis]))[0]
            for block in np.array_split(np.arange(len(table)), 16)
        ]
    )
    error = np.sum((vectors - table) ** 2) / np.sum(table**2)
    return float(error), report.parameters_after


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    table = minilm_word_table()
    lines = [
        "| method | k | j | numbers | relative squared error |",
        "|---|---|---|---|---|",
    ]
    for name, k, j in (("SVD", 1, 134), ("MessiEmbedding", 5, 128)):
        runs = [
            measured_error(table, MessiConfig(num_clusters=k, rank=j, seed=seed))
            for seed in (seeds if k > 1 else range(1))
        ]
        errors = [error for error, _ in runs]
        lines.append(
            f"| {name} | {k} | {j} | {runs[0][1]:,} | "
            f"{np.mean(errors):.4f} ± {np.std(errors):.4f} |"
        )
    text = "\n\n".join(
        [
            "# The word table of MiniLM",
            f"30522 x 384 float32, {table.size:,} numbers. Mean ± standard deviation "
            f"over {len(seeds)} seeds.",
            "\n".join(lines),
            provenance(f"python docs/experiments/word_table.py --seeds {len(seeds)}"),
        ]
    )
    path = Path(__file__).with_suffix(".md")
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
