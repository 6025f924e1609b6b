"""CCSDS Orbit Ephemeris Messages (502.0-B-3, KVN): reading them, and states between their rows."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from marsnet.clock import parse_utc
from marsnet.errors import InputError
from marsnet.sky.intervals import Array
from marsnet.sky.timescale import Timeline

_TIME_SYSTEMS = ("UTC", "TDB", "TT", "TAI")
_FRAMES = ("ICRF", "EME2000", "GCRF", "J2000")
"""Frames whose axes count as those of ICRF; EME2000 is turned by 0.02 arcseconds, 2 m at areostationary height."""
_CENTRES = ("MARS", "MARS BARYCENTER", "MARS BARYCENTRE")
_BARYCENTRES = ("SOLAR SYSTEM BARYCENTER", "SOLAR SYSTEM BARYCENTRE", "SSB")
_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)


class OemSegment(NamedTuple):
    """States of one segment.

    Attributes:
        first: TDB second since J2000 from which the segment may be used.
        last: the last such second.
        times: TDB seconds of the rows, shape (n,).
        states: metres and m/s along ICRF, shape (6, n).
        degree: of the interpolating polynomial.
        hermite: whether velocities take part in it.
        barycentric: whether the centre is the solar system's barycentre instead of Mars.
    """

    first: float
    last: float
    times: Array
    states: Array
    degree: int
    hermite: bool
    barycentric: bool


def interpolate(segment: OemSegment, tdb: Array) -> Array:
    """States at TDB seconds within a segment, by Lagrange on each row or Hermite on places with their velocities.

    Args:
        segment: the rows.
        tdb: seconds since J2000, shape (n,).

    Returns:
        Metres and m/s relative to the segment's centre, shape (6, n).
    """
    count = segment.degree + 1 if not segment.hermite else (segment.degree + 1) // 2
    count = min(max(count, 2), len(segment.times))
    right = np.searchsorted(segment.times, tdb)
    first = np.clip(right - (count + 1) // 2, 0, len(segment.times) - count)
    index = first[None, :] + np.arange(count)[:, None]
    nodes = segment.times[index]
    # Scaled to the width of the window, so that powers stay near one.
    width = nodes[-1] - nodes[0]
    x, t = (nodes - tdb) / width, segment.states[:, index]
    weight = np.ones_like(x)
    slope = np.zeros_like(x)
    derivative = np.zeros_like(x)
    for i in range(count):
        for j in range(count):
            if i != j:
                gap = x[i] - x[j]
                derivative[i] = derivative[i] * (-x[j] / gap) + weight[i] / gap
                weight[i] *= -x[j] / gap
                slope[i] += 1 / gap
    if segment.hermite:
        return _hermite(x, weight, derivative, slope, t, width)
    return np.asarray(np.einsum("kn,rkn->rn", weight, t))


def _hermite(x: Array, weight: Array, derivative: Array, slope: Array, t: Array, width: Array) -> Array:
    """Hermite's polynomial and its derivative at 0 from the Lagrange weights at nodes x (Burden & Faires, 3.4)."""
    squared, twice = weight**2, 2 * weight * derivative
    by_place = (1 + 2 * x * slope) * squared
    by_speed = -x * squared
    place_rate = (1 + 2 * x * slope) * twice - 2 * slope * squared
    speed_rate = -x * twice + squared
    place, speed = t[:3], t[3:] * width
    value = np.einsum("kn,rkn->rn", by_place, place) + np.einsum("kn,rkn->rn", by_speed, speed)
    rate = np.einsum("kn,rkn->rn", place_rate, place) + np.einsum("kn,rkn->rn", speed_rate, speed)
    return np.concatenate([value, rate / width])


def read_oem(path: Path) -> list[OemSegment]:
    """The segments of a message, in order.

    Raises:
        InputError: with file, line, value and remedy.
    """
    return _Reader(path).segments()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the file is not readable as text: {error}", remedy="give an OEM in KVN", file=path
            ) from error

    def segments(self) -> list[OemSegment]:
        found: list[OemSegment] = []
        meta: dict[str, tuple[str, int]] = {}
        rows: list[tuple[float, list[float]]] = []
        inside = covariance = seen = False
        for number, raw in enumerate(self.lines, 1):
            line = raw.strip()
            if not line or line.startswith("COMMENT"):
                continue
            if not seen:
                if not line.startswith("CCSDS_OEM_VERS"):
                    raise self._wrong(
                        number, f"{line[:40]!r} does not open an OEM", "begin it with CCSDS_OEM_VERS = 2.0"
                    )
                seen = True
            elif line == "META_START":
                self._close(found, meta, rows, number)
                meta, rows, inside = {}, [], True
            elif line == "META_STOP":
                inside = False
                self._check(meta, number)
            elif line in ("COVARIANCE_START", "COVARIANCE_STOP"):
                covariance = line.endswith("START")
            elif covariance:
                continue
            elif "=" in line:
                key, _, value = line.partition("=")
                if inside:
                    meta[key.strip()] = (value.strip(), number)
            else:
                rows.append(self._row(line, number, meta))
        self._close(found, meta, rows, len(self.lines))
        if not found:
            raise self._wrong(
                len(self.lines), "the message has no states", "add a segment with META_START and data lines"
            )
        return found

    def _wrong(self, line: int, problem: str, remedy: str) -> InputError:
        return InputError(problem, remedy=remedy, file=self.path, line=line)

    def _check(self, meta: dict[str, tuple[str, int]], number: int) -> None:
        for key, allowed in (
            ("CENTER_NAME", _CENTRES + _BARYCENTRES),
            ("REF_FRAME", _FRAMES),
            ("TIME_SYSTEM", _TIME_SYSTEMS),
        ):
            if key not in meta:
                raise self._wrong(number, f"the segment lacks {key}", f"give one of {', '.join(allowed)}")
            value, line = meta[key]
            if value.upper() not in allowed:
                raise self._wrong(line, f"{key} {value!r} is unknown here", f"give one of {', '.join(allowed)}")
        method, line = meta.get("INTERPOLATION", ("HERMITE", number))
        if method.upper() not in ("HERMITE", "LAGRANGE", "LINEAR"):
            raise self._wrong(line, f"INTERPOLATION {method!r} is unknown", "give HERMITE or LAGRANGE")
        degree, line = meta.get("INTERPOLATION_DEGREE", ("7", number))
        if not degree.isdigit() or not 1 <= int(degree) <= 25:
            raise self._wrong(line, f"INTERPOLATION_DEGREE {degree!r} is out of range", "give 1 to 25")

    def _row(self, line: str, number: int, meta: dict[str, tuple[str, int]]) -> tuple[float, list[float]]:
        parts = line.split()
        remedy = "write an epoch, three km and three km/s (and, at will, three km/s^2)"
        if not meta:
            raise self._wrong(number, f"{line[:40]!r} stands before any META_START", "describe the segment first")
        if len(parts) not in (7, 10):
            raise self._wrong(number, f"a data line has {len(parts)} fields", remedy)
        try:
            values = [float(part) * 1e3 for part in parts[1:7]]
        except ValueError as error:
            raise self._wrong(number, f"{line[:60]!r} holds no numbers", remedy) from error
        if not all(map(math.isfinite, values)):
            raise self._wrong(number, f"{line[:60]!r} is not finite", remedy)
        return self._tdb(parts[0], meta["TIME_SYSTEM"][0].upper(), number), values

    def _tdb(self, text: str, system: str, number: int) -> float:
        try:
            calendar = _calendar(text)
            # A calendar text of a uniform scale, read without leap seconds.
            uniform = (parse_utc(calendar) - _J2000).total_seconds()
        except (InputError, ValueError) as error:
            raise self._wrong(number, f"{text!r} is no epoch", "write it as 2026-10-01T12:00:00.000") from error
        if system == "UTC":
            return float(Timeline.at(calendar).tdb(0.0))
        if system == "TDB":
            return uniform
        return float(Timeline("", uniform + (32.184 if system == "TAI" else 0.0), 0.0).tdb(0.0))

    def _close(
        self,
        found: list[OemSegment],
        meta: dict[str, tuple[str, int]],
        rows: list[tuple[float, list[float]]],
        number: int,
    ) -> None:
        if not meta:
            return
        if len(rows) < 2:
            raise self._wrong(number, f"a segment has {len(rows)} states", "give at least two")
        times = np.array([row[0] for row in rows])
        if not np.all(np.diff(times) > 0):
            raise self._wrong(number, "the epochs of a segment do not increase", "sort its data lines")
        system = meta["TIME_SYSTEM"][0].upper()

        def edge(key: str, otherwise: float) -> float:
            if key not in meta:
                return otherwise
            return self._tdb(meta[key][0], system, meta[key][1])

        found.append(
            OemSegment(
                max(edge("USEABLE_START_TIME", float(times[0])), float(times[0])),
                min(edge("USEABLE_STOP_TIME", float(times[-1])), float(times[-1])),
                times,
                np.array([row[1] for row in rows]).T,
                int(meta.get("INTERPOLATION_DEGREE", ("7", 0))[0]),
                meta.get("INTERPOLATION", ("HERMITE", 0))[0].upper() == "HERMITE",
                meta["CENTER_NAME"][0].upper() in _BARYCENTRES,
            )
        )


def _calendar(text: str) -> str:
    """An OEM epoch with a day of the year (2026-274T12:00:00) turned into one with month and day."""
    date, mark, clock = text.rstrip("Z").partition("T")
    parts = date.split("-")
    if len(parts) == 2 and len(parts[1]) == 3:
        ordinal = np.datetime64(f"{parts[0]}-01-01") + (int(parts[1]) - 1)
        return f"{ordinal}{mark}{clock}"
    return text
