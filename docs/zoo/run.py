"""Make the tables of the zoo: what can be done with models of each architecture.

python docs/zoo/run.py transformers_torch [NAME ...] [--formats FORMAT ...]
"""

import argparse
import csv
from importlib import import_module
from pathlib import Path
from typing import Any

from rows import measure


def main() -> None:
    """Measure networks of a file beside this one; their rows are written beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="name of a file here with a dict NETWORKS")
    parser.add_argument("names", nargs="*", help="which networks; all by default")
    parser.add_argument("--formats", nargs="*", help="what to export to")
    arguments = parser.parse_args()
    file = import_module(arguments.file)
    networks = {x: file.NETWORKS[x] for x in arguments.names or file.NETWORKS}
    formats = file.FORMATS if arguments.formats is None else arguments.formats
    path = Path(__file__).with_name(f"{arguments.file}.csv")
    rows = _read(path)
    for row in measure(networks, formats):
        left = [f"{x['path']} ({x['layer_type']})" for x in row["left"]]
        rows[row["name"]] = {**row, "left": " ".join(left)}
        _write([rows[name] for name in file.NETWORKS if name in rows], path)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by the name of their network, as a former call left them."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: dict(row) for row in csv.DictReader(file)}


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
