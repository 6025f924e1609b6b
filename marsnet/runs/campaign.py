"""Many runs of one scenario in the virtual or the warp world, in parallel on Dask; nothing is done twice.

The client reads the scenario once for each setting of parameters. Each contact plan is computed once, by a task on
which the runs that need it depend. What a worker that dies had in hand is done again by another one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from marsnet import __version__
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.model.topology import Topology
from marsnet.plan.files import write_plan
from marsnet.plan.types import ContactPlan
from marsnet.runs.execute import perform
from marsnet.runs.finished import PLAN
from marsnet.runs.prepare import TAIL, check_times, check_world, spec_of
from marsnet.sky.planner import plan_contacts

if TYPE_CHECKING:
    from distributed import Client, Future

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?::(\d+))?")
_MOST_VALUES = 1_000_000
CampaignWorld = Literal["virtual", "warp"]
_ATTEMPTS = 5
"""How often a run is tried whose worker dies."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied.

    Attributes:
        name: of a parameter, or `seed`.
        values: in order.
    """

    name: str
    values: tuple[int | str, ...]


@dataclass(frozen=True)
class Point:
    """One run of a campaign.

    Attributes:
        values: of each axis, by name.
        key: names the run by all that determines it: scenario, topology, seed and version of marsnet.
        scenario: with its parameters set.
        topology: likewise.
        base: folder that the topology's paths are relative to.
        seed: of every random draw.
        world: where it runs.
    """

    values: dict[str, int | str]
    key: str
    scenario: Scenario
    topology: Topology
    base: Path
    seed: int
    world: CampaignWorld = "virtual"

    @property
    def plan_key(self) -> str:
        """Names the contact plan that the run needs."""
        return _digest(self.topology.model_dump_json(), self.scenario.start, str(self.scenario.duration))


def parse_axes(texts: Sequence[str]) -> list[Axis]:
    """What `--vary` options say: `seed=1..50`, `orbiters=1..9:2`, `rate=1 Mbit/s,2 Mbit/s`.

    Raises:
        InputError: an option that says nothing, or the same name twice.
    """
    axes: list[Axis] = []
    for text in texts:
        name, _, values = (part.strip() for part in text.partition("="))
        found = tuple(value for part in values.split(",") for value in _values(part.strip(), text))
        if not name or not found:
            raise InputError(
                f"--vary {text!r} varies nothing", remedy="write --vary seed=1..50 or --vary size='1 kB,2 kB'"
            )
        if name in {axis.name for axis in axes}:
            raise InputError(f"--vary {name} stands twice", remedy="give all its values at once, as in 1..4,8")
        if len(set(found)) < len(found):
            raise InputError(f"--vary {text!r} has a value twice", remedy="give each value once")
        axes.append(Axis(name, found))
    return axes


def _values(text: str, option: str) -> Iterable[int | str]:
    if match := _RANGE.fullmatch(text):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if step and (last - first) // step >= _MOST_VALUES:
            raise InputError(
                f"--vary {option!r}: {text!r} has more than {_MOST_VALUES} values", remedy="give a shorter range"
            )
        if first > last or step == 0:
            raise InputError(f"--vary {option!r}: {text!r} is no range", remedy="write it upwards, as 1..50 or 1..9:2")
        return range(first, last + 1, step)
    try:
        return [int(text)]
    except ValueError:
        return [text] if text else []


def points(path: Path, axes: Sequence[Axis], world: CampaignWorld = "virtual") -> list[Point]:
    """All runs of a campaign: every combination of the axes' values, the last one varying fastest.

    Raises:
        InputError: a scenario that cannot be run with one of the combinations.
    """
    found = []
    loaded: dict[tuple[tuple[str, int | str], ...], tuple[Scenario, Topology]] = {}
    for combination in itertools.product(*(axis.values for axis in axes)):
        values = dict(zip((axis.name for axis in axes), combination, strict=True))
        settings = {name: value for name, value in values.items() if name != "seed"}
        place = tuple(settings.items())
        if place not in loaded:
            loaded[place] = load_scenario(path, settings)
            check_times(*loaded[place], path, settings)
            check_world(loaded[place][0], "virtual" if world == "virtual" else "emulated", path, settings)
        scenario, topology = loaded[place]
        seed = _seed(values.get("seed", scenario.seed))
        content = (scenario.model_dump_json(exclude={"topology"}), topology.model_dump_json())
        key = _digest(__version__, *content, str(seed), *(() if world == "virtual" else (world,)))
        base = (path.parent / scenario.topology).resolve().parent
        found.append(Point(values, key, scenario, topology, base, seed, world))
    return found


def _seed(value: int | str) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise InputError(f"--vary seed: {value!r} is no seed", remedy="give whole numbers from 0 on, as in seed=1..50")
    return value


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def plan_for(topology: Topology, start: str, duration: float, base: Path) -> ContactPlan:
    """The contact plan of a run; a task."""
    return plan_contacts(topology, start, duration + TAIL, base_dir=base)


def run_point(point: Point, plan: ContactPlan) -> dict[str, Any]:
    """One run; a task. Returns its verdict, with the values of the axes as `values`."""
    with tempfile.TemporaryDirectory(prefix="marsnet-campaign-") as folder:
        spec = spec_of(point.scenario, point.topology, plan, point.seed, 1.0, Path(folder))
        if point.world != "virtual":
            write_plan(plan, spec.folder / PLAN)
        content = perform(spec, point.world).verdict
    del content["report"], content["frames"]
    return {"key": point.key, "values": point.values} | content


class Results:
    """The finished runs of a campaign: one file each in `runs/`, which a rerun finds again."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made where it does not exist.

        Raises:
            EnvironmentLacksError: it cannot be written.
        """
        self.folder = folder
        self._runs = folder / "runs"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentLacksError(
                f"cannot write to {str(folder)!r}: {error.strerror}", fix="give --output a folder of yours"
            ) from None

    def has(self, point: Point) -> bool:
        """Whether the run is finished. What somebody has damaged is made again."""
        try:
            return "ledger_hash" in json.loads(self._file(point).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return False

    def put(self, point: Point, result: dict[str, Any]) -> None:
        """Keep a run. A file is there whole or not at all."""
        fresh = self._runs / f".{point.key}-{os.getpid()}"
        fresh.write_text(json.dumps(result), encoding="utf-8")
        fresh.replace(self._file(point))

    def get(self, point: Point) -> dict[str, Any]:
        """A finished run, with the values of this campaign's axes."""
        content: dict[str, Any] = json.loads(self._file(point).read_text(encoding="utf-8"))
        return content | {"values": point.values}

    def _file(self, point: Point) -> Path:
        return self._runs / f"{point.key}.json"


@contextmanager
def workers(jobs: int | None, scheduler: str | None) -> Iterator[Client]:
    """A client of a scheduler that runs already, or of one on this machine with so many worker processes.

    What it starts listens on the loopback only and has no dashboard.

    Raises:
        InputError: it is no address.
        EnvironmentLacksError: there is no scheduler at that address.
    """
    # Starting Dask takes most of a second, and only campaigns need it.
    import dask  # noqa: PLC0415
    from distributed import Client, LocalCluster  # noqa: PLC0415

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="10s")
        except ValueError as error:
            raise InputError(
                f"--scheduler {scheduler!r} is no address: {error}", remedy="write it like tcp://host:8786"
            ) from None
        except OSError as error:
            raise EnvironmentLacksError(
                f"no scheduler answers at {scheduler!r}: {error}", fix="start one with 'dask scheduler', and workers"
            ) from None
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": _ATTEMPTS,
        # Nobody looks at the servers of a cluster that lives as long as a campaign.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=jobs or len(os.sched_getaffinity(0)),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run_all(
    todo: Sequence[Point], results: Results, client: Client, done: Callable[[Point, dict[str, Any]], None]
) -> None:
    """Run what lacks; `done` is told of each run as it ends. Every result is kept before the next is looked at.

    Raises:
        MarsnetError: a run could not be made.
    """
    from distributed import KilledWorker, as_completed  # noqa: PLC0415

    plans: dict[str, Future] = {}
    attempts: dict[str, int] = {}

    def submit(point: Point) -> Future:
        if point.plan_key not in plans:
            scenario = point.scenario
            plans[point.plan_key] = client.submit(
                plan_for, point.topology, scenario.start, scenario.duration, point.base, key=f"plan-{point.plan_key}"
            )
        attempt = attempts[point.key] = attempts.get(point.key, 0) + 1
        return client.submit(run_point, point, plans[point.plan_key], key=f"run-{point.key}-{attempt}")

    by_key = {(future := submit(point)).key: (point, future) for point in todo}
    waiting = as_completed([future for _, future in by_key.values()])
    for future in waiting:
        point, _ = by_key.pop(future.key)
        try:
            result = future.result()
        except KilledWorker as error:
            if attempts[point.key] >= _ATTEMPTS:
                raise EnvironmentLacksError(
                    f"the worker that ran {point.values} died {_ATTEMPTS} times: {error}",
                    fix="look at the workers' logs and memory; the finished runs are kept",
                ) from None
            plans.pop(point.plan_key, None)
            again = submit(point)
            by_key[again.key] = point, again
            waiting.add(again)
            continue
        results.put(point, result)
        done(point, result)
