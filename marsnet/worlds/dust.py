"""What a dust storm takes from links: attenuation by band, and power at the sites that it lies over."""

from __future__ import annotations

import math

from marsnet.model.faults import DustStorm
from marsnet.model.topology import Link, Topology
from marsnet.worlds.spec import Fade

ATTENUATION = {"UHF": 0.0, "S": 0.2, "X": 0.8, "Ka": 3.0}
"""dB at the peak of a large storm. Ka: at least 3 dB (Ho, Sue and Golshan, Martian atmospheric effects on radio wave
propagation, JPL 2001). The others are this project's own: in proportion to the frequency, and nothing at UHF."""
_STEPS = 12
"""Steps in which a storm grows, and in which it fades."""
_DARK = 1e-3
"""Less than this share of the rate is none."""


def fades_of(storm: DustStorm, start: float, topology: Topology) -> tuple[Fade, ...]:
    """What a storm does to the links of its sites, by steps.

    Light is attenuated by its optical depth towards the zenith (Beer and Lambert): 4.34 dB for each unit.
    """
    fades = []
    for link in topology.links:
        over = [end for end in link.between if end in storm.sites]
        if link.wired is not None or not over:
            continue
        attenuation = _peak(storm, link, topology)
        for source in link.between:
            for begin, end, strength in _profile(storm, start):
                power = 1 - (1 - storm.power) * strength if source in over else 1.0
                rate = power * 10 ** (-attenuation * strength / 10)
                lost = rate < _DARK
                if rate < 1:
                    fades.append(
                        Fade(link.title, begin, end, source, rate=1.0 if lost else rate, loss=1.0 if lost else 0.0)
                    )
    return tuple(fades)


def _peak(storm: DustStorm, link: Link, topology: Topology) -> float:
    """dB that a link loses at the peak, once for each of its ends below the dust."""
    band = topology.radios[topology.link_radios(link)[0]].band
    default = 10 * math.log10(math.e) * storm.optical_depth if band == "optical" else ATTENUATION.get(band, 0.0)
    return storm.attenuation.get(band, default) * sum(end in storm.sites for end in link.between)


def _profile(storm: DustStorm, start: float) -> list[tuple[float, float, float]]:
    """Intervals of the storm with its strength in each, 0 to 1: linear up and down, at the middle of each step."""
    full, fading = start + storm.rise, start + storm.duration - storm.decay
    pieces = []
    for i in range(_STEPS if storm.rise else 0):
        step = storm.rise / _STEPS
        pieces.append((start + i * step, start + (i + 1) * step, (i + 0.5) / _STEPS))
    if fading > full:
        pieces.append((full, fading, 1.0))
    for i in range(_STEPS if storm.decay else 0):
        step = storm.decay / _STEPS
        pieces.append((fading + i * step, fading + (i + 1) * step, 1 - (i + 0.5) / _STEPS))
    return pieces
