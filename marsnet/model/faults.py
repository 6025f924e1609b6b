"""What goes wrong in a scenario, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from marsnet.model.quantities import Drift, Duration, Fraction, Loss, Offset, PositiveDuration, Strict, misplaced
from marsnet.model.radio import Band
from marsnet.model.times import WhenField
from marsnet.model.topology import Name

MOST_INCIDENTS = 10_000
"""How often a fault can happen in a run."""


class Delivered(Strict):
    """So many bundles of a flow have been delivered."""

    flow: str
    count: int = Field(ge=1)


class StorageAbove(Strict):
    """The payload in a node's store is more than a share of its quota."""

    node: str
    above: Fraction


class ContactOpens(Strict):
    """A contact of a link opens, at an instant or later; the first one that does."""

    link: str
    after: WhenField | None = None


class Condition(Strict):
    """What a fault waits for: one of these, and then `delay`."""

    delivered: Delivered | None = None
    storage: StorageAbove | None = None
    contact_opens: ContactOpens | None = None
    begins: str | None = Field(default=None, description="name of a fault that begins")
    ends: str | None = Field(default=None, description="name of a fault that ends")
    delay: Duration = 0.0

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = ("delivered", "storage", "contact_opens", "begins", "ends")
        given = [key for key in kinds if getattr(self, key) is not None]
        if len(given) != 1:
            what = f"waits for {' and '.join(given)}" if given else "waits for nothing"
            raise misplaced(f"the condition {what}", f"give one of {', '.join(kinds)}", *given[-1:])
        return self


class FaultBase(Strict):
    """What every fault has: a time, and a duration.

    It happens `at` an instant, `every` so often (on the average, at random from the seed), `when` a condition holds for
    the first time, or with a `probability`: at its instant, or at any of the run.
    """

    name: Name | None = Field(default=None, description="what requirements and conditions call it")
    at: WhenField | None = None
    probability: Fraction | None = None
    every: PositiveDuration | None = None
    when: Condition | None = None
    duration: PositiveDuration

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        given = [key for key in ("at", "every", "when") if getattr(self, key) is not None]
        if len(given) > 1:
            raise misplaced(f"the fault has {' and '.join(given)}", "give one of them", given[-1])
        if self.probability is not None and given not in ([], ["at"]):
            raise misplaced(f"'probability' does not go with {given[0]!r}", "give 'at', or nothing", "probability")
        if not given and self.probability is None:
            raise misplaced("the fault has no time", "give 'at', 'every', 'when' or 'probability'", "at")
        return self


class Planned(FaultBase):
    """A fault that may have been announced: the contact plan of nodes and controllers knows it from the start."""

    planned: bool = False

    @model_validator(mode="after")
    def _known_ahead(self) -> Self:
        if self.planned and self.when is not None:
            raise misplaced("what waits for a condition cannot be planned", "give 'at', or remove 'planned'", "planned")
        return self


class NodeSilent(FaultBase):
    """A spacecraft falls silent without notice: it neither transmits nor receives, but keeps running."""

    kind: Literal["node_silent"]
    node: str


class NodeCrash(FaultBase):
    """The node's container is killed, and started again after a time."""

    kind: Literal["node_crash"]
    node: str


class PowerCycle(Planned):
    """A node is switched off and on by a schedule while the fault lasts: `off` so long, then `on` so long."""

    kind: Literal["power_cycle"]
    node: str
    off: PositiveDuration
    on: PositiveDuration

    @model_validator(mode="after")
    def _few(self) -> Self:
        if self.duration > MOST_INCIDENTS * (self.off + self.on):
            raise misplaced(
                f"the node is switched off more than {MOST_INCIDENTS} times", "lengthen 'off' and 'on'", "off"
            )
        return self


class LinkOutage(Planned):
    """A link falls in both directions."""

    kind: Literal["link_outage"]
    link: str


class PartialRate(FaultBase):
    """A link, or every link of a node, carries only a share of its rate; nobody is told."""

    kind: Literal["partial_rate"]
    link: str | None = None
    node: str | None = None
    rate: Fraction = Field(description="share of the planned rate that is left")

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.link is None) == (self.node is None):
            raise misplaced("the fault needs a link or a node", "give one of 'link' and 'node'", "link")
        if self.rate < 0.001:
            raise misplaced("a rate of nothing is an outage", "use the kind 'link_outage'", "rate")
        return self


class BitErrors(FaultBase):
    """A link has more bit errors, loses more frames, or both, than planned."""

    kind: Literal["bit_errors"]
    link: str
    ber: float = Field(default=0.0, ge=0, le=0.5, description="bit error rate")
    loss: Fraction = 0.0

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.ber and not self.loss:
            raise misplaced("the link has no errors", "give 'ber', as in 1e-6, or 'loss', as in 5 %", "ber")
        return self


class DustStorm(FaultBase):
    """Dust over sites weakens what they send and receive, and takes power from what they send.

    It grows for `rise` and fades for `decay`, both within its duration. Attenuation is that at the peak, by band; the
    rate of a link that is limited by power falls in proportion.
    """

    kind: Literal["dust_storm"]
    sites: tuple[str, ...] = Field(min_length=1)
    rise: Duration
    decay: Duration
    optical_depth: float = Field(default=8.0, ge=0, le=50, description="at the peak, towards the zenith")
    attenuation: dict[Band, Loss] = Field(default_factory=dict, description="by band, in place of the defaults")
    power: Fraction = Field(default=1.0, description="share of the sites' transmitting power left at the peak")

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.rise + self.decay > self.duration:
            raise misplaced("the storm rises and decays for longer than it lasts", "lengthen 'duration'", "duration")
        return self


class ClockDrift(FaultBase):
    """A node's clock runs fast (or slow) while the fault lasts, and is set right at its end.

    All that the node does by time follows: timers, creation times, its view of contacts.
    """

    kind: Literal["clock_drift"]
    node: str
    drift: Drift


class StorageFull(FaultBase):
    """Only a share of a node's storage quota is left."""

    kind: Literal["storage_full"]
    node: str
    left: Fraction


class StalePlan(FaultBase):
    """Nodes have not got the update that announces planned faults; at the end they get it."""

    kind: Literal["stale_plan"]
    nodes: tuple[str, ...] = Field(min_length=1)
    misses: tuple[str, ...] = Field(min_length=1, description="names of planned faults")


class WrongPlan(FaultBase):
    """Nodes are given a wrong contact plan, which is rolled back at the end.

    It is a `plan` file, or the true plan with all times moved by `shift`, or `without` the contacts of some links.
    """

    kind: Literal["wrong_plan"]
    nodes: tuple[str, ...] = Field(min_length=1)
    plan: Path | None = None
    shift: Offset | None = None
    without: tuple[str, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_mistake(self) -> Self:
        given = [key for key in ("plan", "shift", "without") if getattr(self, key) is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} at once" if given else "nothing wrong"
            raise misplaced(
                f"the plan has {what}", "give one of 'plan', 'shift' and 'without'", *(given[-1:] or ["plan"])
            )
        return self


class ControllerLoss(FaultBase):
    """The network controller of a segment is gone; its switches keep what they were told."""

    kind: Literal["controller_loss"]
    segment: Literal["earth", "mars"]


class CorruptedBundles(FaultBase):
    """A share of the bundles that come over a link arrive with a wrong octet that no lower layer noticed."""

    kind: Literal["corrupted_bundles"]
    link: str
    share: Fraction


class ReplayedBundles(FaultBase):
    """With each bundle that comes over a link, one that came before arrives again, with this probability."""

    kind: Literal["replayed_bundles"]
    link: str
    share: Fraction


Fault = Annotated[
    NodeSilent
    | NodeCrash
    | PowerCycle
    | LinkOutage
    | PartialRate
    | BitErrors
    | DustStorm
    | ClockDrift
    | StorageFull
    | StalePlan
    | WrongPlan
    | ControllerLoss
    | CorruptedBundles
    | ReplayedBundles,
    Field(discriminator="kind"),
]
