"""What was measured, in a JSON file that is replaced with each new number."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path


class Results:
    """Numbers and tables, and where each comes from.

    ``made`` says by what command, commit, versions and machine; what was measured
    under the same is not measured again.
    """

    def __init__(self, path: Path, made: str):
        self.path = path
        self.made = made
        self.records: dict[str, dict] = {}
        self.tables: dict[str, dict] = {}
        if path.exists():
            self.__dict__.update(json.loads(path.read_text(encoding="utf-8")))

    def record(self, key: str, measure: Callable[..., dict], *arguments) -> dict:
        """The numbers of this name: from the file, or else measured now."""
        if self.records.get(key, {}).get("made") != self.made:
            numbers = measure(*arguments)
            self.records[key] = {"made": self.made, "numbers": numbers}
            self.write()
        return self.records[key]["numbers"]

    def add_table(self, name: str, rows: Iterable[tuple]) -> None:
        """Keep the table of a measurement."""
        self.tables[name] = {"made": self.made, "rows": [list(row) for row in rows]}
        self.write()

    def of(self, name: str) -> dict[str, dict]:
        """The numbers that the table of a measurement comes from, by their names."""
        return {
            key: record["numbers"]
            for key, record in self.records.items()
            if key.split("/")[0] == name and record["made"] == self.tables[name]["made"]
        }

    def write(self) -> None:
        """Replace the file."""
        content = {"records": self.records, "tables": self.tables}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.path)
