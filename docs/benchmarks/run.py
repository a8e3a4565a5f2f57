"""Everything that says how fast KSubspaces is, side by side on one machine.

    python docs/benchmarks/run.py [NAME ...] [--scale SHARE] [--output FOLDER]

Writes speed.json as the numbers come; a second call at the same commit goes on where
the first one stopped, so commit what you measure. The tables speed.md and the pictures
are written after each measurement.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "experiments"))
from provenance import provenance  # noqa: E402
from results import Results  # noqa: E402
from speed_plots import PICTURES  # noqa: E402

from measurements import (  # noqa: E402
    Row,
    dask_array,
    growth,
    iteration,
    layers,
    limit,
    losses,
    memmap,
    memory,
    messi,
    small,
    wide,
)

MEASUREMENTS = {
    "messi": messi,
    "iteration": iteration,
    "losses": losses,
    "limit": limit,
    "growth": growth,
    "small": small,
    "wide": wide,
    "memory": memory,
    "memmap": memmap,
    "dask": dask_array,
    "layers": layers,
}
INTRODUCTION = (
    "Each comparison was made on the same machine with the same threads. Seconds are "
    "medians, with the range of several runs in brackets; errors are objectives over "
    "the sum of squares of the rows, mean ± standard deviation over seeds. A ratio "
    "such as 2x says that ours is twice as fast, one with words what they say. The "
    "floor is what must hold, the aim what we would like."
)


def format_table(rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [Row._fields, ["---"] * len(Row._fields), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_page(results: Results) -> str:
    """All tables so far with their pictures, and where they come from."""
    parts, made = ["# Speed and memory", INTRODUCTION], {}
    for name, measurement in MEASUREMENTS.items():
        if name not in results.tables:
            continue
        table = results.tables[name]
        parts += [f"## {measurement.TITLE}", format_table(table["rows"])]
        if name in PICTURES:
            parts.append(f"![{measurement.TITLE}]({PICTURES[name].file})")
        made.setdefault(table["made"], []).append(name)
    parts += [f"{', '.join(names)}: {line}" for line, names in made.items()]
    return "\n\n".join(parts) + "\n"


def write_page(results: Results, folder: Path) -> None:
    """The page and the pictures in it."""
    for name in PICTURES.keys() & results.tables.keys():
        PICTURES[name].draw(results.of(name), folder / PICTURES[name].file)
    (folder / "speed.md").write_text(format_page(results), encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - set(MEASUREMENTS):
        parser.error(f"NAME must be among {', '.join(MEASUREMENTS)}. Got {unknown}.")
    return chosen


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for and missing; write tables and pictures."""
    chosen = parse(arguments)
    scaling = "" if chosen.scale == 1 else f" --scale {chosen.scale:g}"
    made = provenance(f"python docs/benchmarks/run.py{scaling}")
    results = Results(chosen.output / "speed.json", made)
    for name in chosen.names or MEASUREMENTS:
        rows = list(MEASUREMENTS[name].rows(results.record, chosen.scale))
        results.add_table(name, rows)
        print(MEASUREMENTS[name].TITLE, format_table(rows), sep="\n", flush=True)
        write_page(results, chosen.output)


if __name__ == "__main__":
    main()
