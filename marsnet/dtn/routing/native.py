"""The compiled part of routing (kernel.c), or a clear error where it was not built."""

from __future__ import annotations

from marsnet.errors import EnvironmentLacksError

try:
    from marsnet.dtn.routing._kernel import Cell, Net, depart, give, project, take
except ImportError as error:
    raise EnvironmentLacksError(
        "the compiled kernel of routing is missing or of another version",
        fix="python setup.py build_ext --inplace, or pip install -e .",
    ) from error

__all__ = ["Cell", "Net", "depart", "give", "project", "take"]
