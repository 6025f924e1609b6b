"""Radios: what a link budget is made of, or a rate that is simply given."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from marsnet.model.quantities import (
    Eirp,
    Frequency,
    Gain,
    GainOverTemperature,
    Length,
    Loss,
    Power,
    Rate,
    Strict,
    Temperature,
)

Band = Literal["UHF", "S", "X", "Ka", "optical"]
Coding = Literal["uncoded", "conv-1/2", "rs-conv-i5", "turbo-1/2", "turbo-1/4", "turbo-1/6", "ldpc-1/2"]


class ReferenceRate(Strict):
    """A rate known at one distance, from which the rate elsewhere follows by the inverse square of the distance."""

    rate: Rate
    distance: Length = Field(gt=0)


class Radio(Strict):
    """One transceiver of a node.

    What it transmits has one of: a fixed `rate`; a `reference` rate at a distance; or a budget from `eirp`, or from
    `power` and `gain`. The receiver enters a budget with `gt`, or with `gain` and `noise_temperature`. Whatever the
    budget or the reference allows is bounded by the transmitter's `cap` and the receiver's `receive_cap`, and put on
    the transmitter's `steps`.
    """

    band: Band
    rate: Rate | None = Field(default=None, description="fixed rate of what this radio transmits, in place of a budget")
    reference: ReferenceRate | None = Field(
        default=None, description="a known rate of what this radio transmits, in place of a budget"
    )
    frequency: Frequency | None = Field(default=None, description="carrier of what this radio transmits")
    power: Power | None = Field(default=None, description="transmitter output")
    gain: Gain | None = Field(default=None, description="antenna gain, both ways")
    eirp: Eirp | None = Field(default=None, description="in place of power, gain and losses")
    noise_temperature: Temperature | None = Field(
        default=None, description="of the receiving system without its atmosphere"
    )
    gt: GainOverTemperature | None = Field(default=None, description="in place of gain, losses and noise temperature")
    losses: Loss = Field(default=0.0, description="between antenna and transmitter or receiver")
    pointing: Loss = Field(default=0.0, description="pointing and polarisation")
    coding: Coding = Field(default="turbo-1/6", description="of what this radio transmits")
    margin: Loss = Field(default=3.0, description="kept above the code's threshold by what this radio transmits")
    cap: Rate | None = Field(default=None, description="most that the hardware can transmit")
    receive_cap: Rate | None = Field(default=None, description="most that the hardware can receive")
    steps: tuple[Rate, ...] = Field(default=(), description="the only rates that an adaptive transmitter can use")
    atmosphere: dict[Literal["10 %", "1 %"], Loss] = Field(
        default_factory=dict, description="attenuation at 10 deg elevation for an exceedance"
    )
    exceedance: Literal["10 %", "1 %"] = "10 %"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        budget = self.eirp is not None or (self.power is not None and self.gain is not None)
        if self.rate is None and self.reference is None and not budget:
            raise ValueError(
                "the radio can not transmit; give 'rate', or 'reference', or 'eirp', or both 'power' and 'gain'"
            )
        if self.rate is not None and self.reference is not None:
            raise ValueError("the radio has both 'rate' and 'reference'; keep one")
        if self.rate is None and self.reference is None and self.frequency is None:
            raise ValueError("the radio has a link budget but no frequency; give 'frequency'")
        if self.atmosphere and self.exceedance not in self.atmosphere:
            raise ValueError(
                f"the radio has no atmosphere for exceedance {self.exceedance!r}; add it, or choose one of "
                f"{', '.join(self.atmosphere)}"
            )
        return self

    @property
    def has_budget(self) -> bool:
        """Whether the rate of what it transmits comes from a link budget."""
        return self.rate is None and self.reference is None

    @property
    def receives_by_budget(self) -> bool:
        """Whether a link budget can end at this radio."""
        return self.gt is not None or (self.gain is not None and self.noise_temperature is not None)
