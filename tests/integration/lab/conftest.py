"""Labs for tests: each is built in a thread of its own, which enters the lab's namespace while pytest stays outside."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from marsnet.clock import MissionClock
from marsnet.plan import jsonplan
from marsnet.plan.stream import as_stream
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.worlds import images
from marsnet.worlds.lab import Lab, LinkSpec, NodeSpec

EPOCH = "2026-10-01T00:00:00Z"
LINKS = (LinkSpec("wan", "mcc", "dss"), LinkSpec("x", "dss", "mro"), LinkSpec("uhf", "mro", "rover"))
_NODES = (("mcc", 1, "earth"), ("dss", 2, "earth"), ("mro", 3, "mars"), ("rover", 300, "mars"))


@pytest.fixture(scope="session")
def image() -> str:
    return images.ensure_base()


@pytest.fixture
def nodes(image: str, tmp_path: Path) -> list[NodeSpec]:
    """A mission control, a station, an orbiter and a rover, all of them idle."""
    return [
        NodeSpec(name, number, segment, image, ("sleep", "infinity"), state_dir=tmp_path / "state" / name)  # type: ignore[arg-type]
        for name, number, segment in _NODES
    ]


class LabInThread:
    """A lab whose `up` and `down` run in a thread of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._thread = ThreadPoolExecutor(1)

    def up(self) -> bool:
        return self._thread.submit(self.lab.up).result()

    def down(self) -> None:
        self._thread.submit(self.lab.down).result()
        self._thread.shutdown()


LabMaker = Callable[..., Lab]


@pytest.fixture
def make_lab(nodes: list[NodeSpec], tmp_path: Path) -> Iterator[LabMaker]:
    """Builds labs that are taken down when the test ends."""
    made: list[LabInThread] = []

    def make(*, delay_line: bool = False, run: str = "", quiet: bool = False) -> Lab:
        name = f"t-{uuid.uuid4().hex[:8]}"
        lab = Lab(name, nodes, LINKS, run_dir=tmp_path / name, run=run, delay_line=delay_line, quiet=quiet)
        made.append(LabInThread(lab))
        assert made[-1].up()
        return lab

    yield make
    for holder in made:
        holder.down()


def always() -> list[Contact]:
    """Every link open for ever, in both directions."""
    return [
        Contact(link.name, *ends, -1e6, 1e9, 1e6) for link in LINKS for ends in ((link.a, link.b), (link.b, link.a))
    ]


def write_plan(
    path: Path, contacts: Sequence[Contact], ranges: Sequence[Range] = (), start: float = 0.0, end: float = 1e6
) -> Path:
    numbers = {name: number for name, number, _ in _NODES}
    ordered = tuple(sorted(contacts, key=lambda c: c.start))
    plan = ContactPlan(EPOCH, start, end, numbers, ordered, tuple(ranges))
    with path.open("w") as out:
        jsonplan.write(as_stream(plan), out)
    return path


def clock_now(rate: float = 1.0, ahead: float = 0.0) -> MissionClock:
    """A clock whose mission time 0 is `ahead` host seconds from now."""
    return MissionClock(EPOCH, rate, time.monotonic() + ahead)


def ping(lab: Lab, source: str, target: str, count: int = 1, wait: float = 1.0) -> int:
    """How many of `count` pings are answered."""
    _, output = lab.tool(
        source, ["ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", str(wait), lab.address(target)]
    )
    return int(output.split(" received")[0].rsplit(None, 1)[-1])
