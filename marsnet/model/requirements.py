"""What a scenario requires of a run."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from marsnet.model.quantities import Duration, Fraction, PositiveDuration, Size, Strict, misplaced
from marsnet.model.topology import ServiceClassName


class Selection(Strict):
    """Which bundles a requirement looks at: all, or those of a class, a flow, a tenant.

    The replies to flow `x` are the flow `x.reply`.
    """

    service_class: ServiceClassName | None = Field(default=None, alias="class")
    flow: str | None = None
    tenant: str | None = None


class DeliveryRequirement(Selection):
    """Share of the accepted bundles that their destination received by the end of the run."""

    kind: Literal["delivery"]
    at_least: Fraction


class DeadlineRequirement(Selection):
    """Share of the bundles that arrived within some time beyond light time.

    Bundles whose deadline is after the end of the run are left aside.
    """

    kind: Literal["deadline"]
    within: Duration
    at_least: Fraction


class LatencyRequirement(Selection):
    """A percentile of latency beyond the light time from source to destination at the bundle's creation."""

    kind: Literal["latency"]
    percentile: Fraction
    beyond_light_time: Duration


class RoundTripRequirement(Strict):
    """A percentile of the time from a request to its reply, beyond the light time there and back.

    A request without a reply counts as infinitely late.
    """

    kind: Literal["round_trip"]
    flow: str
    percentile: Fraction
    beyond_light_time: Duration


class CompletionRequirement(Strict):
    """All of a volume or a file has arrived, intact, within some time after the flow's start."""

    kind: Literal["completion"]
    flow: str
    within: PositiveDuration


class NoLossRequirement(Strict):
    """No accepted bundle vanishes: each is delivered, stored somewhere, or was dropped for a stated lawful reason."""

    kind: Literal["nothing_lost"]


class FramesRequirement(Strict):
    """Frames in equal frames delivered, queued, in flight and dropped for a reason, on every link."""

    kind: Literal["frames_accounted"]


class OnlineRequirement(Strict):
    """Share of the run in which a site had a path to the destination: "Mars online".

    There is a path at an instant when bits leaving the site then reach the destination over contacts that were really
    up, visiting no node twice and waiting no longer than `patience` in any store on the way.
    """

    kind: Literal["online"]
    site: str
    to: str
    at_least: Fraction
    patience: Duration = 60.0


class AvailabilityRequirement(Strict):
    """Share of the intervals in which the service of a class was there, as its bundles found it.

    It was there in an interval when all bundles that the site sent in it arrived within a time beyond light time.
    Intervals without bundles are left aside, and so are those at the end whose deadlines are after the run.
    """

    kind: Literal["availability"]
    site: str
    to: str
    service_class: ServiceClassName = Field(alias="class")
    interval: PositiveDuration = 600.0
    within: Duration
    at_least: Fraction


class StarvationRequirement(Strict):
    """The longest that a bundle of a class waited in a store while bundles of other classes passed it by.

    The time counts from its arrival to the last departure of a bundle of another class for the same destination ahead
    of it, and only while there was a contact.
    """

    kind: Literal["starvation"]
    service_class: ServiceClassName = Field(alias="class")
    at_most: Duration


class StorageRequirement(Strict):
    """The most payload bytes that a node's store held, or any node's."""

    kind: Literal["storage"]
    node: str | None = None
    at_most: Size


class VolumeRequirement(Selection):
    """Payload bytes that were delivered by the end of the run, perhaps only of what a node relayed."""

    kind: Literal["volume"]
    via: str | None = Field(default=None, description="count only what was in this node's store on the way")
    at_least: Size | None = None
    at_most: Size | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise misplaced("the volume has no bound", "give 'at_least', 'at_most' or both")
        if self.at_least is not None and self.at_most is not None and self.at_most < self.at_least:
            raise misplaced("'at_most' is less than 'at_least'", "swap them", "at_most")
        return self


class RecoveryRequirement(Selection):
    """Time after a fault until each flow that is looked at delivers again. A fault that did not happen needs none.

    What had left its source before the fault began does not count. A flow that sends nothing after it is left aside,
    and so is one that has not delivered yet when the run ends before the time is over.
    """

    kind: Literal["recovery"]
    fault: str = Field(description="name of the fault")
    after: Literal["end", "start"] = "end"
    within: Duration


class FidelityRequirement(Strict):
    """Bounds, in host time, of how late the emulation was; the run fails where it would not be invalid yet."""

    kind: Literal["fidelity"]
    link_lateness_p99: Duration | None = None
    node_lateness_p99: Duration | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.link_lateness_p99 is None and self.node_lateness_p99 is None:
            raise misplaced("the fidelity has no bound", "give 'link_lateness_p99', 'node_lateness_p99' or both")
        return self


class PrintedRequirement(Strict):
    """What a program has written to standard output or standard error, found by a regular expression.

    With a bound, the first group of each match is a number, and the last match counts.
    """

    kind: Literal["printed"]
    program: str
    matches: str = Field(description="regular expression, looked for in what the program wrote; ^ and $ match at lines")
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            groups = re.compile(self.matches).groups
        except re.error as error:
            raise misplaced(f"{self.matches!r} is no regular expression: {error}", "mend it", "matches") from None
        if (self.at_least is not None or self.at_most is not None) and not groups:
            raise misplaced(
                f"{self.matches!r} has no group for the number", r"put it in brackets, as in '([\d.]+) ms'", "matches"
            )
        return self


Requirement = Annotated[
    DeliveryRequirement
    | DeadlineRequirement
    | LatencyRequirement
    | RoundTripRequirement
    | CompletionRequirement
    | NoLossRequirement
    | FramesRequirement
    | OnlineRequirement
    | AvailabilityRequirement
    | StarvationRequirement
    | StorageRequirement
    | VolumeRequirement
    | RecoveryRequirement
    | FidelityRequirement
    | PrintedRequirement,
    Field(discriminator="kind"),
]
