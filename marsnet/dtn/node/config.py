"""What a bundle node is told: who it is, its neighbours, its limits and the traffic that it generates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marsnet.dtn.apps.config import ApplicationsConfig
from marsnet.dtn.bpv7 import ServiceClass
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


class FlowConfig(_Record):
    """Bundles that this node generates; times in mission seconds."""

    name: str
    destination: str
    service_class: Literal["critical", "expedited", "normal", "bulk"]
    size: int = Field(gt=0)
    every: float = Field(gt=0)
    arrivals: Literal["periodic", "poisson"] = "periodic"
    burst: int = Field(default=1, ge=1)
    lifetime: float = Field(gt=0)
    start: float = 0.0
    stop: float

    @property
    def priority(self) -> ServiceClass:
        """Its class of service."""
        return ServiceClass[self.service_class.upper()]


class NodeConfig(_Record):
    """Configuration of one node, as JSON. Times are mission seconds, sizes bytes.

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
        overhead: bytes that lower layers add to a segment.
        applications: how applications reach the node.
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
    overhead: int = Field(default=42, ge=0)
    flows: tuple[FlowConfig, ...] = ()
    applications: ApplicationsConfig = ApplicationsConfig()


def load_config(path: Path) -> NodeConfig:
    """Read a node's configuration.

    Raises:
        InputError: unreadable, or not as `NodeConfig` says.
    """
    try:
        return NodeConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", remedy="check the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{place}: {first['msg']} (got {first['input']!r})", remedy="mend the value", file=path
        ) from None
