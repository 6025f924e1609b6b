"""The lab's side of the controllers: write their settings, start and stop them, connect switches, ask them things."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import urllib.error
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import marsnet
from marsnet.clock import MissionClock
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.worlds.lab import namespace, services, spec, switches, web
from marsnet.worlds.lab.containers import in_parallel
from marsnet.worlds.lab.spec import Segment

if TYPE_CHECKING:
    from marsnet.worlds.lab.lab import Lab

_READY_TIMEOUT = 30.0
_CALLS = 8
_CALLS_AGAIN = 1.5
"""How often a switch is woken to call a controller that is back, and host seconds from one time to the next."""


@dataclass(frozen=True, slots=True)
class ControllerProgram:
    """What runs as controller.

    Attributes:
        folder: folder with `launcher.py`.
        python: interpreter that has the OpenFlow stack.
        stack: the OpenFlow stack.
        application: module of the application, importable from the folder's parent.
    """

    folder: Path = Path(marsnet.__file__).resolve().parent.parent / "controllers"
    python: str = sys.executable
    stack: Literal["os_ken", "ryu"] = "os_ken"
    application: str = "controllers.plan_forwarding"


class Controllers:
    """Both controllers of a lab.

    Args:
        lab: the lab.
        program: what runs as controller.
    """

    def __init__(self, lab: Lab, program: ControllerProgram) -> None:
        self._lab, self._program = lab, program
        self._launcher = program.folder / "launcher.py"

    def start(self, plan: Path, clock: MissionClock, guard: float) -> None:
        """Start the controller of each segment that has nodes, and wait until every switch forwards by the plan."""
        if not self._launcher.exists():
            raise EnvironmentLacksError(f"there is no {self._launcher}", fix="run marsnet from its source tree")
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan, folder / "plan.json")
        segments = self.segments()
        for segment in segments:
            self._settings(segment).write_text(json.dumps(self._document(segment, clock, guard), indent=1))
        self._launch(segments)
        self._connect()
        for segment in segments:
            self.wait_ready(segment)

    def segments(self) -> list[Segment]:
        """The segments that have nodes."""
        present = {node.segment for node in self._lab.nodes.values()}
        return [segment for segment in spec.SEGMENTS if segment in present]

    def start_one(self, segment: Segment) -> None:
        """Start the controller of a segment with the settings it had, and wait until its switches are up to date.

        The switch daemon calls a controller again when a second has passed and something has woken it, which in a
        quiet lab nothing does: a transaction in its database will, one for each step of the connection.
        """
        self._launch([segment])
        for turn in range(_CALLS):
            switches.vsctl(self._lab.runtime, "set", "Open_vSwitch", ".", f"external_ids:woken={segment}-{turn}")
            with contextlib.suppress(services.ServiceError):
                self.wait_ready(segment, _CALLS_AGAIN)
                return
        self.wait_ready(segment)

    def stop(self, segment: Segment) -> None:
        """End the controller of a segment."""
        state = self._lab.state
        known = state.services.get(f"controller-{segment}")
        inode = namespace.inode(self._lab.namespace)
        if known is None or inode is None:
            raise InputError(f"no controller of segment {segment!r} runs", remedy="start the controllers first")
        services.stop(int(known["pid"]), inode)
        state.forget(f"controller-{segment}")

    def replace_plan(self, plan: str) -> None:
        """Give both controllers another plan (JSON), which holds from now on."""
        for segment in self.segments():
            self.request(segment, "PUT", "/plan", plan.encode())
        (self._folder() / "plan.json").write_text(plan)

    def replace_clock(self, clock: MissionClock) -> None:
        """Let both controllers follow another clock from now on."""
        for segment in self.segments():
            self.request(segment, "PUT", "/clock", json.dumps(asdict(clock)).encode())
            settings = json.loads(self._settings(segment).read_text())
            self._settings(segment).write_text(json.dumps({**settings, "clock": asdict(clock)}, indent=1))

    def wait_ready(self, segment: Segment, timeout: float = _READY_TIMEOUT) -> None:
        """Wait until every switch of the segment forwards by the plan, for so many host seconds.

        Raises:
            services.ServiceError: when that takes too long.
        """
        try:
            self.request(segment, "GET", f"/ready?timeout={timeout:g}")
        except urllib.error.HTTPError as error:
            answer = error.read().decode()
            raise services.ServiceError(f"switches of segment {segment} are not ready: {answer}") from error

    def state(self, segment: Segment) -> dict[str, Any]:
        """What the controller does at this moment: connections, ports by destination, next deadline."""
        answer: dict[str, Any] = json.loads(self.request(segment, "GET", "/state"))
        return answer

    def await_change(self, segment: Segment, since: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The controller's state once it differs from an earlier one, or after `timeout` host seconds (at most 30)."""
        path = f"/change?since={since['revision']}&timeout={min(timeout, _READY_TIMEOUT):g}"
        answer: dict[str, Any] = json.loads(self.request(segment, "GET", path))
        return answer

    def metrics(self, segment: Segment) -> str:
        """The controller's metrics in Prometheus' text format."""
        return self.request(segment, "GET", "/metrics").decode()

    def request(self, segment: Segment, method: str, path: str, body: bytes | None = None) -> bytes:
        """Body of the answer to a request to a controller's HTTP interface.

        Raises:
            urllib.error.HTTPError: when the controller refuses.
            services.ServiceError: when it does not answer.
        """
        url = f"http://127.0.0.1:{spec.CONTROLLER_API_PORTS[segment]}{path}"
        try:
            return web.request(self._lab.namespace, url, method=method, body=body, timeout=_READY_TIMEOUT + 5)
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            raise services.ServiceError(f"the controller of segment {segment} does not answer: {error}") from error

    def _folder(self) -> Path:
        return self._lab.run_dir / "controllers"

    def _settings(self, segment: Segment) -> Path:
        return self._folder() / f"{segment}.json"

    def _document(self, segment: Segment, clock: MissionClock, guard: float) -> dict[str, Any]:
        nodes = list(self._lab.nodes.values())
        ports = spec.ports_of(nodes, list(self._lab.links.values()))
        return {
            "segment": segment,
            "openflow_port": spec.CONTROLLER_PORTS[segment],
            "api_port": spec.CONTROLLER_API_PORTS[segment],
            "plan": str(self._folder() / "plan.json"),
            "clock": asdict(clock),
            "guard": guard,
            "switches": [
                {
                    "node": node.name,
                    "number": node.number,
                    "segment": node.segment,
                    "address": spec.data_address(node.number),
                    "host_port": spec.HOST_PORT,
                    "ports": [
                        {"number": port.number, "link": port.link, "peer": port.peer} for port in ports[node.name]
                    ],
                }
                for node in nodes
            ],
        }

    def _launch(self, segments: Sequence[Segment]) -> None:
        def launch(segment: Segment) -> dict[str, str | int]:
            log = self._folder() / f"{segment}.log"
            with namespace.inside(self._lab.namespace):
                pid, _ = services.start(
                    [
                        *(self._program.python, str(self._launcher), str(self._settings(segment))),
                        *("--stack", self._program.stack, "--application", self._program.application),
                    ],
                    log,
                    r"\blistening\b",
                )
            return {
                "pid": pid,
                "log": str(log),
                "openflow": f"127.0.0.1:{spec.CONTROLLER_PORTS[segment]}",
                "http": f"127.0.0.1:{spec.CONTROLLER_API_PORTS[segment]}",
            }

        started = in_parallel(launch, segments)
        state = self._lab.state
        for segment, facts in zip(segments, started, strict=True):
            state.record(f"controller-{segment}", facts)

    def _connect(self) -> None:
        """Tell every switch its controller; it calls at once, and again every second at most when it is lost."""
        words: list[str] = []
        for node in self._lab.nodes.values():
            name, target = spec.switch_name(node.number), f"tcp:127.0.0.1:{spec.CONTROLLER_PORTS[node.segment]}"
            words += ["--", "set-controller", name, target, "--", "set", "controller", name, "max_backoff=1000"]
            if self._lab.quiet:
                # By default a switch looks once a second for a way to its controller through itself.
                words += ["inactivity_probe=0", "connection_mode=out-of-band"]
        switches.vsctl(self._lab.runtime, *words)
