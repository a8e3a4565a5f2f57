"""Draw the architecture page from the code.

    python docs/contributing/draw.py [--root FOLDER] [--walks]

Prints rooms, imports between rooms and, with --walks, the stays of two objects that are
followed while the code runs: X through `KSubspaces.fit`, a model through `compress`.
Without --root, writes them into docs/contributing/architecture.md.
"""

import argparse
import ast
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("kprojclust", "keras_messi")
BEGIN, END = "<!-- drawn by draw.py: {} -->", "<!-- end of {} -->"


def room_of(root: Path, file: Path) -> str:
    """The folder of a file below its package, two for families, or the file itself."""
    parts = file.relative_to(root).with_suffix("").parts
    if len(parts) == 2:
        return ".".join(parts)
    return ".".join(parts[:2])


def files_of(root: Path, package: str) -> list[Path]:
    return sorted((root / package).rglob("*.py"))


def imports_of(root: Path, file: Path) -> set[str]:
    """Names of our modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # What is imported may be a module, or a name in one.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def room_named(root: Path, name: str) -> str | None:
    """The room of the module, or of the module that holds the name."""
    parts = name.split(".")
    while len(parts) > 1:
        path = root.joinpath(*parts)
        if path.is_dir() and (path / "__init__.py").exists() and len(parts) == 2:
            return ".".join(parts)
        if path.is_dir() or path.with_suffix(".py").exists():
            return room_of(root, path.with_suffix(".py"))
        parts.pop()
    return None


def summary(file: Path) -> str:
    """First sentence of the docstring of a module."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def rooms(root: Path, package: str) -> str:
    """Table of the rooms of a package."""
    rows = ["| room | files | lines | what belongs in it |", "|---|---|---|---|"]
    files = [x for x in files_of(root, package) if x != root / package / "__init__.py"]
    for room, group in groupby(files, key=lambda file: room_of(root, file)):
        own = list(group)
        lines = sum(len(x.read_text(encoding="utf-8").splitlines()) for x in own)
        name = room.partition(".")[2] + ("/" if own[0].stem == "__init__" else ".py")
        rows.append(f"| `{name}` | {len(own)} | {lines} | {summary(own[0])} |")
    return "\n".join(rows)


def arrows(root: Path, package: str) -> str:
    """Imports between rooms, as a Mermaid graph."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in files_of(root, package):
        if file == root / package / "__init__.py":
            continue
        source = room_of(root, file)
        for name in imports_of(root, file):
            target = room_named(root, name)
            if target and target != source and target.startswith(package):
                counts[source, target] += 1
    lines = ["```text"]
    targets: dict[str, list[str]] = {}
    for source, target in sorted(counts):
        targets.setdefault(source, []).append(target.partition(".")[2])
    for source, names in targets.items():
        lines.append(f"{source.partition('.')[2]:14} -> {', '.join(names)}")
    return "\n".join([*lines, "```"])


def walk(root: Path, run, is_followed) -> list[tuple[str, str]]:
    """Rooms that an object is handed to while a function runs, with the functions.

    Consecutive calls within one room are one stay; so are the same stays in a row.
    Functions that only read private attributes of Keras are no room.
    """
    stays: list[tuple[str, str]] = []
    rooms_by_file = {
        str(file): room_of(root, file)
        for package in PACKAGES
        for file in files_of(root, package)
        if file.name != "_keras_internals.py" or "models" in file.parts
    }

    def observe(frame, event, argument):
        room = rooms_by_file.get(frame.f_code.co_filename)
        if event != "call" or room is None or frame.f_code.co_name.startswith("<"):
            return
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        is_new = not stays or stays[-1][0] != room
        if is_new and any(is_followed(frame.f_locals.get(name)) for name in names):
            stays.append((room, frame.f_code.co_name))

    sys.setprofile(observe)
    try:
        run()
    finally:
        sys.setprofile(None)
    return stays


def returns(stays: list[tuple[str, str]]) -> int:
    """How often a room is entered again that was left before."""
    names = [room for room, _ in stays]
    return len(names) - len(set(names))


def walk_of_rows(root: Path) -> list[tuple[str, str]]:
    """X through `KSubspaces.fit`."""
    from kprojclust import KSubspaces, make_subspaces

    X, _, _ = make_subspaces(n_samples=300, n_features=10, n_clusters=3, noise=0.1)
    model = KSubspaces(3, 2, n_init=1, random_state=0)
    return walk(root, lambda: model.fit(X), lambda value: value is X)


def walk_of_model(root: Path) -> list[tuple[str, str]]:
    """A model through `compress`."""
    import keras
    import numpy as np

    import keras_messi

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(48, "relu"), keras.layers.Dense(32)]
    )
    config = keras_messi.MessiConfig(rate=0.5, num_clusters=2, scope="model")
    data = np.random.default_rng(0).normal(size=(100, 64)).astype("float32")
    keras_messi.compress(model, config, calibration_data=data)  # imports what is lazy
    return walk(
        root,
        lambda: keras_messi.compress(model, config, calibration_data=data),
        lambda value: value is model or type(value).__name__ == "Plan",
    )


def stays_as_text(stays: list[tuple[str, str]]) -> str:
    lines = [f"{i:2}. {room:40} {name}" for i, (room, name) in enumerate(stays, 1)]
    total = f"{len(stays)} stays, {returns(stays)} returns to a room left before"
    return "\n".join(["```text", *lines, "```", "", total])


def drawings(root: Path, walks: bool) -> dict[str, str]:
    """All parts of the page by name."""
    parts = {}
    for package in PACKAGES:
        parts[f"rooms of {package}"] = rooms(root, package)
        parts[f"imports of {package}"] = arrows(root, package)
    if walks:
        sys.path.insert(0, str(root))
        parts["X through fit"] = stays_as_text(walk_of_rows(root))
        parts["a model through compress"] = stays_as_text(walk_of_model(root))
    return parts


def put_into(page: str, parts: dict[str, str]) -> str:
    """The page with its parts drawn anew."""
    for name, text in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--walks", action="store_true")
    options = parser.parse_args()
    root = (options.root or HERE.parent.parent).resolve()
    parts = drawings(root, options.walks)
    if options.root:
        print("\n\n".join(f"# {name}\n\n{text}" for name, text in parts.items()))
        return
    page = HERE / "architecture.md"
    drawn = put_into(page.read_text(encoding="utf-8"), parts)
    page.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
