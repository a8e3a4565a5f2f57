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
    """Measure the networks of a file beside this one; write their rows beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="name of a file here with a dict NETWORKS")
    parser.add_argument("names", nargs="*", help="which networks; all by default")
    parser.add_argument("--formats", nargs="*", help="what to export to")
    arguments = parser.parse_args()
    file = import_module(arguments.file)
    networks = {x: file.NETWORKS[x] for x in arguments.names or file.NETWORKS}
    formats = file.FORMATS if arguments.formats is None else arguments.formats
    rows = measure(networks, formats)
    if not arguments.names:
        _write(rows, Path(__file__).with_name(f"{arguments.file}.csv"))


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            left = [f"{x['path']} ({x['layer_type']})" for x in row["left"]]
            writer.writerow({**row, "left": " ".join(left)})


if __name__ == "__main__":
    main()
