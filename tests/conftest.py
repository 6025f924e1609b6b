"""What machine code cannot be asked: tests that put their own methods in its place run on the interpreted sources."""

from __future__ import annotations

import pytest

from marsnet import compiled


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not compiled.ACTIVE:
        return
    skip = pytest.mark.skip(reason="replaces methods of compiled classes; MARSNET_INTERPRETED=1 runs it")
    for item in items:
        if item.get_closest_marker("interpreted") is not None:
            item.add_marker(skip)
