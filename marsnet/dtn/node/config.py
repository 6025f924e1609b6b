"""What a bundle node is told: who it is, its neighbours and how to reach them, its limits and its own traffic."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from marsnet.dtn.apps.config import ApplicationsConfig
from marsnet.dtn.bpv7 import Eid, ServiceClass
from marsnet.model.bundles import BundleSettings

LayerName = Literal["ltp", "tcpcl", "udpcl", "mtcp", "stcp"]
DEFAULT_PORTS: dict[str, int] = {"ltp": 1113, "tcpcl": 4556, "udpcl": 4556, "mtcp": 16162, "stcp": 4556}
"""Registered (RFC 7122, RFC 9174) or, for MTCP and STCP, those of dtn7 and ION."""
SEGMENT = 1472
"""Octets of an LTP segment that an Ethernet frame takes."""


class Address(NamedTuple):
    """An IP address and a port."""

    host: str
    port: int


def _address(value: object) -> object:
    """Read `127.0.0.1:4556`, `[::1]:4556` or a pair of both."""
    host, port = "", ""
    match value:
        case str():
            host, _, port = value.rpartition(":")
        case [first, second]:
            host, port = str(first), str(second)
    try:
        return Address(str(ipaddress.ip_address(host.strip("[]"))), int(port))
    except ValueError:
        raise ValueError(f"{value!r} is no address and port; write 127.0.0.1:4556 or '[::1]:4556'") from None


def _host(value: object) -> object:
    try:
        return str(ipaddress.ip_address(str(value).strip("[]"))) if value else value
    except ValueError:
        raise ValueError(f"{value!r} is no IP address; write one, like 192.0.2.7") from None


_LISTEN_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^(\d+(\.\d+){3}|\[[0-9A-Fa-f:.%\w]+\]):\d+$"},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "maxItems": 2},
    ]
}
Listen = Annotated[Address, BeforeValidator(_address), WithJsonSchema(_LISTEN_SCHEMA, mode="validation")]
Host = Annotated[str, BeforeValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ClockConfig(_Record):
    """The three numbers of the mission clock.

    Attributes:
        epoch: UTC of mission time 0, as 2026-10-01T00:00:00Z.
        rate: mission seconds per host second.
        origin: the host's CLOCK_MONOTONIC, seconds, at mission time 0.
    """

    epoch: str
    rate: float = Field(gt=0)
    origin: float


class NeighbourConfig(_Record):
    """A node that can be reached in one hop.

    Attributes:
        address: IP address of its data plane; without one it is the neighbour that connects (TCPCL).
        port: of its convergence layer; by default the layer's own.
        mtu: octets of the largest LTP segment, or UDPCL datagram; by default 1472, and 65507 for UDPCL.
        convergence: how bundles reach it.
        number: its ipn node number, where neither the plan nor `numbers` says it.
        node_id: that it gives in TCPCL, by default `ipn:NUMBER.0`.
        contact: `plan`, or `always` for one that is open all the time; by default as the node has a plan or not.
        rate: bit/s of a contact that is always open.
        light_time: seconds one way of a contact that is always open.
        ahead: octets that LTP hands out ahead of time at most: what the queues of the transmitter hold. By default only
            the node's `ahead` bounds them.
    """

    address: Host = ""
    port: Port | None = None
    mtu: int | None = Field(default=None, ge=64, le=65507)
    convergence: LayerName = "ltp"
    number: int | None = Field(default=None, ge=1)
    node_id: str | None = None
    contact: Literal["plan", "always"] | None = None
    rate: float = Field(default=1e9, gt=0)
    light_time: float = Field(default=0.0, ge=0)
    ahead: int | None = Field(default=None, gt=0)

    @property
    def destination(self) -> Address:
        """Where its convergence layer listens."""
        return Address(self.address, self.port or DEFAULT_PORTS[self.convergence])

    @property
    def segment(self) -> int:
        """Octets of its largest LTP segment."""
        return self.mtu or SEGMENT

    @model_validator(mode="after")
    def _reachable(self) -> NeighbourConfig:
        if self.port is not None and not self.address:
            raise ValueError("a port without an address; add 'address'")
        return self


class LtpOptions(_Record):
    """Options of LTP, for all neighbours. Sizes octets, times mission seconds.

    Attributes:
        aggregate_size: bundles share a block until it has so many octets; 0 for one in each.
        aggregate_time: a block waits at most so long for more bundles, and never for an idle open link.
        aggregate_service: client service of such blocks: 1, bundles one after another, or 2, those of CCSDS 734.1-B-1
            section 7.
        green: classes of service that are sent once, without retransmission (green parts).
        checkpoint_every: octets between discretionary checkpoints of a large block; 0 for none.
        control_copies: copies of each new checkpoint and report that are sent at once.
        max_block: octets of the largest block accepted.
        timer_margin: that an answer may be late, at least; `hiccup` counts too.
    """

    aggregate_size: int = Field(default=0, ge=0)
    aggregate_time: float = Field(default=1.0, ge=0)
    aggregate_service: Literal[1, 2] = 1
    green: tuple[Literal["critical", "expedited", "normal", "bulk"], ...] = ()
    checkpoint_every: int = Field(default=0, ge=0)
    control_copies: int = Field(default=1, ge=1, le=5)
    max_block: int = Field(default=1 << 28, ge=1)
    timer_margin: float = Field(default=2.0, ge=0)


class TlsConfig(_Record):
    """Certificates for TCPCL (RFC 9174 section 4.4). All files are PEM.

    Attributes:
        certificate: of this node; its subject alternative name is this node's id.
        key: of the certificate.
        authorities: that the neighbours' certificates are signed by.
        policy: whether sessions without TLS are refused, or accepted from those who do not offer it.
    """

    certificate: Path
    key: Path
    authorities: Path
    policy: Literal["require", "offer"] = "require"


class TcpclOptions(_Record):
    """Options of TCPCL, for all neighbours. Sizes octets, times host seconds.

    Attributes:
        keepalive: asked for; the lower of both ends' counts, 0 for none.
        segment_size: of segments that are sent.
        segment_mru: of the largest segment accepted.
        transfer_mru: of the largest bundle accepted.
        ack_timeout: a session is given up when the peer acknowledges nothing for so long; 0 for never.
        reconnect: before the first new attempt to connect; doubled each time, up to `reconnect_limit`.
        reconnect_limit: longest wait between attempts.
        opportunistic: whether nodes that are no neighbours may connect and are routed to while they are there.
        tls: certificates; without them sessions are in the clear, and a peer's node id is what it claims.
    """

    keepalive: int = Field(default=30, ge=0, le=65535)
    segment_size: int = Field(default=1 << 17, ge=1, le=1 << 40)
    segment_mru: int = Field(default=1 << 20, ge=1, le=1 << 40)
    transfer_mru: int = Field(default=1 << 28, ge=1, le=1 << 40)
    ack_timeout: float = Field(default=300.0, ge=0)
    reconnect: float = Field(default=1.0, gt=0)
    reconnect_limit: float = Field(default=60.0, gt=0)
    opportunistic: bool = True
    tls: TlsConfig | None = None


ServiceName = Literal["critical", "expedited", "normal", "bulk"]


class TraceItem(_Record):
    """One bundle of a trace.

    Attributes:
        time: mission seconds at which it leaves.
        size: payload bytes.
        service_class: class of service.
        destination: node.
    """

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
    """What an application answers each bundle with.

    Attributes:
        size: payload bytes.
        service_class: class of service; by default that of the request.
        lifetime: seconds; by default that of the request.
    """

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
    """Configuration of one node, as YAML or JSON. Times are mission seconds, sizes octets. `BundleSettings` are part of
    it.

    Attributes:
        name: of the node in the plan.
        number: its ipn node number and LTP engine id.
        numbers: ipn node numbers of other nodes by name, where neither the plan nor `neighbours` says them.
        clock: `utc`, real time; `wait`, for a clock on the HTTP interface; or the three numbers of a mission clock.
        plan: contact plan file; without one every neighbour is always in contact.
        neighbours: nodes that can be reached in one hop, by name.
        listen: addresses and ports where convergence layers listen; LTP and UDPCL, which need one, listen on all
            addresses at the layer's own port by default.
        routing: how next hops are chosen.
        routes: destination to neighbour, with `routing: static`; `*` stands for every other destination.
        ltp: options of LTP.
        tcpcl: options of TCPCL.
        state: directory of the bundle store.
        ledger: file that the life of each bundle is appended to.
        quota: octets that the store may hold.
        durability: what a commit outlives: `power`, a failure of the machine, or `process`, a kill of the node, which
            is quicker.
        metrics: address and port of the HTTP endpoint with metrics.
        seed: of all that is random in the node.
        log: least level of the log, JSON lines on standard error.
        hiccup: host seconds that a process of this network may be late; LTP's timers allow for it.
        ahead: host seconds of a link's rate that LTP hands out at once, for the queues of the transmitter to send in
            order of class.
        segments_ahead: LTP segments that it hands out at once even where they take longer than that to leave.
        overhead: octets that lower layers add to an LTP segment.
        applications: how applications reach the node.
        flows: traffic that it generates.
        receivers: applications besides the sink at service number 1.
    """

    name: str
    number: int = Field(ge=1)
    numbers: dict[str, int] = Field(default_factory=dict)
    clock: ClockConfig | Literal["utc", "wait"] = "utc"
    plan: Path | None = None
    neighbours: dict[str, NeighbourConfig] = Field(default_factory=dict)
    listen: dict[LayerName, Listen] = Field(default_factory=dict)
    routing: Literal["sabr", "static", "epidemic"] = "sabr"
    routes: dict[str, str] = Field(default_factory=dict)
    ltp: LtpOptions = LtpOptions()
    tcpcl: TcpclOptions = TcpclOptions()
    state: Path | None = None
    ledger: Path | None = None
    quota: int = Field(default=2_000_000_000, gt=0)
    durability: Literal["power", "process"] = "power"
    metrics: Listen | None = None
    log: Literal["debug", "info", "warning", "error"] = "info"
    seed: int = 1
    hiccup: float = Field(default=0.25, ge=0)
    ahead: float = Field(default=0.005, ge=0)
    segments_ahead: int = Field(default=0, ge=0)
    overhead: int = Field(default=42, ge=0)
    flows: tuple[FlowConfig, ...] = ()
    applications: ApplicationsConfig = ApplicationsConfig()
    receivers: tuple[ReceiverConfig, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> NodeConfig:
        if self.routes and self.routing != "static":
            raise ValueError("routes without static routing; write 'routing: static'")
        for destination, hop in self.routes.items():
            if hop not in self.neighbours:
                raise ValueError(f"the route to {destination!r} leads to {hop!r}; name one of 'neighbours'")
        if self.flows and self.clock == "utc":
            raise ValueError("flows on real time; give a mission 'clock', or send with 'marsnet send'")
        for name, neighbour in self.neighbours.items():
            if neighbour.contact == "plan" and self.plan is None:
                raise ValueError(f"neighbour {name!r} is in contact by a plan; give 'plan'")
        return self

    @property
    def node_id(self) -> Eid:
        """Its node id."""
        return Eid.ipn(self.number, 0)

    def known_numbers(self) -> dict[str, int]:
        """ipn node numbers of this node, its neighbours and others, by name."""
        beside = {name: n.number for name, n in self.neighbours.items() if n.number is not None}
        return {**self.numbers, **beside, self.name: self.number}

    def listening(self) -> dict[LayerName, Address]:
        """Where convergence layers listen, defaults included."""
        spoken = {n.convergence for n in self.neighbours.values()}
        places = dict(self.listen)
        for name in ("ltp", "udpcl"):
            if name in spoken:
                places.setdefault(name, Address("0.0.0.0", DEFAULT_PORTS[name]))  # noqa: S104
        return places


def load_config(path: Path) -> NodeConfig:
    """Read a node's configuration. Key files are relative to its folder.

    Raises:
        InputError: unreadable, or not as `NodeConfig` says: file, line, value and remedy.
    """
    config = _read(path)
    return config.model_copy(update={"security": config.security.within(path.parent)})


def _read(path: Path) -> NodeConfig:
    if path.suffix == ".json":
        try:
            return NodeConfig.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            # YAML's reader knows the lines, and reads JSON too.
            pass
    from marsnet.model.document import read_document  # noqa: PLC0415
    from marsnet.model.mistakes import build  # noqa: PLC0415

    return build(NodeConfig, read_document(path))
