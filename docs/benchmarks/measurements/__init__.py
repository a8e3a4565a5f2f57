"""What is measured, one group a file.

Each file has a ``TITLE`` and a function ``rows(record, scale)`` that yields a `Row` of
the group's table for each comparison. ``record(key, measure, *arguments)`` returns what
``measure(*arguments)`` does, a dict of numbers, and keeps it, so that it is measured
once; ``scale`` is the share of the rows to measure on, 1 but for trying things out.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One comparison, and what its ratio should at least and at best be."""

    what: str
    ours: str
    theirs: str
    ratio: str
    floor: str = ""
    aim: str = ""
