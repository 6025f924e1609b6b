"""Link budgets: what one direction of a link carries at a distance, an elevation and an angle from the Sun.

The rate is the largest at which the received energy per bit clears the code's threshold by the margin:

    R = 10 ^ ((EIRP - L_fs - L_atm - L_point + G/T - k - Eb/N0 - margin) / 10)

with everything in decibels (CCSDS 401.0-B, DSN 810-005 module 202). The hardware cap and the steps of an adaptive
transmitter bound it. A radio can instead state a fixed rate, or a rate known at one distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marsnet.errors import InputError
from marsnet.model.radio import Coding, Radio
from marsnet.model.topology import Link, SepLimit, Topology

Array = NDArray[np.float64]

LIGHT_SPEED = 299_792_458.0
"""m/s, exact."""
BOLTZMANN_DB = 10 * math.log10(1.380649e-23)
"""dBW/K/Hz, exact constant of the SI."""
ATMOSPHERE_TEMPERATURE = 275.0
"""Mean radiating temperature of the atmosphere in kelvin, ITU-R P.618-13 section 3 (clear weather)."""
_LEAST_ELEVATION = 3.0  # Below it the flat atmosphere of the cosecant law overstates the path by more than 10 %.
_SIN_10 = math.sin(math.radians(10.0))


LEAST_RATE = 1.0
"""bit/s; a link that carries less does not close. Deep-space receivers stop at a few bits per second."""


@dataclass(frozen=True)
class Code:
    """What a channel code needs.

    Attributes:
        threshold: Eb/N0 in dB at the reference error rate.
        ber: independent bit error rate that loses as many blocks as the code does at its threshold.
        slope: decades by which the error rate falls per dB above the threshold.
    """

    threshold: float
    ber: float
    slope: float


_TURBO_BER, _RS_BER, _LDPC_BER = 1e-4 / 1784, 1e-4 / 8920, 1e-4 / 16384

# Thresholds of the turbo codes (block of 1784 bits) and of RS + convolutional (interleaving 5, block of 8920 bits):
# CCSDS 130.1-G-3, frame error rate 1e-4. Uncoded BPSK and the convolutional code (K = 7, rate 1/2, soft decisions, free
# distance 10): bit error rate 1e-6 of Q(sqrt(2 Eb/N0)) and of the union bound over the code's distance spectrum; their
# slopes are those of the same functions at the threshold. The LDPC threshold and the slopes of the block codes are this
# project's own round figures for the steep part of the published curves.
CODES: dict[Coding, Code] = {
    "uncoded": Code(10.53, 1e-6, 1.1),
    "conv-1/2": Code(4.80, 1e-6, 1.5),
    "rs-conv-i5": Code(2.39, _RS_BER, 10.0),
    "turbo-1/2": Code(1.47, _TURBO_BER, 5.0),
    "turbo-1/4": Code(0.59, _TURBO_BER, 5.0),
    "turbo-1/6": Code(0.29, _TURBO_BER, 5.0),
    "ldpc-1/2": Code(1.0, _LDPC_BER, 5.0),
}
_LEAST_BER = 1e-15
"""Below this a bit error would not be seen in years of transmission; it is given as zero."""


class BudgetItem(NamedTuple):
    """One line of an explained budget."""

    item: str
    value: float
    unit: str


@dataclass(frozen=True)
class DirectedBudget:
    """What one direction of a link carries.

    Attributes:
        source: transmitting node.
        target: receiving node.
        link: the link's name.
        fixed: bit/s where the link, a wire or the transmitter states the rate.
        transmitter: radio that transmits; None on a wire.
        receiver: radio that receives; None on a wire.
        sep: how the band degrades near the Sun; None without a limit.
    """

    source: str
    target: str
    link: str
    fixed: float | None
    transmitter: Radio | None
    receiver: Radio | None
    sep: SepLimit | None

    @property
    def cap(self) -> float:
        """Most that the hardware of both ends can do, bit/s; infinite where nothing is stated."""
        sends = self.transmitter.cap if self.transmitter is not None else None
        hears = self.receiver.receive_cap if self.receiver is not None else None
        return min(sends or math.inf, hears or math.inf)

    @property
    def by_range(self) -> bool:
        """Whether the rate depends on the distance."""
        return self.fixed is None

    @property
    def by_elevation(self) -> bool:
        """Whether the rate depends on the elevation at the Earth station."""
        return self._has_budget and bool(self._atmosphere_at_10_deg())

    def rate(
        self, distance_m: ArrayLike, elevation_deg: ArrayLike | None = None, sep_deg: ArrayLike | None = None
    ) -> tuple[Array, Array, Array]:
        """Rate in bit/s, bit error rate and frame loss probability.

        Args:
            distance_m: metres, any shape.
            elevation_deg: elevation at the Earth station in degrees, of a shape that broadcasts; None leaves the
                atmosphere at its value for 10 degrees.
            sep_deg: Sun-Earth-probe angle in degrees; None leaves the Sun out.

        Returns:
            Three arrays of the broadcast shape. A rate of zero means that the link does not close.
        """
        distance = np.asarray(distance_m, dtype=np.float64)
        elevation = np.asarray(10.0 if elevation_deg is None else elevation_deg, dtype=np.float64)
        sun = np.asarray(np.inf if sep_deg is None else sep_deg, dtype=np.float64)
        distance, elevation, sun = np.broadcast_arrays(distance, elevation, sun)
        clear, loss = self._sun(sun)
        ber = np.zeros(distance.shape)
        if self.fixed is not None:
            return _usable(clear * self.fixed), ber, loss
        closing = self._closing_rate(distance, elevation)
        rate = _usable(self._allowed(clear * closing))
        if self._has_budget:
            ber = self._error_rate(closing, rate)
        return rate, ber, loss

    def explain(
        self, distance_m: float, elevation_deg: float | None = None, sep_deg: float | None = None
    ) -> list[BudgetItem]:
        """The budget line by line; gains are positive and losses negative."""
        distance = np.asarray(distance_m, dtype=np.float64)
        elevation = np.asarray(10.0 if elevation_deg is None else elevation_deg, dtype=np.float64)
        lines = [BudgetItem("distance", float(distance_m) / 1e3, "km")]
        if elevation_deg is not None:
            lines.append(BudgetItem("elevation at the station", float(elevation_deg), "deg"))
        if sep_deg is not None:
            lines.append(BudgetItem("Sun-Earth-probe angle", float(sep_deg), "deg"))
        closing: float | None = None
        if self.fixed is not None:
            lines.append(BudgetItem("stated rate", self.fixed, "bit/s"))
        else:
            closing = float(self._closing_rate(distance, elevation))
            transmitter = self._sender
            if transmitter.reference is not None:
                lines.append(BudgetItem("known rate", transmitter.reference.rate, "bit/s"))
                lines.append(BudgetItem("at distance", transmitter.reference.distance / 1e3, "km"))
            else:
                lines += self._decibels(distance, elevation)
            lines.append(BudgetItem("rate at which the link closes", closing, "bit/s"))
        rate, ber, loss = self.rate(distance, elevation, sep_deg)
        if self.sep is not None and sep_deg is not None:
            lines.append(BudgetItem("left by the Sun", 100 * float(self._sun(np.asarray(sep_deg))[0]), "%"))
            lines.append(BudgetItem("frames lost to the Sun", 100 * float(loss), "%"))
        if closing is not None and math.isfinite(self.cap):
            lines.append(BudgetItem("hardware cap", self.cap, "bit/s"))
        if closing is not None and self._sender.steps:
            lines.append(BudgetItem("highest step", max(self._sender.steps), "bit/s"))
        lines.append(BudgetItem("rate", float(rate), "bit/s"))
        if closing is not None and self._has_budget and rate > 0:
            above = self._sender.margin + 10 * math.log10(closing / float(rate))
            lines.append(BudgetItem("margin at this rate", above, "dB"))
            lines.append(BudgetItem("bit error rate", float(ber), ""))
        return lines

    @property
    def _has_budget(self) -> bool:
        return self.fixed is None and self.transmitter is not None and self.transmitter.has_budget

    @property
    def _sender(self) -> Radio:
        assert self.transmitter is not None  # noqa: S101 - a direction without a stated rate has radios
        return self.transmitter

    @property
    def _hearer(self) -> Radio:
        assert self.receiver is not None  # noqa: S101 - a direction without a stated rate has radios
        return self.receiver

    def _sun(self, sep: Array) -> tuple[Array, Array]:
        """The part of the rate that is left, and the frame loss, at SEP angles in degrees."""
        if self.sep is None:
            return np.ones(sep.shape), np.zeros(sep.shape)
        span = max(self.sep.clear - self.sep.cut, 1e-12)
        clear = np.clip((sep - self.sep.cut) / span, 0.0, 1.0)
        return clear, self.sep.loss * (1.0 - clear)

    def _closing_rate(self, distance: Array, elevation: Array) -> Array:
        sender = self._sender
        if sender.reference is not None:
            known = sender.reference
            return np.asarray(known.rate * (known.distance / distance) ** 2)
        surplus = sum(
            (np.asarray(line.value) for line in self._terms(distance, elevation)), start=np.zeros(distance.shape)
        )
        needed = CODES[sender.coding].threshold + sender.margin
        return np.asarray(10 ** ((surplus - BOLTZMANN_DB - needed) / 10))

    def _allowed(self, rate: Array) -> Array:
        """Bound rates by what the hardware of both ends can do and put them on the transmitter's steps."""
        rate = np.minimum(rate, self.cap)
        if self._sender.steps:
            ladder = np.array([0.0, *sorted(self._sender.steps)])
            rate = ladder[np.searchsorted(ladder, rate * (1 + 1e-12), side="right") - 1]
        return rate

    def _error_rate(self, closing: Array, rate: Array) -> Array:
        code = CODES[self._sender.coding]
        with np.errstate(divide="ignore", invalid="ignore"):
            above = self._sender.margin + 10 * np.log10(closing / rate)
            ber = code.ber * 10 ** (-code.slope * above)
        return np.where((rate > 0) & (ber >= _LEAST_BER), np.minimum(ber, 0.5), 0.0)

    def _atmosphere_at_10_deg(self) -> float:
        return sum(radio.atmosphere.get(radio.exceedance, 0.0) for radio in (self._sender, self._hearer))

    def _terms(self, distance: Array, elevation: Array) -> list[_Term]:
        """The terms in dB that add up to the received power over noise density and Boltzmann's constant."""
        sender, hearer = self._sender, self._hearer
        frequency = sender.frequency
        assert frequency is not None  # noqa: S101 - the radio's validator demands it for a budget
        air = self._atmosphere_at_10_deg() * _SIN_10 / np.sin(np.radians(np.maximum(elevation, _LEAST_ELEVATION)))
        terms: list[_Term] = []
        if sender.eirp is not None:
            terms.append(_Term("EIRP", sender.eirp, "dBW"))
        else:
            assert sender.power is not None  # noqa: S101 - the radio's validator demands it without EIRP
            assert sender.gain is not None  # noqa: S101
            terms.append(_Term("transmitter power", 10 * math.log10(sender.power), "dBW"))
            terms.append(_Term("transmitting antenna gain", sender.gain, "dBi"))
            terms.append(_Term("transmitter losses", -sender.losses, "dB"))
        terms.append(_Term("transmitter pointing", -sender.pointing, "dB"))
        terms.append(_Term("free space", -20 * np.log10(4 * math.pi * distance * frequency / LIGHT_SPEED), "dB"))
        if self._atmosphere_at_10_deg():
            terms.append(_Term("atmosphere", -air, "dB"))
        terms.append(_Term("receiver pointing", -hearer.pointing, "dB"))
        if hearer.gt is not None:
            terms.append(_Term("receiver G/T", hearer.gt, "dB/K"))
        else:
            assert hearer.gain is not None  # noqa: S101 - the topology's validator demands it for a budget
            assert hearer.noise_temperature is not None  # noqa: S101
            terms.append(_Term("receiving antenna gain", hearer.gain, "dBi"))
            terms.append(_Term("receiver losses", -hearer.losses, "dB"))
            sky = ATMOSPHERE_TEMPERATURE * (1 - 10 ** (-air / 10)) if hearer.atmosphere else np.zeros(air.shape)
            terms.append(_Term("system noise temperature", -10 * np.log10(hearer.noise_temperature + sky), "dBK"))
        return terms

    def _decibels(self, distance: Array, elevation: Array) -> list[BudgetItem]:
        terms = self._terms(distance, elevation)
        density = sum(float(term.value) for term in terms) - BOLTZMANN_DB
        return [
            *(BudgetItem(term.item, float(term.value), term.unit) for term in terms),
            BudgetItem("Boltzmann's constant", -BOLTZMANN_DB, "dBHzK/W"),
            BudgetItem("received power over noise density", density, "dBHz"),
            BudgetItem(f"threshold Eb/N0, {self._sender.coding}", -CODES[self._sender.coding].threshold, "dB"),
            BudgetItem("margin", -self._sender.margin, "dB"),
        ]


def _usable(rate: Array) -> Array:
    """Rates with zero in place of what no receiver locks on to."""
    return np.where(rate >= LEAST_RATE, rate, 0.0)


class _Term(NamedTuple):
    item: str
    value: float | Array
    unit: str


def directed_budget(topology: Topology, link: Link, source: str, target: str) -> DirectedBudget:
    """The budget of one direction of a link.

    A wire's rate and a rate given with the link hold for both directions. A rate given with a radio holds for what that
    radio transmits, so forward and return rates can differ.

    Raises:
        InputError: when `source` and `target` are not the link's ends.
    """
    if {source, target} != set(link.between) or source == target:
        raise InputError(
            f"link {link.title!r} does not join {source!r} to {target!r}", remedy=f"its ends are {link.between}"
        )
    if link.wired is not None:
        return DirectedBudget(source, target, link.title, link.wired.rate, None, None, None)
    names = topology.link_radios(link)
    if source != link.between[0]:
        names = names[::-1]
    transmitter, receiver = (topology.radios[name] for name in names)
    fixed = link.rate if link.rate is not None else transmitter.rate
    return DirectedBudget(source, target, link.title, fixed, transmitter, receiver, topology.sep.get(transmitter.band))
