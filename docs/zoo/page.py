"""Write the page of the zoo from the rows that `run.py` measured.

python docs/zoo/page.py
"""

import csv
from pathlib import Path

HERE = Path(__file__).parent
TITLES = {
    "keras_hub_models": "keras-hub",
    "keras_applications_models": "keras.applications",
    "own_models": "Layers of Keras in models of one's own",
    "transformers_tensorflow": "transformers, TensorFlow",
    "transformers_torch": "transformers, PyTorch",
}
INTRODUCTION = """# Which models

Small models of each architecture, with random weights: the share of their parameters
in layers that `keras_messi.compress` takes; whether it makes factors of half the
size, and 8 bits a number that keep the outputs; whether the saved model gives the
same outputs in a process of its own, bit for bit; and whether it is exported, which
includes that the file gives the outputs of the model in its own runtime: for inputs of
any size, or only if `input_signature` fixes their sizes. A note that begins with "as
uncompressed" tells of what stops the uncompressed model as well. What is left holds
vectors, such as those of normalization, depthwise kernels, or is too small to pay. In
models of the usual size that is a smaller share."""
COLUMNS = {
    "factors": "factors",
    "integers": "8 bits",
    "reloads": "reloads",
    "onnx": "ONNX",
    "litert": "LiteRT",
}


def table(rows: list[dict[str, str]]) -> str:
    """The rows of a file; notes below it say what failed."""
    known = [key for key in COLUMNS if key in rows[0]]
    heads = ["", "parameters", "share", *(COLUMNS[key] for key in known)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    notes: list[str] = []
    for row in rows:
        cells = [
            row["name"],
            f"{int(row['parameters']):,}",
            f"{float(row['share']):.1%}",
        ]
        cells += [_said(row[key], notes) for key in known]
        lines.append(f"| {' | '.join(cells)} |")
    below = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join(lines) + ("\n\n" + "\n".join(below) if below else "")


def _said(text: str, notes: list[str]) -> str:
    if text in ("yes", "fixed sizes"):
        return text
    note = text.splitlines()[0]
    if note not in notes:
        notes.append(note)
    return f"no ({notes.index(note) + 1})"


def main() -> None:
    """Write the page."""
    parts = [INTRODUCTION]
    for name, title in TITLES.items():
        path = HERE / f"{name}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            command = f"Made by `python docs/zoo/run.py {name}`."
            parts += [f"## {title}", table(rows), command]
    (HERE / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
