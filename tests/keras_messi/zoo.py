"""The modules of docs/zoo."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ZOO = Path(__file__).parents[2] / "docs" / "zoo"


def loaded(name):
    """A module of the zoo, whose names are those of others elsewhere."""
    spec = spec_from_file_location(f"zoo_{name}", ZOO / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
