"""Prints the ids of all containers of labs; with `--remove-others FILE`, removes those that the file does not list.

The check of a whole checkout (`.ci/run`) notes before it begins which labs a person has up, and afterwards removes only
what its own tests left.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path

from frame import daemon, say

LABEL = "marsnet.lab"


def ids() -> set[str]:
    """Ids of the containers that carry a lab's label, running or not; none where no daemon answers this user."""
    try:
        if not daemon.answers():
            return set()
    except PermissionError:
        return set()
    filters = urllib.parse.quote(json.dumps({"label": [LABEL]}))
    _, body = daemon.request("GET", f"/containers/json?all=1&filters={filters}")
    return {str(container["Id"]) for container in json.loads(body)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--remove-others"]:
        for leftover in sorted(ids() - set(Path(sys.argv[2]).read_text().split())):
            say.step(f"removing the container {leftover[:12]} that a test left")
            daemon.request("DELETE", f"/containers/{leftover}?force=1&v=1")
    else:
        print("\n".join(sorted(ids())))
