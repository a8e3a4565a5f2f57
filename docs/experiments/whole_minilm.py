"""All of MiniLM made smaller: size of its files against what its embeddings lose.

    KPROJCLUST_DATA=folder python docs/experiments/whole_minilm.py

The word table is factored, its factors take 4 bits a number; the other matrices stay
whole and take 8 or 4. Nothing is fine-tuned. Which way to take can be read from the
training pairs of STS-B alone; the dev pairs stand beside. Writes whole_minilm.md.
"""

from pathlib import Path
from typing import Any

import whole_minilm_rivals
from provenance import provenance
from real_data import minilm_folder
from sentence_similarity import NUM_CLUSTERS, NUM_TRAINING_PAIRS, Pairs, training_counts

from keras_messi import MessiConfig, compress, quantize
from keras_messi.calibration.statistics import CalibrationStatistics, TokenCounts
from keras_messi.huggingface import from_pretrained
from keras_messi.models.adapter import family_of

WORDS = "bert/embeddings/word_embeddings"
FEED_FORWARD = "intermediate/dense|layer_._[0-9]+/output/dense"
OTHERS = "attention|pooler|position"
# Share of the word table removed, and bits of both kinds of matrices.
WAYS = [
    (0.62, "int8", "int8"),
    (0.84, "int8", "int8"),
    (0.84, "int4", "int8"),
    (0.84, "int4", "int4"),
]


def smaller(model: Any, rate: float, feed_forward: str, others: str) -> Any:
    """The model with all its matrices in fewer bytes."""
    counts = TokenCounts(training_counts(model.config.vocab_size))
    config = MessiConfig(rate=rate, num_clusters=NUM_CLUSTERS, quantization="int4")
    known = CalibrationStatistics({WORDS: counts})
    small, _ = compress(model, config, f"^{WORDS}$", calibration_data=known)
    small = quantize(small, feed_forward, FEED_FORWARD)
    return quantize(small, others, OTHERS)


def main() -> None:
    """Measure, and write the table."""
    model = from_pretrained(minilm_folder())
    pairs = [Pairs("train", NUM_TRAINING_PAIRS), Pairs("dev")]
    size = family_of(model).saved_size(model)
    before = [part.score(model) for part in pairs]
    lines = [
        "| word table removed | feed-forward | attention, positions | files, MB "
        "| smaller | lost, training pairs | lost, dev |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate, feed_forward, others in WAYS:
        small = smaller(model, rate, feed_forward, others)
        found = family_of(small).saved_size(small)
        lost = [was - x.score(small) for was, x in zip(before, pairs, strict=True)]
        lines.append(
            f"| {100 * rate:g} %, int4 | {feed_forward} | {others} | {found / 1e6:.2f} "
            f"| {size / found:.1f} x | {lost[0]:.2f} | {lost[1]:.2f} |"
        )
        print(lines[-1], flush=True)
    text = "\n\n".join(
        [
            "# All of MiniLM",
            f"Files of {size / 1e6:.2f} MB; Spearman's correlation x 100 "
            f"{before[0]:.2f} on {NUM_TRAINING_PAIRS} training pairs of STS-B, "
            f"{before[1]:.2f} on the dev pairs. Not fine-tuned.",
            "\n".join(lines),
            "Made smaller by others (`whole_minilm_rivals.py`), lost on the dev pairs:",
            whole_minilm_rivals.table("MiniLM"),
            provenance("python docs/experiments/whole_minilm.py"),
        ]
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
