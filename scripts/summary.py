"""Adds up the JUnit files of several pytest runs into one line: `N passed, N failed, N skipped`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree


def add_up(files: Iterable[Path]) -> tuple[int, int, int]:
    """Tests passed, failed (errors included) and skipped in all the files."""
    passed = failed = skipped = 0
    for file in files:
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):  # noqa: S314 - pytest wrote them
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            left_out = int(suite.get("skipped", 0))
            failed, skipped = failed + bad, skipped + left_out
            passed += int(suite.get("tests", 0)) - bad - left_out
    return passed, failed, skipped


if __name__ == "__main__":
    print("{} passed, {} failed, {} skipped".format(*add_up(Path(name) for name in sys.argv[1:])))
