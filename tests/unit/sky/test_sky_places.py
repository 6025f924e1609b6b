"""Light times between nodes, moons, conjunction arguments, passes: what is refused and what is published elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sky_builders import EPOCH, MRO, areostationary, h1, orbiter, site, topology

from marsnet.errors import InputError
from marsnet.sky.conjunction import conjunctions
from marsnet.sky.kepler import eccentric_anomaly
from marsnet.sky.lighttime import light_time
from marsnet.sky.lines import Stencil
from marsnet.sky.marsframe import Rotation, orientation, spheroid_point
from marsnet.sky.moons import MOONS, MoonPoint, moon_place
from marsnet.sky.passes import passes
from marsnet.units import AU, SOL


def test_light_time_is_the_same_from_both_of_its_ends() -> None:
    from marsnet.sky.timescale import Timeline

    sent = light_time("mro", "dss14", transmitted_at=EPOCH, topology=h1())
    arrival = Timeline.at(EPOCH).utc(sent)
    assert light_time("mro", "dss14", received_at=arrival, topology=h1()) == pytest.approx(sent, abs=1e-6)
    assert abs(sent - light_time("mars", "earth", transmitted_at=EPOCH)) < (6378e3 + 3700e3) / 299792458.0


def test_light_time_to_an_areostationary_orbiter_overhead() -> None:
    topo = topology({"high": areostationary(0.0), "below": site(0.0, 0.0)}, [("high", "below")])
    # Mars moves on by 1.4 km meanwhile: clocks of the solar system and of Mars disagree by 4 us over this distance.
    expected = (20_428_000.0 - 3_396_190.0) / 299_792_458.0
    assert light_time("high", "below", transmitted_at=EPOCH, topology=topo) == pytest.approx(expected, abs=6e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"a": "venus", "b": "earth", "received_at": EPOCH},
            "'venus' is no body; name earth or mars, or give a topology",
        ),
        (
            {"a": "odyssey", "b": "earth", "received_at": EPOCH, "topology": h1()},
            "name one of earth, mars, dss14, jezero",
        ),
        ({"a": "mars", "b": "earth"}, "needs one instant"),
        ({"a": "mars", "b": "earth", "received_at": EPOCH, "transmitted_at": EPOCH}, "needs one instant"),
        ({"a": "mars", "b": "earth", "received_at": "1999-01-01"}, "1998-12-31T23:10:01.000Z is outside the ephemeris"),
    ],
)
def test_light_times_that_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        light_time(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("2030-01-01", "2029-01-01", 3.0), "is empty"),
        (("2030-01-01", "2031-01-01", 0.0), "no limit"),
        (("2030-01-01", "2050-01-01", 3.0), "outside the ephemeris"),
    ],
)
def test_conjunctions_that_are_refused(arguments: tuple[str, str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        conjunctions(*arguments)


def test_conjunctions_of_an_interval_that_begins_within_one() -> None:
    whole = conjunctions("2026-06-01", "2036-01-01", 3.0)
    assert [one.least_at[:10] for one in whole] == ["2028-03-21", "2030-05-25", "2032-07-11", "2034-08-19"]
    assert [round(one.least_deg, 2) for one in whole] == [0.81, 0.28, 0.98, 1.14]
    (late,) = conjunctions("2030-05-28", "2030-08-01", 3.0)
    assert late.entry is None
    assert late.instant is None
    assert late.exit is not None
    assert whole[1].exit is not None
    assert late.exit[:18] == whole[1].exit[:18]


@pytest.mark.parametrize(
    ("day", "place"),
    [
        # Lainey et al. (2007), MarsSatV1_0: au along ICRF at TDB days since J2000.
        (0.0, (-0.000013308157, -0.000058444725, -0.000021266023)),
        (10.0, (0.000050907508, 0.000033574979, -0.000011296402)),
        (20.0, (-0.000051052809, 0.000012426617, 0.000033811410)),
    ],
)
def test_phobos_is_where_an_integrated_orbit_has_it(day: float, place: tuple[float, float, float]) -> None:
    found = moon_place(MOONS["phobos"], np.array([day * 86400.0]))[:, 0]
    assert np.linalg.norm(found - np.array(place) * AU) < 6000.0


@pytest.mark.parametrize("name", ["phobos", "deimos"])
def test_a_moon_turns_one_face_to_mars_and_moves_as_it_says(name: Any) -> None:
    times = 8e8 + np.arange(0.0, 4e5, 600.0)
    rotation = Rotation.over(times[0], times[-1])
    point = MoonPoint.of(name, 0.0, 0.0, 0.0)
    motion = point.motion(times, rotation)
    assert motion.up is not None
    assert motion.turn is not None
    towards = -motion.place / np.linalg.norm(motion.place, axis=0)
    assert np.degrees(np.arccos(np.minimum((towards * motion.up).sum(axis=0), 1.0))).max() < 3.5
    ahead = point.motion(times + 0.5, rotation)
    assert motion.after(np.full(times.shape, 0.5)).place == pytest.approx(ahead.place, abs=45.0)


def test_an_areostationary_orbiter_never_moves_over_the_ground() -> None:
    topo = topology({"high": areostationary(30.0), "base": site(0.0, 30.0)}, [("high", "base")])
    (one,) = passes(topo, "base", "high", EPOCH, 10 * SOL)
    assert (one.start, one.end) == (0.0, 10 * SOL)
    assert one.highest_deg == pytest.approx(90.0, abs=1e-3)
    assert one.nearest_m == pytest.approx(20_428_000.0 - 3_396_190.0, abs=1.0)


def test_a_pass_across_the_border_of_two_chunks_is_one() -> None:
    topo = topology({"high": areostationary(30.0), "base": site(0.0, 30.0)}, [("high", "base")])
    assert len(passes(topo, "base", "high", EPOCH, 40 * SOL)) == 1


def test_passes_over_level_terrain_are_those_over_a_mask() -> None:
    wall = [{"azimuth": "0 deg", "elevation": "15 deg"}]
    places = site(10.0, 20.0, mask=15.0), site(10.0, 20.0, mask=5.0, terrain=wall)
    high, walled = (
        passes(topology({"mro": orbiter(*MRO), "base": place}, [("mro", "base")]), "base", "mro", EPOCH, 5 * SOL)
        for place in places
    )
    assert len(high) > 5
    flat = [time for one in high for time in (one.start, one.end)]
    assert [time for one in walled for time in (one.start, one.end)] == pytest.approx(flat, abs=2e-3)


@pytest.mark.parametrize(
    ("site_name", "orbiter_name", "duration", "words"),
    [
        ("mro", "mro", 1.0, "'mro' is no site; name one of the topology"),
        ("jezero", "nobody", 1.0, "'nobody' is no node at Mars"),
        ("jezero", "jezero", 1.0, "pass over itself"),
        ("jezero", "mro", 0.0, "holds no passes"),
    ],
)
def test_passes_that_are_refused(site_name: str, orbiter_name: str, duration: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        passes(h1(), site_name, orbiter_name, EPOCH, duration)


def test_a_mask_of_ones_own() -> None:
    topo = topology({"mro": orbiter(*MRO), "base": site(80.0, 0.0)}, [("mro", "base")])
    low, high = (passes(topo, "base", "mro", EPOCH, SOL, mask_deg=mask) for mask in (0.0, 60.0))
    assert len(low) > len(high) > 0
    assert all(one.highest_deg >= 60.0 for one in high)


@pytest.mark.parametrize("eccentricity", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.99])
def test_keplers_equation(eccentricity: float) -> None:
    mean = np.linspace(-20.0, 20.0, 2001)
    found = eccentric_anomaly(mean, eccentricity)
    residue = np.remainder(found - eccentricity * np.sin(found) - mean + np.pi, 2 * np.pi) - np.pi
    assert np.abs(residue).max() < 1e-13


def test_the_fast_rotation_of_mars_is_the_exact_one() -> None:
    times = 8.4e8 + np.linspace(0.0, 1.5e6, 997)
    x, _, z = Rotation.over(times[0], times[-1]).axes(times)
    ascension, declination, meridian = (np.radians(angle) for angle in orientation(times))
    node = np.stack([-np.sin(ascension), np.cos(ascension), np.zeros(len(times))])
    pole = np.stack(
        [np.cos(declination) * np.cos(ascension), np.cos(declination) * np.sin(ascension), np.sin(declination)]
    )
    exact = node * np.cos(meridian) + np.cross(pole, node, axis=0) * np.sin(meridian)
    assert np.abs(x - exact).max() < 2e-9
    assert np.abs(z - pole).max() < 1e-10


def test_geodetic_places() -> None:
    place, up, east, north = spheroid_point(90.0, 0.0, 1000.0)
    assert place == pytest.approx([0.0, 0.0, 3_377_200.0], abs=1e-6)
    place, up, east, north = spheroid_point(0.0, 90.0, 0.0)
    assert place == pytest.approx([0.0, 3_396_190.0, 0.0], abs=1e-6)
    assert up == pytest.approx([0.0, 1.0, 0.0])
    assert east == pytest.approx([-1.0, 0.0, 0.0])
    assert north == pytest.approx([0.0, 0.0, 1.0])


def test_interpolation_follows_cubics_exactly() -> None:
    samples = np.arange(12.0)
    time = np.linspace(0.0, 11.0, 40)
    cubic = 0.1 * samples**3 - samples
    found = Stencil(0.0, 1.0, 12, time).apply(np.stack([cubic, 2 * cubic]))
    assert found == pytest.approx(np.stack([0.1 * time**3 - time, 0.2 * time**3 - 2 * time]))
