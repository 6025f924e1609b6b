"""The documents that a node's HTTP interface takes and gives; the client library reads the same ones.

Times are mission seconds unless a field says otherwise.
"""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ClassName = Literal["critical", "expedited", "normal", "bulk"]
FlagName = Literal[
    "must_not_fragment",
    "ack_requested",
    "status_time",
    "report_reception",
    "report_forwarding",
    "report_delivery",
    "report_deletion",
]
StateName = Literal["queued", "forwarding", "awaiting_delivery", "delivering", "reassembly"]
AssertionName = Literal["received", "forwarded", "delivered", "deleted"]


class Document(BaseModel):
    """What travels as JSON: fields that nobody knows are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Problem(Document):
    """What was wrong and what to do about it."""

    problem: str
    remedy: str = ""
    line: int | None = None


class Failure(Document):
    """The body of every answer that is an error."""

    error: Problem
    bundle: str | None = Field(default=None, description="On a stream: which one the client wrote about.")


class NewBundle(Document):
    """A bundle to be made."""

    destination: str = Field(description="Endpoint ID, or `node.service` with a name that the node knows.")
    payload: str = Field(default="", description="Base64.")
    service_class: ClassName = "normal"
    lifetime: float = Field(default=86400.0, gt=0, le=1e9, description="Mission seconds.")
    flags: tuple[FlagName, ...] = ()
    service: int | None = Field(default=None, ge=0, description="Service number of the source; default 0.")
    report_to: str | None = Field(default=None, description="Endpoint ID for status reports; default: the source.")


class Accepted(Document):
    """A bundle that is in the store, durably."""

    bundle: str = Field(description="Bundle ID.")
    source: str
    destination: str
    created: float
    expires: float
    size: int = Field(description="Octets of the payload.")


class Received(Document):
    """A bundle handed to an application."""

    bundle: str = Field(description="Bundle ID, for acknowledging it.")
    source: str
    destination: str
    report_to: str
    service_class: ClassName
    created: float | None = Field(description="None when its source has no clock.")
    received: float = Field(description="When it came to this node.")
    expires: float
    repeated: bool = Field(description="Whether an application may have been handed it before.")
    admin_record: bool = Field(description="Whether the payload is an administrative record.")
    size: int = Field(description="Octets of the payload.")
    payload: str = Field(description="Base64.")

    @property
    def data(self) -> bytes:
        """The payload."""
        return base64.b64decode(self.payload)


class Acknowledged(Document):
    """An application's confirmation is durable."""

    bundle: str
    first: bool = Field(description="False when it had been acknowledged before.")


class ClockDocument(Document):
    """The mission clock, and what it shows."""

    epoch: str
    rate: float = Field(description="Mission seconds per host second.")
    now: float
    utc: str


class StoreSummary(Document):
    """How much is stored."""

    bundles: int
    bytes: int
    quota: int


class NodeStatus(Document):
    """Who the node is and how it is."""

    name: str
    number: int
    node_id: str
    nodes: dict[str, int] = Field(description="ipn node numbers of all nodes by name.")
    clock: ClockDocument
    store: StoreSummary
    unroutable: int = Field(description="Bundles that have no route.")
    waiting: int = Field(description="Bundles that wait for an application.")
    in_hands: int = Field(description="Bundles that applications have and have not acknowledged.")
    echo_service: int | None
    allowance: float = Field(description="Mission seconds that a process may be late, both ways of a round trip.")


class StoredBundle(Document):
    """A bundle in the store."""

    key: int
    bundle: str
    source: str
    destination: str
    service_class: ClassName
    size: int = Field(description="Octets of the encoded bundle.")
    state: StateName
    added: float
    expires: float
    received_from: str
    handler: str = Field(description="The neighbour or the application that has it.")


class StoreListing(Document):
    """A page of the store."""

    bundles: tuple[StoredBundle, ...]
    next: int | None = Field(description="`after` of the next page.")


class Endpoint(Document):
    """An endpoint of this node that bundles wait at, or applications."""

    endpoint: str
    waiting: int
    applications: int


class Neighbour(Document):
    """A node that can be reached in one hop."""

    name: str
    node_id: str
    convergence: str
    contact: bool = Field(description="Whether there is contact now.")
    until: float | None = Field(description="When that changes next.")
    waiting: int = Field(description="Bundles queued for it.")


class PlanSummary(Document):
    """A contact plan in a few numbers."""

    epoch: str
    start: float
    end: float
    nodes: int
    contacts: int
    ranges: int


class Hop(Document):
    """One contact of a way."""

    source: str
    target: str
    leaves: float = Field(description="First octet.")
    arrives: float = Field(description="Last octet.")
    waits: float = Field(description="Seconds before it leaves.")
    light_time: float


class Way(Document):
    """The earliest way that the plan allows."""

    hops: tuple[Hop, ...]
    arrives: float


class Forecast(Document):
    """What the plan promises a bundle, and an answer to it. Nothing else on the way is counted."""

    destination: str
    size: int
    departs: float
    out: Way | None = Field(description="None without a route.")
    back: Way | None
    round_trip: float | None = Field(description="Seconds.")


class Report(Document):
    """A status report that came to this node."""

    number: int = Field(description="Ascending; `after` takes it.")
    bundle: str = Field(description="Whose it is.")
    reporter: str = Field(description="Endpoint ID of the node that sent it.")
    node: str | None = Field(description="Its name, where known.")
    assertion: AssertionName
    time: float | None = Field(description="When that happened, where the bundle asked for times.")
    reason: int
    reason_name: str
    received: float = Field(description="When the report came.")


class Reports(Document):
    """Status reports, oldest first."""

    reports: tuple[Report, ...]


class KeyUpload(Document):
    """A symmetric key for BPSec. It is never shown again."""

    secret: str = Field(description="Hexadecimal digits.", pattern="^([0-9a-fA-F]{2})+$", repr=False)
    wraps: bool = Field(default=False, description="Whether it only encrypts a fresh key for each bundle.")


class KeyName(Document):
    """A key, without what it is."""

    name: str
    wraps: bool


class Keys(Document):
    """The keys that the node has."""

    keys: tuple[KeyName, ...]


class Endpoints(Document):
    """Endpoints of this node."""

    endpoints: tuple[Endpoint, ...]


class Neighbours(Document):
    """Who can be reached in one hop."""

    neighbours: tuple[Neighbour, ...]


class StreamAnswer(Document):
    """What a client of a stream sends: one of the two, a bundle ID."""

    acknowledge: str | None = None
    release: str | None = None

    @model_validator(mode="after")
    def _one(self) -> StreamAnswer:
        if (self.acknowledge is None) == (self.release is None):
            raise ValueError("give either 'acknowledge' or 'release'")
        return self


class StreamDone(Document):
    """What a client of a stream is told about its answer."""

    acknowledged: str | None = None
    released: str | None = None
