"""Pictures of a plan: who can talk when, light time and rate over time, and where everybody is."""

from __future__ import annotations

from pathlib import Path

from marsnet.errors import InputError
from marsnet.model.topology import Topology
from marsnet.plan.types import ContactPlan

SUFFIXES = (".html", ".png")


def check_suffix(path: str | Path) -> None:
    """Refuse files that are neither HTML nor PNG.

    Raises:
        InputError: naming the file.
    """
    if Path(path).suffix not in SUFFIXES:
        raise InputError(f"no picture can be drawn as {str(path)!r}", remedy="name a file that ends in .html or .png")


def plot_plan(
    plan: ContactPlan, path: str | Path, *, topology: Topology | None = None, base_dir: Path | None = None
) -> None:
    """Draw a plan.

    The HTML page needs no network and can be zoomed; the PNG is for papers and chats.

    Args:
        plan: what to draw.
        path: `.html` or `.png` file to write.
        topology: nodes, for the view of the orbits; without it that view is left out.
        base_dir: what paths of ephemeris files in the topology are relative to.

    Raises:
        InputError: when the file is neither HTML nor PNG, or cannot be written.
    """
    check_suffix(path)
    # The drawing libraries take most of a second to load, and few commands draw.
    if Path(path).suffix == ".png":
        from marsnet.sky.plot_png import draw as draw_png  # noqa: PLC0415

        draw_png(plan, Path(path), topology, base_dir or Path())
    else:
        from marsnet.sky.plot_html import draw as draw_html  # noqa: PLC0415

        draw_html(plan, Path(path), topology, base_dir or Path())
