"""Modules under the names they had until 0.1: imported with a warning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NEW_NAMES = {
    "keras_messi.folding": "keras_messi.models.keras.folding",
    "keras_messi.plotting": "keras_messi.searching.curves",
    "keras_messi.quant_noise": "keras_messi.training",
    "keras_messi.saving": "keras_messi.models.keras.saving",
    "keras_messi.surgery": "keras_messi.models.keras.surgery",
    "keras_messi.trials": "keras_messi.searching.trials",
}


class _OldNames(MetaPathFinder, Loader):
    """Finds a module by its old name, and gives the one with the new name."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A spec for the old names only."""
        return ModuleSpec(fullname, self) if fullname in _NEW_NAMES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make a module, which is filled in `exec_module`."""

    def exec_module(self, module: ModuleType) -> None:
        """Hand on all names of the module under its new name."""
        new = _NEW_NAMES[module.__name__]
        warnings.warn(
            f"`{module.__name__}` is now `{new}`.", DeprecationWarning, stacklevel=2
        )
        names: dict[str, Any] = vars(importlib.import_module(new))
        vars(module).update({k: v for k, v in names.items() if k[:2] != "__"})


sys.meta_path.append(_OldNames())
