"""The compiled part of routing (kernel.c), or a clear error where it was not built."""

from __future__ import annotations

from marsnet.errors import EnvironmentLacksError

_VERSION = 2
_FIX = "python setup.py build_ext --inplace, or pip install -e ."

try:
    from marsnet.dtn.routing._kernel import VERSION, Cell, Net, depart, give, project, take
except ImportError as error:
    raise EnvironmentLacksError("the compiled kernel of routing is missing or of another version", fix=_FIX) from error
if VERSION != _VERSION:
    raise EnvironmentLacksError(f"the compiled kernel of routing is of version {VERSION}, not {_VERSION}", fix=_FIX)

__all__ = ["Cell", "Net", "depart", "give", "project", "take"]
