"""How fast the planner is, and how its windows compare with SPICE's geometry finder.

    python benchmarks/sky.py [--year] [--spice]

Prints figures; nothing here passes or fails. `--year` adds 668.6 sols. `--spice` needs spiceypy: it plans one site and
one orbiter with both and prints the ratio of the times and the largest difference of edges.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from marsnet.model.topology import Topology
from marsnet.sky.passes import passes
from marsnet.sky.planner import stream_contacts
from marsnet.units import SOL

START = "2026-10-01T00:00:00Z"
ORBITS = {
    "mro": (3655.0, 0.005, 92.6, 200.0, 270.0),
    "tgo": (3796.19, 0.0, 74.0, 40.0, 0.0),
    "maven": (5736.19, 0.3766, 75.0, 100.0, 60.0),
    "odyssey": (3796.0, 0.001, 93.1, 120.0, 270.0),
    "polar": (8000.0, 0.0, 90.0, 60.0, 0.0),
}
SITES = {"jezero": (18.44, 77.45), "gale": (-4.59, 137.44), "arcadia": (38.0, -170.0)}
STATIONS = {
    "dss14": (-2353621.420, -4641341.472, 3677052.318),
    "dss43": (-4460894.917, 2682361.507, -3674748.152),
    "dss63": (4849092.518, -360180.348, 4115109.251),
}


def orbit(a: float, e: float, i: float, node: float, periapsis: float) -> dict[str, Any]:
    """Mean elements as a topology file writes them; km and degrees."""
    angles = {"inclination": i, "node": node, "periapsis": periapsis, "anomaly": 0.0}
    return {
        "frame": "mars-equator-j2000",
        "elements": "mean",
        "epoch": START,
        "semi_major_axis": f"{a} km",
        "eccentricity": e,
        **{name: f"{value} deg" for name, value in angles.items()},
    }


def fleet() -> Topology:
    """Six orbiters, three sites, three stations; every pair that can meet is linked."""
    steps = [f"{2**k} kbit/s" for k in range(12)]
    radios = {
        "uhf": {
            "band": "UHF", "frequency": "401.6 MHz", "power": "8.5 W", "gain": "2 dBi", "noise_temperature": "526 K",
            "losses": "1 dB", "coding": "conv-1/2", "steps": steps,
        },
        "hga": {
            "band": "X", "frequency": "8.44 GHz", "power": "100 W", "gain": "46.7 dBi", "noise_temperature": "500 K",
            "coding": "turbo-1/6", "cap": "6 Mbit/s",
        },
        "dsn": {
            "band": "X", "frequency": "7.18 GHz", "power": "20 kW", "gain": "67 dBi", "noise_temperature": "33 K",
            "coding": "turbo-1/6", "cap": "2 Mbit/s", "atmosphere": {"10 %": "0.4 dB"},
        },
    }  # fmt: skip
    nodes: dict[str, Any] = {}
    for name, elements in ORBITS.items():
        nodes[name] = {"kind": "orbiter", "radios": ["uhf", "hga"], "orbit": orbit(*elements)}
    nodes["areo"] = {"kind": "orbiter", "radios": ["uhf", "hga"], "areostationary": {"longitude": "100 deg"}}
    for name, (latitude, longitude) in SITES.items():
        place = {"latitude": f"{latitude} deg", "longitude": f"{longitude} deg"}
        nodes[name] = {"kind": "site", "radios": ["uhf", "hga"], **place}
    for name, itrf in STATIONS.items():
        mask = {"receive": "6 deg", "transmit": "10 deg"}
        nodes[name] = {"kind": "station", "radios": ["dsn"], "itrf": [f"{x} m" for x in itrf], "mask": mask}
    for number, node in enumerate(nodes.values(), 1):
        node["number"] = number
    orbiters, sites = [*ORBITS, "areo"], list(SITES)
    pairs = [(a, b, "UHF") for k, a in enumerate(orbiters) for b in orbiters[:k]]
    pairs += [(site, orbiter, "UHF") for site in sites for orbiter in orbiters]
    pairs += [(station, other, "X") for station in STATIONS for other in [*orbiters, *sites]]
    return Topology.model_validate(
        {
            "marsnet": "topology/1",
            "name": "benchmark",
            "radios": radios,
            "nodes": nodes,
            "links": [{"between": [a, b], "band": band} for a, b, band in pairs],
            "sep": {"X": {"cut": "2 deg", "clear": "5 deg", "loss": 0.2}},
        }
    )


def measure(topology: Topology, sols: float) -> None:
    """Plan an interval and print its figures."""
    started = time.perf_counter()
    contacts = ranges = 0
    for chunk in stream_contacts(topology, START, sols * SOL):
        contacts += len(chunk.contacts)
        ranges += len(chunk.ranges)
    elapsed = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    helper = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    pairs = 2 * len(topology.links)
    print(
        f"{sols:7.1f} sols, {pairs} directions: {elapsed:6.2f} s, {1e6 * elapsed / sols / pairs:6.1f} us per sol and "
        f"direction, {contacts} contacts, {ranges} ranges, peak {peak:.0f} MB"
        + (f" and {helper:.0f} MB in each helper" if helper else "")
    )


MARS_KERNEL = r"""KPL/PCK
\begindata
BODY499_RADII = ( 3396.19 3396.19 3376.20 )
BODY499_POLE_RA = ( 317.269202 -0.10927547 0. )
BODY499_POLE_DEC = ( 54.432516 -0.05827105 0. )
BODY499_PM = ( 176.049863 350.891982443297 0. )
NAIF_BODY_NAME += ( 'BENCHSITE' 'BENCHORBITER' )
NAIF_BODY_CODE += ( 499900 -999 )
FRAME_BENCHTOPO = 1499900
FRAME_1499900_NAME = 'BENCHTOPO'
FRAME_1499900_CLASS = 4
FRAME_1499900_CLASS_ID = 1499900
FRAME_1499900_CENTER = 499900
OBJECT_499900_FRAME = 'BENCHTOPO'
TKFRAME_1499900_RELATIVE = 'IAU_MARS'
TKFRAME_1499900_SPEC = 'ANGLES'
TKFRAME_1499900_UNITS = 'DEGREES'
TKFRAME_1499900_AXES = ( 3 2 3 )
"""


def against_spice(topology: Topology, sols: float) -> None:
    """One site and one orbiter with SPICE's geometry finder (gfposc) on the same orbit, interval and mask."""
    import spiceypy as spice  # noqa: PLC0415 - only this comparison needs it

    from marsnet.sky.kepler import Kepler  # noqa: PLC0415
    from marsnet.sky.marsframe import orientation, spheroid_point  # noqa: PLC0415
    from marsnet.sky.timescale import Timeline  # noqa: PLC0415

    site, orbiter = "jezero", "mro"
    latitude, longitude = SITES[site]
    timeline = Timeline.at(START)
    first = float(timeline.tdb(0.0))
    node: Any = topology.nodes[orbiter]
    times = first + np.arange(-600.0, sols * SOL + 600.0, 30.0)
    place, speed = Kepler.of(node.orbit, float(Timeline.at(node.orbit.epoch).tdb(0.0))).state(times)
    place, speed = np.asarray(place), np.asarray(speed)
    # The pole drifts by 1e-6 degrees in a month, so its value at the start stands in for the trigonometric terms.
    ascension, declination, meridian = (float(angle) for angle in orientation(first))
    days = first / 86400.0
    fixed, _, _, _ = spheroid_point(latitude, longitude, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "bench.tpc"
        text.write_text(
            MARS_KERNEL.replace("317.269202 -0.10927547", f"{ascension:.15g} 0")
            .replace("54.432516 -0.05827105", f"{declination:.15g} 0")
            .replace("176.049863", f"{meridian - 350.891982443297 * days:.15g}")
            + f"TKFRAME_1499900_ANGLES = ( {-longitude} {latitude - 90} 180 )\n\\begintext\n"
        )
        kernel = Path(folder) / "bench.bsp"
        handle = spice.spkopn(str(kernel), "benchmark", 0)
        states = np.ascontiguousarray(np.vstack([place, speed]).T / 1e3)
        spice.spkw13(handle, -999, 499, "J2000", times[0], times[-1], "orbit", 7, len(times), states, times)
        still = np.tile(np.concatenate([fixed / 1e3, np.zeros(3)]), (2, 1))
        span = times[-1] - times[0]
        spice.spkw08(handle, 499900, 499, "IAU_MARS", times[0], times[-1], "site", 1, 2, still, times[0], span)
        spice.spkcls(handle)
        spice.furnsh([str(text), str(kernel)])
        window = spice.cell_double(2)
        spice.wninsd(first, first + sols * SOL, window)
        result = spice.cell_double(20_000)
        started = time.perf_counter()
        spice.gfposc(
            "BENCHORBITER", "BENCHTOPO", "NONE", "BENCHSITE", "LATITUDINAL", "LATITUDE", ">", np.radians(10.0), 0.0,
            60.0, 10_000, window, result,
        )  # fmt: skip
        theirs_time = time.perf_counter() - started
        theirs = np.array(list(result)).reshape(-1, 2) - first
        spice.kclear()
    started = time.perf_counter()
    found = passes(topology, site, orbiter, START, sols * SOL)
    ours_time = time.perf_counter() - started
    ours = np.array([(one.start, one.end) for one in found])
    print(
        f"{sols:7.1f} sols, {site}-{orbiter}: {ours_time:.3f} s here, {theirs_time:.3f} s with spiceypy: "
        f"{theirs_time / ours_time:.0f} times faster"
    )
    if ours.shape == theirs.shape:
        print(f"{len(ours)} passes in both, edges within {np.abs(ours - theirs).max():.4f} s")
    else:
        print(f"{len(ours)} passes here, {len(theirs)} with spiceypy")


def main() -> None:
    """Print the figures that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--year", action="store_true", help="also plan 668.6 sols")
    parser.add_argument("--spice", action="store_true", help="also compare with spiceypy's geometry finder")
    arguments = parser.parse_args()
    topology = fleet()
    for sols in (1.0, 10.0, 30.0):
        measure(topology, sols)
    if arguments.year:
        measure(topology, 668.6)
    if arguments.spice:
        against_spice(topology, 30.0)


if __name__ == "__main__":
    main()
