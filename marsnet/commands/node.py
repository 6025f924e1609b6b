"""`marsnet node`: run one bundle node, in a container of a lab or anywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def node(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, YAML or JSON.")],
) -> None:
    """Run a bundle node until SIGTERM."""
    # A node starts in a fraction of the time when the rest of marsnet is not imported.
    import asyncio  # noqa: PLC0415

    from marsnet.dtn.node.config import load_config  # noqa: PLC0415
    from marsnet.dtn.node.daemon import serve  # noqa: PLC0415

    asyncio.run(serve(load_config(config), config.resolve().parent))
