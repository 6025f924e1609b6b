"""What applications at a node tell Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Traffic(Protocol):
    """Who knows the figures."""

    def figures(self) -> Iterable[tuple[str, str, bool, float]]:
        """Name, text, whether it only grows, value."""

    def reasons(self) -> Mapping[str, int]:
        """Connections that ended for a reason of the node's."""
