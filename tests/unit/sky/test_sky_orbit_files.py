"""Orbits from OEM and SPK files that are made here from a known orbit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jplephem.daf import DAF
from jplephem.spk import SPK
from sky_builders import EPOCH, TGO, orbiter, site, topology

from marsnet.errors import InputError
from marsnet.model.topology import Orbiter, Topology
from marsnet.sky.ephemeris import KERNEL, position, state
from marsnet.sky.kepler import Kepler
from marsnet.sky.marsframe import Rotation
from marsnet.sky.nodes import Sky
from marsnet.sky.planner import plan_contacts
from marsnet.sky.timescale import DAY, Timeline
from marsnet.units import SOL

STEP = 120.0


def known_orbit() -> Kepler:
    node = Orbiter.model_validate({"number": 1, **orbiter(*TGO)})
    assert node.orbit is not None
    return Kepler.of(node.orbit, float(Timeline.at(EPOCH).tdb(0.0)))


def oem(
    path: Path,
    *,
    centre: str = "MARS",
    frame: str = "ICRF",
    scale: str = "UTC",
    method: str = "HERMITE",
    degree: int = 7,
) -> Path:
    """Two sols of the known orbit and an hour on either side."""
    timeline = Timeline.at(EPOCH)
    times = np.arange(-3600.0, 2 * SOL + 3600.0, STEP)
    tdb = timeline.tdb(times)
    rows = np.concatenate(known_orbit().state(tdb))
    if "SOLAR" in centre:
        rows = rows + np.concatenate(state("mars", tdb))
    shift = {"UTC": 0.0, "TAI": 37.0, "TT": 69.184}.get(scale)
    lines = [
        "CCSDS_OEM_VERS = 2.0",
        "COMMENT made by a test",
        "CREATION_DATE = 2026-01-01T00:00:00",
        "ORIGINATOR = TEST",
        "META_START",
        "OBJECT_NAME = TGO",
        "OBJECT_ID = 2016-017A",
        f"CENTER_NAME = {centre}",
        f"REF_FRAME = {frame}",
        f"TIME_SYSTEM = {scale}",
        f"INTERPOLATION = {method}",
        f"INTERPOLATION_DEGREE = {degree}",
        "META_STOP",
    ]
    for column, time, instant in zip(rows.T, times, tdb, strict=True):
        offset = shift if shift is not None else instant - timeline.tt(time) + 69.184
        epoch = timeline.utc(time + offset)[:-1]
        if scale == "TDB":
            whole = timeline.utc(time + 69.184)[:-1]
            lines.append(f"{whole} " + " ".join(f"{value / 1e3:.12f}" for value in column))
            continue
        lines.append(f"{epoch} " + " ".join(f"{value / 1e3:.12f}" for value in column))
    path.write_text("\n".join(lines) + "\n")
    return path


def with_file(**ephemeris: Any) -> Topology:
    craft = {"kind": "orbiter", "radios": ["uhf"], "ephemeris": ephemeris}
    return topology({"craft": craft, "base": site(10.0, 20.0)}, [("craft", "base")])


def compare(topo: Topology, folder: Path, within: float) -> None:
    sky = Sky.of(topo, EPOCH, folder)
    times = sky.timeline.tdb(np.linspace(0.0, 2 * SOL, 1501))
    place, speed = known_orbit().state(times)
    motion = sky.places["craft"].motion(times, Rotation.over(times[0], times[-1]))
    assert np.abs(motion.place - place).max() < within
    assert np.abs(motion.speed - speed).max() < 8.0


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({}, 0.1),
        ({"method": "LAGRANGE", "degree": 8}, 0.5),
        ({"scale": "TT"}, 0.1),
        ({"scale": "TAI", "frame": "EME2000"}, 0.1),
        ({"centre": "SOLAR SYSTEM BARYCENTER"}, 0.1),
        # The test writes TDB as TT: two milliseconds of flight.
        ({"scale": "TDB"}, 8.0),
    ],
    ids=["hermite", "lagrange", "tt", "tai", "barycentric", "tdb"],
)
def test_an_oem_gives_back_its_orbit(tmp_path: Path, options: dict[str, Any], within: float) -> None:
    oem(tmp_path / "tgo.oem", **options)
    compare(with_file(oem="tgo.oem"), tmp_path, within)


def test_a_plan_from_an_oem_is_that_of_its_orbit(tmp_path: Path) -> None:
    oem(tmp_path / "tgo.oem")
    read = plan_contacts(with_file(oem="tgo.oem"), EPOCH, 2 * SOL, base_dir=tmp_path)
    known = topology({"craft": orbiter(*TGO), "base": site(10.0, 20.0)}, [("craft", "base")])
    planned = plan_contacts(known, EPOCH, 2 * SOL)
    assert len(read.contacts) == len(planned.contacts) > 4
    for one, two in zip(read.contacts, planned.contacts, strict=True):
        assert (one.start, one.end) == pytest.approx((two.start, two.end), abs=0.01)


def test_a_plan_beyond_an_oem_is_refused(tmp_path: Path) -> None:
    oem(tmp_path / "tgo.oem")
    with pytest.raises(
        InputError, match=r"orbiter 'craft' has no ephemeris at 2026-10-0.*plan within 2026-09-30T23:00:00Z"
    ):
        plan_contacts(with_file(oem="tgo.oem"), EPOCH, 4 * SOL, base_dir=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("CCSDS_OEM_VERS = 2.0", "HELLO", 1, "does not open an OEM"),
        ("CENTER_NAME = MARS", "CENTER_NAME = EARTH", 8, "CENTER_NAME 'EARTH' is unknown here; give one of MARS"),
        ("REF_FRAME = ICRF", "REF_FRAME = TEME", 9, "REF_FRAME 'TEME' is unknown here"),
        ("TIME_SYSTEM = UTC", "TIME_SYSTEM = GPS", 10, "TIME_SYSTEM 'GPS' is unknown"),
        ("TIME_SYSTEM = UTC\n", "", 12, "lacks TIME_SYSTEM"),
        ("INTERPOLATION = HERMITE", "INTERPOLATION = MAGIC", 11, "'MAGIC' is unknown"),
        ("INTERPOLATION_DEGREE = 7", "INTERPOLATION_DEGREE = 70", 12, "'70' is out of range"),
        ("2026-09-30T23:02:00.000 ", "2026-13-30T23:02:00.000 ", 15, "is no epoch"),
        ("2026-09-30T23:02:00.000 ", "2026-09-30T23:02:00.000 1.0 ", 15, "has 8 fields"),
        ("2026-09-30T23:02:00.000 ", "2026-09-30T22:02:00.000 ", 1556, "do not increase"),
    ],
)
def test_a_malformed_oem_names_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    path = oem(tmp_path / "tgo.oem")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=words) as caught:
        Sky.of(with_file(oem="tgo.oem"), EPOCH, tmp_path)
    assert caught.value.file == str(path)
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= (0 if line < 20 else 100)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names 'tgo\.oem', which is no file"):
        Sky.of(with_file(oem="tgo.oem"), EPOCH, tmp_path)


def spk(path: Path, *, target: int = -999, centre: int = 4, frame: int = 1, kind: int = 2) -> Path:
    """A kernel whose target circles Mars as the Earth circles the barycentre it has with the Moon."""
    from importlib.resources import files

    source = SPK.open(str(files("marsnet.sky") / "data" / KERNEL))
    segment = source[3, 399]
    values = source.daf.read_array(segment.start_i, segment.end_i)
    # The file record and the first summary record of the original, emptied.
    with (files("marsnet.sky") / "data" / KERNEL).open("rb") as original:
        head = bytearray(original.read(1024 * source.daf.fward))
        summaries = bytearray(original.read(2048))
    summaries[:24] = b"\0" * 24
    path.write_bytes(bytes(head + summaries))
    with path.open("r+b") as file:
        daf = DAF(file)
        daf.free = (1024 * (daf.fward + 1)) // 8 + 1
        daf.write_file_record()
        record = (segment.start_second, segment.end_second, target, centre, frame, kind)
        daf.add_array(b"TEST", record, values)
    return path


def test_an_spk_target_is_found_relative_to_mars(tmp_path: Path) -> None:
    spk(tmp_path / "craft.bsp")
    sky = Sky.of(with_file(spk="craft.bsp", target=-999), EPOCH, tmp_path)
    times = sky.timeline.tdb(np.linspace(0.0, SOL, 11))
    found = sky.places["craft"].motion(times, Rotation.over(times[0], times[-1]))
    with_moon = SPK.open(str(tmp_path / "craft.bsp"))
    expected = np.asarray(with_moon[4, -999].compute(2451545.0, times / DAY)) * 1e3
    assert found.place == pytest.approx(expected, abs=1e-3)
    earth_like = position("earth", times) - expected
    assert np.linalg.norm(earth_like, axis=0).min() > 1e11


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        ({}, -5, "has no target -5; it has -999"),
        ({"centre": 5}, -999, "relative to body 5"),
        ({"frame": 13}, -999, "SPICE frame 13"),
        ({"kind": 13}, -999, "SPK type 13, which is not read"),
    ],
)
def test_an_spk_that_cannot_be_used_is_refused(
    tmp_path: Path, options: dict[str, int], target: int, words: str
) -> None:
    spk(tmp_path / "craft.bsp", **options)
    with pytest.raises(InputError, match=words):
        Sky.of(with_file(spk="craft.bsp", target=target), EPOCH, tmp_path)


def test_a_file_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "craft.bsp").write_text("not a kernel")
    with pytest.raises(InputError, match="is no SPK kernel"):
        Sky.of(with_file(spk="craft.bsp", target=1), EPOCH, tmp_path)


def test_an_orbit_through_the_ground_is_refused(tmp_path: Path) -> None:
    path = oem(tmp_path / "tgo.oem")
    lines = path.read_text().splitlines()
    sunk = [
        line if "=" in line or line.startswith(("META", "COMMENT")) else
        " ".join([line.split()[0], *(f"{float(value) / 2:.9f}" for value in line.split()[1:])])
        for line in lines
    ]  # fmt: skip
    path.write_text("\n".join(sunk))
    with pytest.raises(InputError, match="below its surface"):
        Sky.of(with_file(oem="tgo.oem"), EPOCH, tmp_path)
