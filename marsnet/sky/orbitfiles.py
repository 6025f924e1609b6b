"""Orbits from files: a CCSDS Orbit Ephemeris Message (502.0-B-3, KVN) or a target of an SPK kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import erfa
import numpy as np
from jplephem.spk import SPK

from marsnet.errors import InputError
from marsnet.model.topology import Ephemeris
from marsnet.sky.ephemeris import state
from marsnet.sky.intervals import Array
from marsnet.sky.kepler import GM
from marsnet.sky.marsframe import Rotation
from marsnet.sky.oem import interpolate, read_oem
from marsnet.sky.places import Motion
from marsnet.sky.timescale import DAY, J2000, Timeline

_TOLERANCE = 1.0  # seconds that a file may be read beyond its ends
_ECLIPTIC_J2000 = 17  # SPICE frame id; obliquity 84381.448 arcseconds


@dataclass(frozen=True)
class FilePoint:
    """An orbiter on a tabulated orbit.

    Attributes:
        name: the node, for messages.
        file: the file.
        covers: TDB seconds between which the file has states; pairs, ordered, shape (n, 2).
        evaluate: positions and velocities relative to Mars, (3, n) each, at TDB seconds.
        lowest: least radius that was found, metres.
    """

    name: str
    file: Path
    covers: Array
    evaluate: Callable[[Array], tuple[Array, Array]]
    lowest: float

    @property
    def fastest(self) -> float:
        """Angular speed that a parabolic orbit would have at the least radius, rad/s: no bound orbit is faster."""
        return math.sqrt(2 * GM / self.lowest**3)

    @property
    def grounded(self) -> bool:
        """False."""
        return False

    def motion(self, tdb: Array, rotation: Rotation) -> Motion:
        """The orbiter at TDB seconds since J2000, shape (n,).

        Raises:
            InputError: when the file does not cover an instant.
        """
        inside = np.zeros(tdb.shape, dtype=bool)
        for first, last in self.covers:
            inside |= (tdb >= first - _TOLERANCE) & (tdb <= last + _TOLERANCE)
        if not inside.all():
            wrong = float(tdb[~inside][0])
            spans = ", ".join(f"{_utc(first)} to {_utc(last)}" for first, last in self.covers)
            raise InputError(
                f"orbiter {self.name!r} has no ephemeris at {_utc(wrong)}",
                remedy=f"plan within {spans}, less 25 minutes of light time, or give a longer file",
                file=self.file,
            )
        return Motion(*self.evaluate(tdb))


def read_ephemeris(name: str, ephemeris: Ephemeris, base_dir: Path) -> FilePoint:
    """Open the file that an orbiter names.

    Args:
        name: the orbiter.
        ephemeris: its declaration.
        base_dir: what the path is relative to.

    Raises:
        InputError: with file, line, value and remedy.
    """
    relative = ephemeris.oem or ephemeris.spk
    assert relative is not None  # noqa: S101 - Ephemeris validates that one file is given
    path = base_dir / relative
    if not path.is_file():
        raise InputError(
            f"orbiter {name!r} names {str(relative)!r}, which is no file",
            remedy="give a path relative to the topology file",
        )
    if ephemeris.oem is not None:
        return _oem_point(name, path)
    assert ephemeris.target is not None  # noqa: S101 - Ephemeris validates it beside 'spk'
    return _spk_point(name, path, ephemeris.target)


def _utc(tdb: float) -> str:
    return Timeline("", tdb, 0.0).utc(0.5)[:19] + "Z"


def _checked_lowest(name: str, path: Path, places: Array) -> float:
    lowest = float(np.min(np.linalg.norm(places, axis=0)))
    if lowest < 3_376_200.0:
        raise InputError(
            f"orbiter {name!r} comes within {lowest / 1e3:.1f} km of the centre of Mars, which is below its surface",
            remedy="check the file's units (km, km/s) and centre",
            file=path,
        )
    return lowest


def _spk_point(name: str, path: Path, target: int) -> FilePoint:
    try:
        kernel = SPK.open(str(path))
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path.name!r} is no SPK kernel: {error}", remedy="give a binary SPK file", file=path
        ) from error
    segments = [segment for segment in kernel.segments if segment.target == target]
    if not segments:
        known = ", ".join(sorted({str(segment.target) for segment in kernel.segments}))
        raise InputError(f"the kernel has no target {target}", remedy=f"it has {known}", file=path)
    for segment in segments:
        if segment.center not in (0, 4, 499):
            raise InputError(
                f"target {target} is given relative to body {segment.center}",
                remedy="give a segment relative to Mars (499), its barycentre (4) or the solar system's (0)",
                file=path,
            )
        if segment.data_type not in (2, 3):
            raise InputError(
                f"target {target} is stored as SPK type {segment.data_type}, which is not read",
                remedy="convert it to type 2 or 3, or export an OEM",
                file=path,
            )
        if segment.frame not in (1, _ECLIPTIC_J2000):
            raise InputError(
                f"target {target} is given in SPICE frame {segment.frame}",
                remedy="give J2000 (1) or ECLIPJ2000 (17)",
                file=path,
            )
    covers = np.array(sorted((segment.start_second, segment.end_second) for segment in segments))

    def evaluate(tdb: Array) -> tuple[Array, Array]:
        place, speed = np.zeros((3, tdb.size)), np.zeros((3, tdb.size))
        # SPICE lets later segments take precedence.
        for segment in segments:
            here = (tdb >= segment.start_second - _TOLERANCE) & (tdb <= segment.end_second + _TOLERANCE)
            if here.any():
                place[:, here], speed[:, here] = _spk_state(
                    segment, np.clip(tdb[here], segment.start_second, segment.end_second)
                )
        return place, speed

    probes = np.concatenate([np.linspace(first, last, 20_001) for first, last in covers])
    return FilePoint(name, path, covers, evaluate, _checked_lowest(name, path, evaluate(probes)[0]))


def _spk_state(segment: Any, tdb: Array) -> tuple[Array, Array]:
    days = np.floor(tdb / DAY)
    kilometres, per_day = segment.compute_and_differentiate(J2000 + days, tdb / DAY - days)
    place = np.asarray(kilometres[:3] * 1e3)
    speed = np.asarray(per_day[:3] * (1e3 / DAY) if segment.data_type == 2 else kilometres[3:] * 1e3)
    if segment.frame == _ECLIPTIC_J2000:
        turn = erfa.rx(-math.radians(84381.448 / 3600), np.eye(3))
        place, speed = turn @ place, turn @ speed
    if segment.center == 0:
        mars, mars_speed = state("mars", tdb)
        place, speed = place - mars, speed - mars_speed
    return place, speed


def _oem_point(name: str, path: Path) -> FilePoint:
    segments = read_oem(path)
    covers = np.array([(segment.first, segment.last) for segment in segments])

    def evaluate(tdb: Array) -> tuple[Array, Array]:
        result = np.zeros((6, tdb.size))
        # 502.0-B-3, 5.2.4.4: where useable spans touch, the later segment counts.
        for segment in segments:
            here = (tdb >= segment.first - _TOLERANCE) & (tdb <= segment.last + _TOLERANCE)
            if here.any():
                rows = interpolate(segment, tdb[here])
                result[:, here] = rows - np.concatenate(state("mars", tdb[here])) if segment.barycentric else rows
        return result[:3], result[3:]

    places = [evaluate(np.clip(segment.times, segment.first, segment.last))[0] for segment in segments]
    return FilePoint(name, path, covers, evaluate, _checked_lowest(name, path, np.concatenate(places, axis=1)))
