"""The planner against Skyfield and SPICE, at sites, years and orbits that are written down nowhere.

SPICE needs spiceypy. It is given the constants of pck00011 and a finely sampled orbit; rotation, frames, topography and
the geometry finder are its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sky_builders import STATIONS, areostationary, orbiter, site, station, topology
from skyfield.api import load, load_file, wgs84

from marsnet.clock import parse_utc
from marsnet.sky.conjunction import sep_deg
from marsnet.sky.earthframe import EarthRotation, GroundPoint
from marsnet.sky.ephemeris import KERNEL
from marsnet.sky.kepler import Kepler
from marsnet.sky.lighttime import light_time
from marsnet.sky.lines import EarthPath
from marsnet.sky.passes import passes
from marsnet.sky.search import positive_windows
from marsnet.sky.timescale import Timeline
from marsnet.units import SOL

pytestmark = pytest.mark.slow
EPHEMERIS = files("marsnet.sky") / "data" / KERNEL
YEARS = [
    "2025-06-01T00:00:00",
    "2027-02-19T16:00:00",
    "2029-07-04T05:06:07",
    "2034-08-19T00:00:00",
    "2039-03-03T03:03:03",
]


@pytest.fixture(scope="module")
def sky() -> Any:
    return load_file(str(EPHEMERIS))


@pytest.mark.parametrize("start", YEARS)
def test_light_time_and_sep_against_skyfield(sky: Any, start: str) -> None:
    scale = load.timescale(builtin=True)
    timeline = Timeline.at(start)
    for days in (0.0, 33.3, 101.7):
        utc = timeline.utc(days * 86400)
        instant = scale.from_datetime(parse_utc(utc))
        seen = sky["earth"].at(instant).observe(sky["mars barycenter"])
        assert light_time("mars", "earth", received_at=utc) == pytest.approx(seen.light_time * 86400, abs=1e-6)
        angle = seen.separation_from(sky["earth"].at(instant).observe(sky["sun"])).degrees
        assert sep_deg(timeline, np.array([days * 86400]))[0] == pytest.approx(angle, abs=1e-5)


@pytest.mark.parametrize("name", list(STATIONS))
@pytest.mark.parametrize("start", YEARS)
def test_station_edges_against_skyfield(sky: Any, name: str, start: str) -> None:
    from skyfield.searchlib import find_discrete

    scale = load.timescale(builtin=True)
    timeline = Timeline.at(start)
    node = topology({"high": areostationary(0.0), name: station(name)}, [("high", name)]).nodes[name]
    assert node.kind == "station"
    centre = EarthPath.of_geocentre(timeline, -4000.0, 2.1 * 86400.0, 1)
    path = centre.with_station(GroundPoint.of(node), EarthRotation.over(timeline, -1e4, 2e5))

    def rise(time: np.ndarray) -> np.ndarray:
        return path.sight(time, np.zeros((3, len(time)))).rise - np.sin(np.radians(10.0))

    sent = positive_windows(rise, path.times, rise(path.times)).reshape(-1)
    heard = sent + path.sight(sent, np.zeros((3, len(sent)))).delay
    place = wgs84.latlon(*_geodetic(STATIONS[name]))
    observer = sky["earth"] + place

    def above(instant: Any) -> Any:
        vector = observer.at(instant).observe(sky["mars barycenter"]).position.km
        turned = np.einsum("ij...,j...->i...", place.rotation_at(instant), vector)
        return turned[2] / np.linalg.norm(turned, axis=0) > np.sin(np.radians(10.0))

    above.step_days = 0.02  # type: ignore[attr-defined]
    begin = scale.utc(*_calendar(start))
    edges, _ = find_discrete(begin, scale.tt_jd(begin.tt + 2.0), above)
    theirs = np.array([(edge - begin) * 86400 for edge in edges])
    ours = heard[(heard > 0) & (heard < 2 * 86400)]
    assert len(theirs) == len(ours) >= 4
    assert ours == pytest.approx(theirs, abs=0.3)


def _geodetic(itrf: tuple[float, float, float]) -> tuple[float, float, float]:
    import erfa

    longitude, latitude, height = erfa.gc2gd(1, np.array(itrf))
    return float(np.degrees(latitude)), float(np.degrees(longitude)), float(height)


def _calendar(text: str) -> tuple[int, int, int, int, int, float]:
    date, clock = text.split("T")
    year, month, day = (int(part) for part in date.split("-"))
    hour, minute, second = clock.split(":")
    return year, month, day, int(hour), int(minute), float(second)


MARS = r"""KPL/PCK
\begindata
BODY499_RADII = ( 3396.19 3396.19 3376.20 )
BODY499_POLE_RA = ( 317.269202 -0.10927547 0. )
BODY499_POLE_DEC = ( 54.432516 -0.05827105 0. )
BODY499_PM = ( 176.049863 350.891982443297 0. )
BODY499_NUT_PREC_RA = ( 0 0 0 0 0 0 0 0 0 0 0.000068 0.000238 0.000052 0.000009 0.419057 )
BODY499_NUT_PREC_DEC = ( 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0.000051 0.000141 0.000031 0.000005 1.591274 )
BODY499_NUT_PREC_PM = ( 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
  0.000145 0.000157 0.000040 0.000001 0.000001 0.584542 )
BODY4_NUT_PREC_ANGLES = ( 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
  198.991226 19139.4819985 226.292679 38280.8511281 249.663391 57420.7251593
  266.183510 76560.6367950 79.398797 0.5042615
  122.433576 19139.9407476 43.058401 38280.8753272 57.663379 57420.7517205
  79.476401 76560.6495004 166.325722 0.5042615
  129.071773 19140.0328244 36.352167 38281.0473591 56.668646 57420.9295360
  67.364003 76560.2552215 104.792680 95700.4387578 95.391654 0.5042615 )
NAIF_BODY_NAME += ( 'TESTSITE' 'TESTCRAFT' )
NAIF_BODY_CODE += ( 499900 -999 )
"""


@pytest.fixture(scope="module")
def spice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    module = pytest.importorskip(
        "spiceypy", reason="spiceypy is not installed: pip install spiceypy to compare with SPICE"
    )
    text = tmp_path_factory.mktemp("spice") / "mars.tpc"
    text.write_text(MARS + "\\begintext\n")
    module.furnsh(str(text))
    yield module
    module.kclear()


def test_orientation_of_mars_against_spice(spice: Any) -> None:
    from marsnet.sky.marsframe import Rotation

    times = np.linspace(7.9e8, 1.29e9, 40)
    for time in times:
        x, y, z = Rotation.over(time, time + 1).axes(np.array([time]))
        theirs = spice.tipbod("J2000", 499, time)
        assert np.stack([x, y, z])[:, :, 0] == pytest.approx(theirs, abs=5e-9)


def _cases() -> list[Any]:
    generator = random.Random(20261001)
    cases = []
    for number in range(14):
        eccentricity = (0.0, 0.001, 0.05, 0.3, 0.6, 0.8, 0.9)[number % 7]
        low = generator.uniform(3520, 4500) if eccentricity < 0.5 else generator.uniform(3550, 3900)
        tilt = generator.choice([2.0, 30.0, 63.4, 92.6, 120.0, 150.0, 178.0])
        angles = [generator.uniform(0, 360) for _ in range(3)]
        latitude = generator.choice([-89.5, -70.0, -30.0, 0.0, 18.44, 45.0, 80.0])
        case = (low / (1 - eccentricity), eccentricity, tilt, *angles)
        place = (latitude, generator.uniform(-180, 180), generator.choice([0.0, 5.0, 10.0, 25.0, 50.0]))
        cases.append(pytest.param(case, place, YEARS[number % len(YEARS)], id=f"e{eccentricity}-i{tilt}-lat{latitude}"))
    return cases


@pytest.mark.parametrize(("elements", "place", "start"), _cases())
def test_passes_against_spices_geometry_finder(
    spice: Any, tmp_path: Path, elements: tuple[float, ...], place: tuple[float, float, float], start: str
) -> None:
    latitude, longitude, mask = place
    nodes = {"craft": orbiter(*elements[:5], anomaly=elements[5]), "base": site(latitude, longitude, mask)}
    topo = topology(nodes, [("craft", "base")])
    duration = 3 * SOL
    ours = np.array([(one.start, one.end) for one in passes(topo, "base", "craft", start, duration)]).reshape(-1, 2)
    theirs = _finder(spice, tmp_path, topo.nodes["craft"], place, Timeline.at(start), duration)
    assert len(ours) == len(theirs)
    assert ours == pytest.approx(theirs, abs=0.05)


def _finder(
    spice: Any, folder: Path, craft: Any, place: tuple[float, float, float], timeline: Timeline, duration: float
) -> np.ndarray:
    """Windows of gfposc: latitude of the craft in the site's horizon frame above the mask."""
    latitude, longitude, mask = place
    first = float(timeline.tdb(0.0))
    orbit = Kepler.of(craft.orbit, float(Timeline.at(craft.orbit.epoch).tdb(0.0)))
    times = first + np.arange(-300.0, duration + 300.0, 15.0)
    states = np.ascontiguousarray(np.vstack(orbit.state(times)).T / 1e3)
    kernel, frame = folder / "craft.bsp", folder / "frame.tf"
    handle = spice.spkopn(str(kernel), "test", 0)
    spice.spkw13(handle, -999, 499, "J2000", times[0], times[-1], "craft", 7, len(times), states, times)
    ground = spice.georec(np.radians(longitude), np.radians(latitude), 0.0, 3396.19, (3396.19 - 3376.20) / 3396.19)
    still = np.tile(np.concatenate([ground, np.zeros(3)]), (2, 1))
    spice.spkw08(
        handle, 499900, 499, "IAU_MARS", times[0], times[-1], "site", 1, 2, still, times[0], times[-1] - times[0]
    )
    spice.spkcls(handle)
    frame.write_text(
        "KPL/FK\n\\begindata\nFRAME_TESTTOPO = 1499900\nFRAME_1499900_NAME = 'TESTTOPO'\nFRAME_1499900_CLASS = 4\n"
        "FRAME_1499900_CLASS_ID = 1499900\nFRAME_1499900_CENTER = 499900\nTKFRAME_1499900_RELATIVE = 'IAU_MARS'\n"
        "TKFRAME_1499900_SPEC = 'ANGLES'\nTKFRAME_1499900_UNITS = 'DEGREES'\nTKFRAME_1499900_AXES = ( 3 2 3 )\n"
        f"TKFRAME_1499900_ANGLES = ( {-longitude!r} {latitude - 90!r} 180 )\n\\begintext\n"
    )
    loaded = [str(kernel), str(frame)]
    spice.furnsh(loaded)
    try:
        window, result = spice.cell_double(2), spice.cell_double(2000)
        spice.wninsd(first, first + duration, window)
        spice.gfposc(
            "TESTCRAFT", "TESTTOPO", "NONE", "TESTSITE", "LATITUDINAL", "LATITUDE", ">",
            float(np.radians(mask)), 0.0, 30.0, 900, window, result,
        )  # fmt: skip
        return np.array(list(result)).reshape(-1, 2) - first
    finally:
        for name in loaded:
            spice.unload(name)
