"""`python -m marsnet.dtn.node --config FILE`: a node, with nothing imported that a node does not need."""

from __future__ import annotations

import gc

# Nothing of what is imported is garbage, and looking for some takes a seventh of the time; `serve` switches it on.
gc.disable()

import argparse  # noqa: E402
import asyncio  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

# Looking for plug-ins among all that is installed, of which there are none, takes as long as ten modules.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from marsnet.dtn.node.config import load_config  # noqa: E402
from marsnet.dtn.node.daemon import serve  # noqa: E402
from marsnet.errors import MarsnetError  # noqa: E402


def main() -> int:
    """Run a node until SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="marsnet node")
    parser.add_argument("--config", type=Path, required=True, help="the node's configuration, YAML or JSON")
    path = parser.parse_args().config
    try:
        asyncio.run(serve(load_config(path), path.resolve().parent))
    except MarsnetError as error:
        print(f"marsnet: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
