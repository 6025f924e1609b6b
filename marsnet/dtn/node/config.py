"""What a bundle node is told: who it is, its neighbours, its limits and the traffic that it generates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marsnet.dtn.apps.config import ApplicationsConfig
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.settings import BundleSettings
from marsnet.errors import InputError


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClockConfig(_Record):
    """The three numbers of the mission clock."""

    epoch: str
    rate: float = Field(gt=0)
    origin: float


class NeighbourConfig(_Record):
    """A node that can be reached in one hop.

    Attributes:
        address: IP address of its data plane.
        port: UDP port of its LTP engine.
        mtu: bytes of the largest LTP segment.
        convergence: only LTP is spoken between nodes of one network.
    """

    address: str = ""
    port: int = Field(default=1113, ge=1, le=65535)
    mtu: int = Field(default=1472, ge=64)
    convergence: Literal["ltp"] = "ltp"


ServiceName = Literal["critical", "expedited", "normal", "bulk"]


class TraceItem(_Record):
    """One bundle of a trace: mission seconds and bytes."""

    time: float
    size: int = Field(gt=0)
    service_class: ServiceName
    destination: str


class FlowConfig(_Record):
    """Bundles that this node generates; times in mission seconds.

    Attributes:
        name: of the flow.
        destination: node; traces name their own.
        service: service number of its endpoints here and there.
        service_class: class of service; traces name their own.
        tenant: whose it is, for the ledger.
        size: payload bytes of a bundle; traces name their own.
        arrivals: `periodic` and `poisson` send every `every`, `trace` as listed, `backlog` as room in the store allows.
        every: seconds between bursts.
        burst: bundles that leave together.
        trace: times and sizes.
        count: bundles of a backlog.
        last: payload bytes of its last one.
        window: bundles of it that wait in the store at most.
        file: whose content it is; relative to the configuration's folder.
        lifetime: seconds.
        start: nothing leaves earlier.
        stop: nothing leaves later.
    """

    name: str
    destination: str
    service: int = 1
    service_class: ServiceName
    tenant: str = ""
    size: int = Field(gt=0)
    every: float = Field(default=1.0, gt=0)
    arrivals: Literal["periodic", "poisson", "trace", "backlog"] = "periodic"
    burst: int = Field(default=1, ge=1)
    trace: tuple[TraceItem, ...] = ()
    count: int = Field(default=0, ge=0)
    last: int = Field(default=0, ge=0)
    window: int = Field(default=16, ge=1)
    file: Path | None = None
    lifetime: float = Field(gt=0)
    start: float = 0.0
    stop: float

    @property
    def priority(self) -> ServiceClass:
        """Its class of service."""
        return ServiceClass[self.service_class.upper()]


class ReplyConfig(_Record):
    """What an application answers each bundle with; without a class or a lifetime, those of the request."""

    size: int = Field(gt=0)
    service_class: ServiceName | None = None
    lifetime: float | None = None


class FileConfig(_Record):
    """A file that an application puts together from the bundles that carry it.

    Attributes:
        name: of the file.
        size: bytes.
        part: bytes in each bundle but the last.
        sha256: of the content, hexadecimal.
    """

    name: str
    size: int = Field(gt=0)
    part: int = Field(gt=0)
    sha256: str


class ReceiverConfig(_Record):
    """An application on this node.

    Attributes:
        service: service number at which it takes bundles.
        flow: whose bundles they are.
        tenant: whose it is, for the ledger.
        reply: what it answers with.
        file: what it puts together.
    """

    service: int
    flow: str
    tenant: str = ""
    reply: ReplyConfig | None = None
    file: FileConfig | None = None


class NodeConfig(BundleSettings):
    """Configuration of one node, as JSON. Times are mission seconds, sizes bytes. `BundleSettings` are part of it.

    Attributes:
        name: of the node in the plan.
        number: its ipn node number and LTP engine id.
        numbers: ipn node numbers of all nodes by name.
        clock: the mission clock; without it the node waits for one on its HTTP interface.
        plan: contact plan file.
        state: directory of the bundle store.
        ledger: file that the life of each bundle is appended to.
        quota: bytes that the store may hold.
        durability: what a commit outlives: `power`, a failure of the machine, or `process`, a kill of the node, which
            is quicker.
        bind: address of the data plane.
        port: UDP port of the LTP engine.
        metrics: address and port of the HTTP endpoint with metrics.
        hiccup: host seconds that a process of this network may be late; LTP's timers allow for it.
        ahead: host seconds of a link's rate that LTP hands out at once, for the queues of the transmitter to send in
            order of class.
        overhead: bytes that lower layers add to a segment.
        applications: how applications reach the node.
        flows: traffic that it generates.
        receivers: applications besides the sink at service number 1.
    """

    name: str
    number: int = Field(ge=1)
    numbers: dict[str, int]
    clock: ClockConfig | None = None
    plan: Path
    neighbours: dict[str, NeighbourConfig]
    state: Path | None = None
    ledger: Path | None = None
    quota: int = Field(default=2_000_000_000, gt=0)
    durability: Literal["power", "process"] = "power"
    bind: str = "0.0.0.0"  # noqa: S104
    port: int = Field(default=1113, ge=1, le=65535)
    metrics: tuple[str, int] | None = None
    seed: int = 1
    hiccup: float = Field(default=0.25, ge=0)
    ahead: float = Field(default=0.005, ge=0)
    overhead: int = Field(default=42, ge=0)
    flows: tuple[FlowConfig, ...] = ()
    applications: ApplicationsConfig = ApplicationsConfig()
    receivers: tuple[ReceiverConfig, ...] = ()


def load_config(path: Path) -> NodeConfig:
    """Read a node's configuration. Key files are relative to its folder.

    Raises:
        InputError: unreadable, or not as `NodeConfig` says.
    """
    try:
        config = NodeConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", remedy="check the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{place}: {first['msg']} (got {first['input']!r})", remedy="mend the value", file=path
        ) from None
    return config.model_copy(update={"security": config.security.within(path.parent)})
