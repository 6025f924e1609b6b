"""marsnet: rehearse the Mars Telecommunications Network before it flies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import marsnet.compiled  # noqa: F401  Before all else: it decides which code the modules to come are of.

if TYPE_CHECKING:
    from marsnet.runs.execute import Run
    from marsnet.runs.scripted import Scenario

__all__ = ["Run", "Scenario", "__version__"]
__version__ = "0.1.0"
_HOMES = {"Run": "marsnet.runs.execute", "Scenario": "marsnet.runs.scripted"}


def __getattr__(name: str) -> Any:
    # `import marsnet` must stay light: every room imports it for the version.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
