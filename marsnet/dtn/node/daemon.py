"""A bundle node as a process: sockets, store, ledger and interfaces around the agent."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsnet.clock import MissionClock, parse_utc
from marsnet.dtn.apps.secrets import read_secret
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.door import Door, Serve
from marsnet.dtn.node.gateway import Gateway
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.ledger import FileLedger, delivered_since
from marsnet.dtn.node.log import start_log
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.network import EPOCH, network_of, on_epoch
from marsnet.dtn.node.questions import answers
from marsnet.dtn.node.runner import NodeRunner
from marsnet.dtn.node.storage import open_store
from marsnet.dtn.node.transports import Silence, connected_layers, ltp_transport
from marsnet.dtn.store import StoreError
from marsnet.plan.types import ContactPlan

if TYPE_CHECKING:
    from marsnet.dtn.apps.aap2_server import Aap2Server

log = logging.getLogger(__name__)
_GARBAGE = (20_000, 20, 20)
"""Objects between two looks for garbage: bundles leave little, and with the usual 700 one of 1 kB takes 8 % longer."""


class NodeDaemon:
    """One node from start to SIGTERM.

    A clock and a plan that came over HTTP are kept in the state directory, so that a node that was killed goes on by
    itself.
    """

    def __init__(self, config: NodeConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._state = folder / (config.state or ".")
        self._plan = self._read_plan()
        self._loop = asyncio.get_running_loop()
        self._metrics = NodeMetrics(config.name)
        self._transport = ltp_transport(config, self._loop)
        self._layers: list[Layer] = []
        self._store = open_store(config, self._state / "store")
        self._ledger_file = folder / (config.ledger or self._state / "ledger.jsonl")
        self._ledger = FileLedger(self._ledger_file)
        self._runner: NodeRunner | None = None
        self._starting = False
        self._gateway: Gateway | None = None
        self._aap2: Aap2Server | None = None
        self._other_plans: dict[Path, ContactPlan] = {}
        self._ended = asyncio.Event()
        self._failure: StoreError | None = None
        self._defect_file = self._state / "defects"
        self._defects = _lines(self._defect_file)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            StoreError: the store is damaged or cannot be used any more. A node that cannot keep its word ends.
        """
        self._loop.set_exception_handler(self._failed)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._ended.set)
        door = self._open_door()
        clock = self._clock()
        if clock is not None:
            self._starting = True
            await self._start(clock)
        print(f"node {self._config.name} ready", flush=True)
        # Of some 45,000 objects 500 are garbage by now: looking for them takes as much as an hour of doing nothing.
        gc.freeze()
        # Whoever starts a node may have switched it off while all was imported.
        gc.set_threshold(*_GARBAGE)
        gc.enable()
        try:
            await self._ended.wait()
        finally:
            # What applications have in their hands goes back while there is a store that it can go back to.
            if door is not None:
                await door.close()
            if self._aap2 is not None:
                await self._aap2.close()
            if self._runner is not None:
                self._runner.stop()
            for layer in self._layers:
                layer.close()
            if self._transport is not None:
                self._transport.close()
            try:
                self._store.close()
            except StoreError as error:
                self._failure = self._failure or error
            self._ledger.close()
        if self._failure is not None:
            raise self._failure

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something went wrong where nobody waits for it."""
        error = context.get("exception")
        if isinstance(error, StoreError):
            self._failure = self._failure or error
            self._ended.set()
        else:
            self._defects += 1
            # A node that is killed and started again must not look sound; its log says the rest.
            with suppress(OSError), self._defect_file.open("a", encoding="utf-8") as defects:
                defects.write(f"{(error or context['message'])!r}\n")
            loop.default_exception_handler(context)

    async def _open_aap2(self, gateway: Gateway) -> None:
        wish = self._config.applications.aap2
        if wish.socket is None and wish.tcp is None:
            return
        # Few nodes speak it, and protobuf takes its time to be imported.
        from marsnet.dtn.apps.aap2_server import Aap2Server  # noqa: PLC0415

        self._aap2 = Aap2Server(wish, self._folder, gateway)
        await self._aap2.open()
        self._metrics.applications.append(self._aap2)

    @property
    def _kept_plan(self) -> Path:
        return self._state / "plan.set.json"

    def _keep_plan(self, plan: ContactPlan) -> None:
        from marsnet.plan.files import write_plan  # noqa: PLC0415

        write_plan(plan, self._kept_plan)

    def _read_plan(self) -> ContactPlan | None:
        kept, given = self._kept_plan, self._config.plan
        if given is None and not kept.exists():
            return None
        # Readers of plans take long to import.
        from marsnet.plan.files import read_plan  # noqa: PLC0415

        return read_plan(kept if given is None or kept.exists() else self._folder / given)

    def _clock(self) -> ClockConfig | None:
        clock = self._config.clock
        if clock == "utc":
            # The host's clock may be set while the node runs: it counts on from what it was.
            since = time.time() - time.monotonic() - parse_utc(EPOCH).timestamp()
            return ClockConfig(epoch=EPOCH, rate=1.0, origin=-since)
        return self._kept_clock() if clock == "wait" else clock

    async def _start(self, clock: ClockConfig) -> None:
        flows = tuple(
            flow if flow.file is None else flow.model_copy(update={"file": self._folder / flow.file})
            for flow in self._config.flows
        )
        config = self._config.model_copy(update={"clock": clock, "flows": flows})
        mission = MissionClock(clock.epoch, clock.rate, clock.origin)
        plan = self._network(clock.epoch)
        self._layers = connected_layers(config, plan.nodes, mission, self._folder, self._loop)
        for layer in self._layers:
            await layer.open()
        mark = self._store.get("node", "ledger")
        delivered = delivered_since(self._ledger_file, None if mark is None else int.from_bytes(mark, "big"))
        now = mission.to_mission(self._loop.time())
        agent = BundleAgent(
            config,
            plan,
            self._store,
            self._ledger,
            self._metrics,
            now,
            delivered,
            self._layers,
            self._state / "delivered",
            trains=True,
        )
        self._runner = NodeRunner(agent, self._transport or Silence(), self._loop)
        if self._transport is not None:
            self._metrics.sockets["ltp"] = self._transport
            self._transport.open(self._runner.receive, self._runner.heed)
        self._gateway = Gateway(self._runner, plan, self._loop, self._keep_plan, self._state / "keys.json")
        self._runner.start()
        await self._open_aap2(self._gateway)
        log.info("started", extra={"epoch": clock.epoch, "rate": clock.rate, "neighbours": sorted(config.neighbours)})

    @property
    def _clock_file(self) -> Path:
        return self._state / "clock.json"

    def _kept_clock(self) -> ClockConfig | None:
        try:
            return ClockConfig.model_validate_json(self._clock_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _open_door(self) -> Door | None:
        """Listen for HTTP. What is wrong with its configuration is told now, the rest is imported when it is used."""
        address, wish = self._config.metrics, self._config.applications
        if address is None:
            return None
        token = None if wish.token is None else read_secret(self._folder / wish.token, "token")

        def prepare() -> Serve:
            from marsnet.dtn.apps.api import NodeApi  # noqa: PLC0415
            from marsnet.dtn.node.http import serve_http  # noqa: PLC0415

            api = NodeApi(wish, token, lambda: self._gateway, self._metrics.exposition)
            return lambda listener: serve_http(listener, api, asked)

        asked = answers(self.status, self._begin, self._impose)
        # What wants a token is for the server to judge.
        return Door(address, asked if token is None else {}, prepare, self._loop)

    def status(self) -> dict[str, Any]:
        """What the node says of itself, as `GET /status` answers."""
        usage = self._store.usage
        lateness = self._metrics.lateness
        return {
            "name": self._config.name,
            "number": self._config.number,
            "running": self._runner is not None,
            "defects": self._defects,
            "store": {"bundles": usage.bundles, "bytes": usage.size},
            "unsent_datagrams": {} if self._transport is None else dict(self._transport.lost),
            "unknown_datagrams": 0 if self._transport is None else self._transport.unknown,
            "lateness": {
                "deadlines": lateness.count,
                "p50": lateness.at_most(0.5),
                "p99": lateness.at_most(0.99),
                "max": lateness.largest,
            },
        }

    async def _begin(self, clock: ClockConfig) -> bool:
        """Start on a clock that came over HTTP, and keep it; returns whether the node had none."""
        if self._runner is not None or self._starting:
            return False
        self._starting = True
        fresh = self._clock_file.with_suffix(".new")
        fresh.write_text(clock.model_dump_json(), encoding="utf-8")
        fresh.replace(self._clock_file)
        await self._start(clock)
        return True

    def _impose(self, conditions: Conditions) -> bool:
        """Live under a fault's conditions from now on; returns whether there is a clock to do so by."""
        if self._runner is None:
            return False
        self._runner.impose(conditions, self._network(self._runner.agent.clock.epoch, conditions.plan))
        return True

    def _network(self, epoch: str, file: Path | None = None) -> ContactPlan:
        """The network by the plan in a file, or by the node's own."""
        if file is not None and file not in self._other_plans:
            from marsnet.plan.files import read_plan  # noqa: PLC0415

            self._other_plans[file] = read_plan(self._folder / file)
        plan = self._plan if file is None else self._other_plans[file]
        return network_of(self._config, None if plan is None else on_epoch(plan, epoch))


def _lines(file: Path) -> int:
    """Lines of a file; none where there is no file."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


async def serve(config: NodeConfig, folder: Path) -> None:
    """Run a node until it is told to end. Relative paths of the configuration are relative to `folder`."""
    start_log(config.name, config.log)
    await NodeDaemon(config, folder).run()
