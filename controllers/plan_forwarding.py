"""The application: every switch of a segment forwards by the contact plan, ahead of time.

Nothing is decided when a packet arrives. The tables of all times follow from the plan; the application sleeps until the
next one is due, lays the new entries, then takes up the old. A switch that loses its controller keeps forwarding by
the table it has (fail mode secure), and is brought up to date when it comes back.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controllers import flows, settings, stack
from controllers.api import Answer, ApiServer
from controllers.flows import Entry, Purpose
from controllers.paths import PathFinder, Table
from controllers.telemetry import Telemetry
from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.plan import jsonplan
from marsnet.plan.types import ContactPlan

SETTINGS_VARIABLE = "MARSNET_CONTROLLER_SETTINGS"
"""Environment variable with the path of the settings file (`controllers.settings`)."""
LISTENING = "listening"
"""What the log says once switches and clients can connect."""
_REPLY_TIMEOUT = 5.0
"""Host seconds within which a switch answers."""
_LONGEST_SLEEP = 86400.0
"""Host seconds; the kernel's timers do not take an arbitrarily long wait."""
_ETH_IPV4 = 0x0800

_events, _states = stack.ofp_event, stack.handler


@dataclass
class _Question:
    """Something asked of a switch: the parts of its answer, and whether the answer is complete."""

    done: Any
    parts: list[Any] = field(default_factory=list)
    answered: bool = False

    def close(self, *, answered: bool) -> None:
        self.answered = answered
        self.done.set()


@dataclass
class _Managed:
    """What the application knows about one of its switches."""

    switch: settings.Switch
    standing: set[Entry]
    table: Table
    datapath: Any = None
    programmed: bool = False
    installed: set[Entry] = field(default_factory=set)

    def wanted(self, numbers: dict[str, int]) -> set[Entry]:
        return self.standing | flows.forwarding(self.table.ports, numbers)


class PlanForwarding(stack.App):  # type: ignore[misc]
    """Executes the contact plan on the switches of one segment."""

    OFP_VERSIONS = (stack.ofproto.OFP_VERSION,)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.settings = settings.read(Path(os.environ[SETTINGS_VARIABLE]))
        self.clock = self.settings.clock
        self.plan = jsonplan.read(self.settings.plan.read_text(), self.settings.plan)
        self.numbers = self.settings.numbers()
        self.telemetry = Telemetry(self.settings)
        self.generation = self.revision = 0
        self._addresses = {switch.number: switch.address for switch in self.settings.switches}
        self._wake, self._progress = stack.hub.Event(), stack.hub.Event()
        self._questions: dict[tuple[int, int], _Question] = {}
        # Messages of two threads to one switch must not mix: the difference that each sends builds on the other's.
        self._sending = stack.hub.Semaphore(1)
        self._finder = self._make_finder()
        now = self.clock.now()
        self.managed = {
            switch.number: _Managed(
                switch,
                flows.standing(switch.number, switch.host_port, self.numbers),
                self._finder.table(switch.node, now),
            )
            for switch in self.settings.own()
        }

    def start(self) -> Any:
        """Start the event loop, the schedule and the HTTP interface."""
        thread = super().start()
        stack.hub.spawn(self._follow_schedule)
        ApiServer(self.settings.api_port, self.answer, stack.hub.spawn).start()
        # The OpenFlow listener was spawned before this application started, so it has its turn first.
        stack.hub.spawn(self.logger.info, LISTENING)
        return thread

    def _make_finder(self) -> PathFinder:
        ports = {switch.node: switch.ports for switch in self.settings.switches}
        return PathFinder(self.plan, ports, self.settings.guard * self.clock.rate)

    # The schedule

    def _follow_schedule(self) -> None:
        while True:
            self._wake.clear()
            now = self.clock.now()
            due = [managed for managed in self.managed.values() if managed.table.until <= now]
            if due:
                deadline = min(managed.table.until for managed in due)
                self._execute(due, self.clock.to_monotonic(deadline))
                continue
            following = min((managed.table.until for managed in self.managed.values()), default=math.inf)
            left = min(self.clock.to_monotonic(following) - time.monotonic(), _LONGEST_SLEEP)
            if left > 0:
                self._wake.wait(left)

    def _execute(self, due: list[_Managed], deadline: float | None) -> None:
        """Bring these switches to the table of now, and measure how late the last of them obeyed."""
        with self._sending:
            now = self.clock.now()
            for managed in due:
                managed.table = self._finder.table(managed.switch.node, now)
            self._send([managed for managed in due if managed.programmed])
        if deadline is not None:
            self.telemetry.lateness.observe(max(time.monotonic() - deadline, 0.0))
        self._announce()

    def _send(self, targets: list[_Managed]) -> None:
        """Send each switch the difference to what it has, and wait until all have obeyed."""
        pending = []
        for managed in targets:
            wanted = managed.wanted(self.numbers)
            added, removed = wanted - managed.installed, managed.installed - wanted
            if added or removed:
                for entry in sorted(added, key=lambda entry: entry.purpose):
                    self._flow_mod(managed.datapath, entry, remove=False)
                for entry in removed:
                    self._flow_mod(managed.datapath, entry, remove=True)
                managed.installed = wanted
                self.telemetry.changes.inc(len(added) + len(removed))
                pending.append((managed, self._ask(managed.datapath, self._parser(managed).OFPBarrierRequest)))
        for managed, key in pending:
            if self._await(key) is None and managed.datapath is not None:
                self.logger.error("switch of %s does not confirm its flows", managed.switch.node)
                self.telemetry.errors.inc()

    def _flow_mod(self, datapath: Any, entry: Entry, *, remove: bool) -> None:
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        match = parser.OFPMatch()
        if entry.purpose is not Purpose.MISS:
            match = parser.OFPMatch(eth_type=_ETH_IPV4, ipv4_dst=self._addresses[entry.destination])
        actions = [parser.OFPActionOutput(entry.port)] if entry.port else []
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                command=protocol.OFPFC_DELETE_STRICT if remove else protocol.OFPFC_ADD,
                cookie=entry.cookie,
                priority=entry.priority,
                match=match,
                instructions=[parser.OFPInstructionActions(protocol.OFPIT_APPLY_ACTIONS, actions)] if actions else [],
                flags=protocol.OFPFF_SEND_FLOW_REM,
                out_port=protocol.OFPP_ANY,
                out_group=protocol.OFPG_ANY,
            )
        )

    # Questions to switches

    @staticmethod
    def _parser(managed: _Managed) -> Any:
        return managed.datapath.ofproto_parser

    def _ask(self, datapath: Any, request: Any) -> tuple[int, int]:
        message = request(datapath)
        datapath.set_xid(message)
        key = (datapath.id, message.xid)
        self._questions[key] = _Question(stack.hub.Event())
        datapath.send_msg(message)
        return key

    def _await(self, key: tuple[int, int]) -> list[Any] | None:
        """The parts of the answer to a question; None when the switch does not answer in time, or is gone."""
        question = self._questions[key]
        question.done.wait(_REPLY_TIMEOUT)
        del self._questions[key]
        return question.parts if question.answered else None

    def entries_of(self, managed: _Managed) -> dict[Entry, int] | None:
        """The entries that a switch has and the packets each has seen; None when it does not answer."""
        if managed.datapath is None:
            return None
        parts = self._await(self._ask(managed.datapath, self._parser(managed).OFPFlowStatsRequest))
        if parts is None:
            return None
        reported = ((flows.entry_of(stat.cookie), stat.packet_count) for part in parts for stat in part)
        return {entry: packets for entry, packets in reported if entry is not None}

    @stack.on(_events.EventOFPFlowStatsReply, _states.MAIN_DISPATCHER)
    def on_flow_stats(self, event: Any) -> None:
        """A switch reports its entries, perhaps in several parts."""
        message = event.msg
        question = self._questions.get((message.datapath.id, message.xid))
        if question is not None:
            question.parts.append(message.body)
            if not message.flags & message.datapath.ofproto.OFPMPF_REPLY_MORE:
                question.close(answered=True)

    @stack.on(_events.EventOFPBarrierReply, _states.MAIN_DISPATCHER)
    def on_barrier(self, event: Any) -> None:
        """A switch has carried out everything that was sent before the question."""
        question = self._questions.get((event.msg.datapath.id, event.msg.xid))
        if question is not None:
            question.close(answered=True)

    # Life of a switch

    @stack.on(_events.EventOFPStateChange, _states.MAIN_DISPATCHER, _states.DEAD_DISPATCHER)
    def on_state(self, event: Any) -> None:
        """A switch has connected or is gone."""
        datapath = event.datapath
        managed = self.managed.get(datapath.id) if datapath.id is not None else None
        if managed is None:
            self.logger.warning("a switch with datapath id %s is none of this segment", datapath.id)
        elif event.state == _states.MAIN_DISPATCHER:
            managed.datapath, managed.programmed = datapath, False
            stack.hub.spawn(self._adopt, managed)
        elif managed.datapath is datapath:
            managed.datapath, managed.programmed = None, False
            for (number, _), question in self._questions.items():
                if number == datapath.id:
                    question.close(answered=False)
            self.logger.warning("the switch of %s is disconnected", managed.switch.node)
            self._announce()

    def _adopt(self, managed: _Managed) -> None:
        """Learn what a switch still has from before, then bring it to the table of now without a gap."""
        datapath, have = managed.datapath, self.entries_of(managed)
        if have is None:
            self.telemetry.errors.inc()
            return
        with self._sending:
            managed.installed = set(have)
            managed.table = self._finder.table(managed.switch.node, self.clock.now())
            self._send([managed])
            managed.programmed = datapath is not None and managed.datapath is datapath
        self.logger.info("the switch of %s forwards by the plan", managed.switch.node)
        self._wake.set()
        self._announce()

    def _announce(self) -> None:
        """Wake whoever waits for a change of the state."""
        self.revision += 1
        previous, self._progress = self._progress, stack.hub.Event()
        previous.set()

    @stack.on(_events.EventOFPFlowRemoved, _states.MAIN_DISPATCHER)
    def on_removed(self, event: Any) -> None:
        """An entry is gone; what it counted stays counted."""
        entry, managed = flows.entry_of(event.msg.cookie), self.managed.get(event.msg.datapath.id)
        if entry is not None and managed is not None:
            self.telemetry.retire(managed.switch.node, entry, event.msg.packet_count)

    @stack.on(_events.EventOFPPacketIn, _states.MAIN_DISPATCHER)
    def on_packet_in(self, event: Any) -> None:
        """No entry sends packets here; one that comes all the same is counted."""
        self.telemetry.packet_ins.inc()

    @stack.on(_events.EventOFPErrorMsg, _states.CONFIG_DISPATCHER, _states.MAIN_DISPATCHER)
    def on_error(self, event: Any) -> None:
        """A switch refuses a message."""
        self.logger.error("a switch refuses a message: type %s code %s", event.msg.type, event.msg.code)
        self.telemetry.errors.inc()

    # The HTTP interface

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """Answer one request of the HTTP interface; docs/controllers.md describes it."""
        route = (method, path)
        if route == ("GET", "/metrics"):
            return Answer(200, self.telemetry.expose(self._survey()), "text/plain; version=0.0.4; charset=utf-8")
        if route == ("GET", "/state"):
            return Answer.of_json(200, self.state())
        try:
            timeout = float(query.get("timeout", "10"))
            if route == ("GET", "/ready"):
                ready = self._wait_until(lambda: all(m.programmed for m in self.managed.values()), timeout)
                return Answer.of_json(200 if ready else 503, self.state())
            if route == ("GET", "/change"):
                known = int(query.get("since", self.revision))
                self._wait_until(lambda: self.revision != known, timeout)
                return Answer.of_json(200, self.state())
            if route == ("PUT", "/plan"):
                return self.replace_plan(jsonplan.read(body.decode(), "the plan"))
            if route == ("PUT", "/clock"):
                return self.replace_clock(settings.clock_of(json.loads(body)))
        except (InputError, ValueError) as error:
            return Answer.of_json(400, {"error": str(error)})
        return Answer.of_json(404, {"error": f"no {method} {path} here"})

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition on the state holds; False when `timeout` host seconds are over."""
        deadline = time.monotonic() + timeout
        while not condition():
            progress, left = self._progress, deadline - time.monotonic()
            if left <= 0:
                return False
            progress.wait(left)
        return True

    def replace_plan(self, plan: ContactPlan) -> Answer:
        """Forward by another plan from now on."""
        self.plan = plan
        return self._renew()

    def replace_clock(self, clock: MissionClock) -> Answer:
        """Follow another clock from now on."""
        self.clock = clock
        return self._renew()

    def _renew(self) -> Answer:
        self._finder = self._make_finder()
        self.generation += 1
        self._execute(list(self.managed.values()), None)
        self._wake.set()
        return Answer.of_json(200, self.state())

    def state(self) -> dict[str, Any]:
        """What the controller does at this moment."""
        return {
            "stack": stack.NAME,
            "segment": self.settings.segment,
            "mission_time": self.clock.now(),
            "generation": self.generation,
            "revision": self.revision,
            "switches": {
                managed.switch.node: {
                    "connected": managed.datapath is not None,
                    "programmed": managed.programmed,
                    "ports": managed.table.ports,
                    "until": None if math.isinf(managed.table.until) else managed.table.until,
                }
                for managed in self.managed.values()
            },
        }

    def _survey(self) -> dict[str, dict[Entry, int] | None]:
        """The entries of every switch by node; None for one that is not connected or does not answer."""
        return {
            managed.switch.node: self.entries_of(managed) if managed.programmed else None
            for managed in self.managed.values()
        }
