"""Radios: what a link budget is made of, or a rate that is simply given."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from marsnet.model.quantities import Eirp, Frequency, Gain, GainOverTemperature, Loss, Power, Rate, Strict, Temperature

Band = Literal["UHF", "S", "X", "Ka", "optical"]
Coding = Literal["uncoded", "conv-1/2", "rs-conv-i5", "turbo-1/2", "turbo-1/4", "turbo-1/6", "ldpc-1/2"]


class Radio(Strict):
    """One transceiver of a node.

    A direction's rate is the smallest of what the link budget closes at, the caps of both radios, and the highest
    step. Radios without transmit power have a fixed rate and no budget.
    """

    band: Band
    rate: Rate | None = Field(default=None, description="fixed rate of what this radio transmits, in place of a budget")
    frequency: Frequency | None = None
    power: Power | None = None
    gain: Gain | None = None
    eirp: Eirp | None = None
    noise_temperature: Temperature | None = None
    gt: GainOverTemperature | None = None
    losses: Loss = 0.0
    coding: Coding = "turbo-1/6"
    margin: Loss = 3.0
    cap: Rate | None = Field(default=None, description="most that the hardware can transmit")
    steps: tuple[Rate, ...] = Field(default=(), description="the only rates that an adaptive transmitter can use")
    atmosphere: dict[Literal["10 %", "1 %"], Loss] = Field(
        default_factory=dict, description="attenuation at 10 deg elevation for an exceedance"
    )
    exceedance: Literal["10 %", "1 %"] = "10 %"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.rate is None and self.eirp is None and (self.power is None or self.gain is None):
            raise ValueError("the radio can not transmit; give 'rate', or 'eirp', or 'power' and 'gain'")
        return self
