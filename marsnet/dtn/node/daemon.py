"""A bundle node as a process: sockets, store and ledger around the agent, and an HTTP interface for its operator.

GET  /status    figures of the process, as JSON
PUT  /clock     {"epoch", "rate", "origin"}: start on this mission clock, if the configuration gave none
PUT  /conditions what a fault imposes on the node, as `Conditions` says; {} ends it

What else there is, for applications and operators, says `/openapi.json`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import ValidationError

from marsnet.dtn.apps.api import NodeApi
from marsnet.dtn.apps.figures import ApplicationFigures
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.gateway import Gateway
from marsnet.dtn.node.ledger import FileLedger, Step, read_ledgers
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.runner import NodeRunner
from marsnet.dtn.node.udp import UdpTransport
from marsnet.dtn.store import BundleStore
from marsnet.errors import InputError
from marsnet.plan.files import read_plan, write_plan
from marsnet.plan.types import ContactPlan

if TYPE_CHECKING:
    from marsnet.dtn.apps.aap2_server import Aap2Server

_PATIENCE = 2.0
"""Host seconds that requests under way get when the node ends."""


class NodeDaemon:
    """One node from start to SIGTERM.

    A clock and a plan that came over HTTP are kept in the state directory, so that a node that was killed goes on by
    itself.
    """

    def __init__(self, config: NodeConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._state = config.state or folder
        kept = self._kept_plan
        self._plan = read_plan(kept if kept.exists() else folder / config.plan)
        self._loop = asyncio.get_running_loop()
        self._metrics = NodeMetrics(config.name)
        self._transport = UdpTransport(config, self._loop)
        self._store = BundleStore(self._state / "store", quota_bytes=config.quota, sync=config.durability == "power")
        self._ledger_file = config.ledger or self._state / "ledger.jsonl"
        self._ledger = FileLedger(self._ledger_file)
        self._runner: NodeRunner | None = None
        self._gateway: Gateway | None = None
        self._aap2: Aap2Server | None = None
        self._other_plans: dict[Path, ContactPlan] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._ended.set)
        web_runner = await self._serve()
        clock = self._config.clock or self._kept_clock()
        if clock is not None:
            await self._start(clock)
        print(f"node {self._config.name} ready", flush=True)
        gc.collect()
        gc.freeze()
        try:
            await self._ended.wait()
        finally:
            # What applications have in their hands goes back while there is a store that it can go back to.
            if web_runner is not None:
                await web_runner.cleanup()
            if self._aap2 is not None:
                await self._aap2.close()
            if self._runner is not None:
                self._runner.stop()
            self._transport.close()
            self._store.close()
            self._ledger.close()

    async def _start(self, clock: ClockConfig) -> None:
        flows = tuple(
            flow if flow.file is None else flow.model_copy(update={"file": self._folder / flow.file})
            for flow in self._config.flows
        )
        config = self._config.model_copy(update={"clock": clock, "flows": flows})
        delivered = (r.bundle for r in read_ledgers([self._ledger_file]) if r.step == Step.DELIVERED)
        now = (self._loop.time() - clock.origin) * clock.rate
        agent = BundleAgent(
            config,
            self._plan,
            self._store,
            self._ledger,
            self._metrics,
            now,
            delivered,
            folder=self._state / "delivered",
        )
        self._runner = NodeRunner(agent, self._transport, self._loop)
        self._transport.open(self._runner.receive, self._runner.pump)
        self._gateway = Gateway(self._runner, self._plan, self._loop, self._keep_plan, self._state / "keys.json")
        self._runner.start()
        await self._open_aap2(self._gateway)

    async def _open_aap2(self, gateway: Gateway) -> None:
        wish = self._config.applications.aap2
        if wish.socket is None and wish.tcp is None:
            return
        # Few nodes speak it, and protobuf takes its time to be imported.
        from marsnet.dtn.apps.aap2_server import Aap2Server  # noqa: PLC0415

        self._aap2 = Aap2Server(wish, self._folder, gateway)
        await self._aap2.open()
        self._metrics.registry.register(ApplicationFigures(self._config.name, self._aap2))

    @property
    def _kept_plan(self) -> Path:
        return self._state / "plan.set.json"

    def _keep_plan(self, plan: ContactPlan) -> None:
        write_plan(plan, self._kept_plan)

    @property
    def _clock_file(self) -> Path:
        return self._state / "clock.json"

    def _kept_clock(self) -> ClockConfig | None:
        try:
            return ClockConfig.model_validate_json(self._clock_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    async def _serve(self) -> web.AppRunner | None:
        if self._config.metrics is None:
            return None
        api = NodeApi(self._config.applications, self._folder, lambda: self._gateway, self._metrics.exposition)
        app = api.application()
        app.add_routes(
            [
                web.get("/status", self._get_status),
                web.put("/clock", self._put_clock),
                web.put("/conditions", self._put_conditions),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_PATIENCE)
        await runner.setup()
        address, port = self._config.metrics
        await web.TCPSite(runner, address, port).start()
        return runner

    async def _get_status(self, request: web.Request) -> web.Response:
        usage = self._store.usage
        lateness = sorted(self._metrics.lateness)
        return web.json_response(
            {
                "name": self._config.name,
                "number": self._config.number,
                "running": self._runner is not None,
                "store": {"bundles": usage.bundles, "bytes": usage.size},
                "unsent_datagrams": dict(self._transport.lost),
                "unknown_datagrams": self._transport.unknown,
                "lateness": {
                    "deadlines": len(lateness),
                    "p50": lateness[len(lateness) // 2] if lateness else 0.0,
                    "p99": lateness[len(lateness) * 99 // 100] if lateness else 0.0,
                    "max": lateness[-1] if lateness else 0.0,
                },
            }
        )

    async def _put_clock(self, request: web.Request) -> web.Response:
        if self._runner is not None:
            return web.json_response({"error": "the node runs on a clock already"}, status=409)
        try:
            clock = ClockConfig.model_validate_json(await request.text())
        except ValidationError as error:
            return web.json_response({"error": json.loads(error.json())}, status=400)
        fresh = self._clock_file.with_suffix(".new")
        fresh.write_text(clock.model_dump_json(), encoding="utf-8")
        fresh.replace(self._clock_file)
        await self._start(clock)
        return web.json_response({"running": True})

    async def _put_conditions(self, request: web.Request) -> web.Response:
        """Live under a fault's conditions from now on; `{}` ends them."""
        if self._runner is None:
            return web.json_response({"error": "the node has no clock yet"}, status=409)
        try:
            conditions = Conditions.model_validate_json(await request.text())
            plan = self._plan if conditions.plan is None else self._other_plan(conditions.plan)
            self._runner.impose(conditions, plan)
        except ValidationError as error:
            return web.json_response({"error": json.loads(error.json())}, status=400)
        except InputError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(conditions.model_dump(mode="json"))

    def _other_plan(self, file: Path) -> ContactPlan:
        if file not in self._other_plans:
            self._other_plans[file] = read_plan(self._folder / file)
        return self._other_plans[file]


async def serve(config: NodeConfig, folder: Path) -> None:
    """Run a node until it is told to end. Relative paths of the configuration are relative to `folder`."""
    await NodeDaemon(config, folder).run()
