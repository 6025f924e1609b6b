"""Every mistake in a topology file is one clear line: file, line, value, remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.errors import InputError
from marsnet.model.topology import load_topology

GOOD = """\
marsnet: topology/1
name: golden
radios:
  x_fixed: {band: X, rate: 100 kbit/s}
  x_budget: {band: X, frequency: 8.4 GHz, power: 100 W, gain: 46 dBi}
  uhf: {band: UHF, rate: 256 kbit/s}
nodes:
  mcc:
    kind: hub
    number: 1
  dss14:
    kind: station
    number: 14
    latitude: 35.4 deg
    longitude: -116.9 deg
    radios: [x_fixed]
  mro:
    kind: orbiter
    number: 100
    radios: [x_fixed, uhf]
    orbit:
      frame: mars-equator-j2000
      elements: mean
      epoch: 2026-10-01
      semi_major_axis: 3655 km
      eccentricity: 0.005
      inclination: 92.6 deg
      node: 200 deg
      periapsis: 270 deg
      anomaly: 0 deg
  rover:
    kind: site
    number: 200
    latitude: 18.44 deg
    longitude: 77.45 deg
    radios: [uhf]
links:
  - {between: [mcc, dss14], wired: {delay: 20 ms, rate: 1 Gbit/s}}
  - {between: [dss14, mro]}
  - {between: [mro, rover]}
sep:
  X: {cut: 2 deg, clear: 3 deg}
tracks:
  - station: dss14
    start: 2026-10-01T00:00:00Z
    end: 2026-10-01T08:00:00Z
"""

MISTAKES = {
    "unknown-frame": (
        "frame: mars-equator-j2000",
        "frame: ecliptic",
        "22: nodes.mro.orbit.frame: unknown frame 'ecliptic'; convert elements to 'mars-equator-j2000' (z along the "
        "pole of Mars at J2000, x along the ascending node of that equator on the ICRF equator)",
    ),
    "osculating": (
        "elements: mean",
        "elements: osculating",
        "23: nodes.mro.orbit.elements: 'osculating' elements; convert them to mean elements, or give the orbit as an "
        "'ephemeris' (OEM or SPK file)",
    ),
    "below-surface": (
        "3655 km",
        "3300 km",
        "25: the periapsis radius of 3283.5 km is below the surface of Mars (3396.19 km); raise semi_major_axis or "
        "lower eccentricity",
    ),
    "areostationary-below-surface": (
        "    orbit:\n      frame: mars-equator-j2000\n      elements: mean\n      epoch: 2026-10-01\n"
        "      semi_major_axis: 3655 km\n      eccentricity: 0.005\n      inclination: 92.6 deg\n      node: 200 deg\n"
        "      periapsis: 270 deg\n      anomaly: 0 deg\n",
        "    areostationary: {longitude: 77 deg, radius: 20428 m}\n",
        "21: the radius of 20.4 km is below the surface of Mars (3396.19 km); give the distance from the centre of "
        "Mars, about 20428 km",
    ),
    "mask-above-zenith": (
        "    longitude: -116.9 deg\n",
        "    longitude: -116.9 deg\n    mask: {receive: 96 deg}\n",
        "16: nodes.dss14.mask.receive: '96 deg' is out of range; give at most 90",
    ),
    "station-beyond-the-pole": (
        "latitude: 35.4 deg",
        "latitude: 95.4 deg",
        "14: nodes.dss14.latitude: '95.4 deg' is out of range; give at most 90",
    ),
    "station-inside-the-earth": (
        "    latitude: 35.4 deg\n    longitude: -116.9 deg\n",
        "    itrf: [-2353.6 m, -4641.3 m, 3677.1 m]\n",
        "14: the station is 6.4 km from the centre of the Earth; give ITRF coordinates in metres or kilometres, near "
        "the surface (6371 km)",
    ),
    "missing-unit": (
        "semi_major_axis: 3655 km",
        "semi_major_axis: 3655",
        "25: nodes.mro.orbit.semi_major_axis: 3655 has no unit; write it like '3655 km' (units: m, cm, km, au, AU)",
    ),
    "wrong-unit": (
        "rate: 256 kbit/s",
        "rate: 256 km",
        "6: radios.uhf.rate: '256 km': 'km' is no unit of rate; write it like '2 Mbit/s' (units: bit/s, kbit/s, "
        "Mbit/s, Gbit/s, Tbit/s, B/s, kB/s, MB/s, GB/s, TB/s)",
    ),
    "duplicate-node": ("  rover:\n", "  mro:\n", "31: key 'mro' stands twice in one mapping; rename one"),
    "duplicate-number": ("number: 200", "number: 14", "33: nodes 'dss14' and 'rover' share number 14; change one"),
    "unknown-radio": (
        "radios: [x_fixed, uhf]",
        "radios: [x_fixed, vhf]",
        "20: node 'mro' names unknown radio 'vhf'; declare it under 'radios' (there are x_fixed, x_budget, uhf)",
    ),
    "no-common-band": (
        "    radios: [uhf]\n",
        "    radios: [x_fixed]\n  orbiter2:\n    kind: orbiter\n    number: 101\n"
        "    areostationary: {longitude: 0 deg}\n    radios: [uhf]\n",
        "46: the ends of link 'dss14--orbiter2' have no common band: dss14 has X, orbiter2 has UHF; give both a radio "
        "of one band",
    ),
    "two-bands": (
        "    longitude: 77.45 deg\n    radios: [uhf]\n",
        "    longitude: 77.45 deg\n    radios: [uhf, x_fixed]\n",
        "40: the ends of link 'mro--rover' share the bands UHF, X; choose one: 'band: UHF'",
    ),
    "no-radio": (
        "    longitude: 77.45 deg\n    radios: [uhf]\n",
        "    longitude: 77.45 deg\n",
        "39: the ends of link 'mro--rover' have no common band: mro has UHF, X, rover has no radio; give both a radio "
        "of one band",
    ),
    "unknown-node": (
        "[mro, rover]",
        "[mro, rovr]",
        "40: link 'mro--rovr' names unknown node 'rovr'; declare it under 'nodes' (there are mcc, dss14, mro, rover)",
    ),
    "self-link": ("[mro, rover]", "[mro, mro]", "40: link 'mro--mro' joins a node to itself; name two nodes"),
    "twice-linked": (
        "  - {between: [mro, rover]}",
        "  - {between: [mro, rover]}\n  - {between: [mro, rover]}",
        "41: there are two links named 'mro--rover'; remove one or give it a 'name'",
    ),
    "hub-by-radio": (
        "[mro, rover]",
        "[mro, mcc]",
        "40: link 'mro--mcc' joins a hub, which has no antenna, to Mars; join a station to Mars, and the hub to that "
        "station by wire",
    ),
    "earth-without-wire": (
        ", wired: {delay: 20 ms, rate: 1 Gbit/s}",
        "",
        "38: link 'mcc--dss14' joins two nodes on Earth without a wire; give it 'wired: {delay: 20 ms, "
        "rate: 1 Gbit/s}'",
    ),
    "wire-to-space": (
        "{between: [dss14, mro]}",
        "{between: [dss14, mro], wired: {delay: 20 ms, rate: 1 Gbit/s}}",
        "39: link 'dss14--mro' is a wire but its ends are not on the ground of one body; remove 'wired'; a radio link "
        "needs radios of one band at both ends",
    ),
    "no-receiver": (
        "radios: [x_fixed, uhf]",
        "radios: [x_budget, uhf]",
        "4: radio 'x_fixed' has no receiver for the budget of link 'dss14--mro'; give it 'gt', or 'gain' and "
        "'noise_temperature', or give the link a 'rate'",
    ),
    "no-transmitter": (
        "band: UHF, rate: 256 kbit/s",
        "band: UHF",
        "6: radios.uhf: the radio can not transmit; give 'rate', or 'reference', or 'eirp', or both 'power' and 'gain'",
    ),
    "no-frequency": (
        "frequency: 8.4 GHz, ",
        "",
        "5: radios.x_budget: the radio has a link budget but no frequency; give 'frequency'",
    ),
    "wrong-kind": (
        "kind: orbiter",
        "kind: orbitter",
        "18: nodes.mro.kind: unknown kind 'orbitter'; did you mean 'orbiter'?",
    ),
    "strange-kind": (
        "kind: orbiter",
        "kind: balloon",
        "18: nodes.mro.kind: unknown kind 'balloon'; choose one of hub, station, site, orbiter",
    ),
    "no-kind": ("    kind: orbiter\n", "", "17: 'nodes.mro.kind' is missing; add 'kind'"),
    "unknown-key-in-node": (
        "    latitude: 18.44 deg",
        "    latitud: 18.44 deg",
        "34: unknown key 'nodes.rover.latitud'; did you mean 'latitude'?",
    ),
    "unknown-key-in-orbit": (
        "      periapsis: 270 deg",
        "      periapse: 270 deg",
        "29: unknown key 'nodes.mro.orbit.periapse'; did you mean 'periapsis'?",
    ),
    "unknown-key-in-radio": (
        "band: UHF, rate",
        "band: UHF, bitrate",
        "6: unknown key 'radios.uhf.bitrate'; did you mean 'rate'?",
    ),
    "unknown-key-in-link": (
        "{between: [mro, rover]}",
        "{between: [mro, rover], colour: red}",
        "40: unknown key 'links.2.colour'; choose one of between, name, wired, band, rate, mtu, queue",
    ),
    "missing-key": ("      node: 200 deg\n", "", "21: 'nodes.mro.orbit.node' is missing; add 'node'"),
    "no-motion": (
        "    orbit:\n      frame",
        "    description: |\n      frame",
        "17: nodes.mro: an orbiter needs one motion; give one of 'orbit', 'areostationary' and 'ephemeris'",
    ),
    "two-positions": (
        "    latitude: 35.4 deg\n",
        "    latitude: 35.4 deg\n    itrf: [1 km, 2 km, 3 km]\n",
        "11: nodes.dss14: a station needs one position; give either 'itrf' or 'latitude' and 'longitude'",
    ),
    "short-itrf": (
        "    latitude: 35.4 deg\n    longitude: -116.9 deg\n",
        "    itrf: [1 km, 2 km]\n",
        "14: 'nodes.dss14.itrf.2' is missing; add 2",
    ),
    "latitude-out-of-range": (
        "latitude: 18.44 deg",
        "latitude: 118.44 deg",
        "34: nodes.rover.latitude: '118.44 deg' is out of range; give at most 90",
    ),
    "number-as-text": (
        "eccentricity: 0.005",
        "eccentricity: round",
        "26: nodes.mro.orbit.eccentricity: 'round' is no number; write a plain number, without a unit",
    ),
    "bad-name": (
        "  rover:\n",
        "  Rover 1:\n",
        "31: nodes.Rover 1: 'Rover 1' is no name; write a lower-case letter, then up to 30 letters, digits, '-' or '_'",
    ),
    "bad-band": (
        "band: UHF",
        "band: VHF",
        "6: radios.uhf.band: unknown value 'VHF'; did you mean 'UHF'?",
    ),
    "bad-coding": (
        "band: X, frequency",
        "coding: morse, band: X, frequency",
        "5: radios.x_budget.coding: unknown value 'morse'; choose one of uncoded, conv-1/2, rs-conv-i5, turbo-1/2, "
        "turbo-1/4, turbo-1/6, ldpc-1/2",
    ),
    "bad-date": (
        "epoch: 2026-10-01",
        "epoch: 2026-13-01",
        "24: nodes.mro.orbit.epoch: '2026-13-01' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
    ),
    "no-date": (
        "epoch: 2026-10-01",
        "epoch: soon",
        "24: nodes.mro.orbit.epoch: 'soon' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
    ),
    "sep-swapped": (
        "{cut: 2 deg, clear: 3 deg}",
        "{cut: 3 deg, clear: 2 deg}",
        "42: clear at 2 deg is below cut at 3 deg; swap them",
    ),
    "sep-band": ("  X: {cut", "  Q: {cut", "42: sep.Q: unknown value 'Q'; choose one of UHF, S, X, Ka, optical"),
    "track-of-orbiter": (
        "station: dss14",
        "station: mro",
        "44: the track's station 'mro' is no station; name a node of kind station (there are dss14)",
    ),
    "track-ends-early": (
        "end: 2026-10-01T08",
        "end: 2026-09-01T08",
        "46: the track ends at 2026-09-01T08:00:00.000Z, before it starts; give an end after 2026-10-01T00:00:00.000Z",
    ),
    "scalar-for-mapping": (
        "wired: {delay: 20 ms, rate: 1 Gbit/s}",
        "wired: yes",
        "38: links.0.wired: 'yes' is no mapping; write '{key: value}' or indented 'key: value' lines",
    ),
    "scalar-for-list": (
        "radios: [uhf]",
        "radios: uhf",
        "36: nodes.rover.radios: 'uhf' is no list; write '[...]'",
    ),
    "no-links": (
        "links:\n  - {between: [mcc, dss14], wired: {delay: 20 ms, rate: 1 Gbit/s}}\n  - {between: [dss14, mro]}\n"
        "  - {between: [mro, rover]}\n",
        "links: []\n",
        "37: links: the list is too short; give at least 1",
    ),
    "wrong-version": (
        "topology/1",
        "topology/9",
        "1: marsnet: unknown value 'topology/9'; did you mean 'topology/1'?",
    ),
    "bad-yaml": ("band: UHF, ", "band: UHF, [", "6: malformed YAML: a list or a mapping is no key; mend the syntax"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    right, wrong, expected = MISTAKES[name]
    assert GOOD.count(right) >= 1
    text = GOOD.replace(right, wrong, 1)
    if name == "no-common-band":
        text = text.replace("sep:\n", "  - {between: [dss14, orbiter2]}\nsep:\n")
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_topology(path)
    assert str(caught.value) == f"{path}:{expected}"


def test_the_file_that_the_mistakes_are_made_in_is_good(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    topology = load_topology(path)
    assert [link.title for link in topology.links] == ["mcc--dss14", "dss14--mro", "mro--rover"]
    orbiter = topology.nodes["mro"]
    assert orbiter.kind == "orbiter"
    assert orbiter.orbit is not None
    assert orbiter.orbit.epoch == "2026-10-01T00:00:00.000Z"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file '.*absent\.yaml'; check the path"):
        load_topology(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: " + "[" * 4000, "more than 200 brackets are open at once"),
        ("a: " + "[" * 100, "1: malformed YAML: maximum depth of data structure exceeded"),
        ("a:\n" + "- " * 1000 + "x", "2: malformed YAML: maximum depth of data structure exceeded"),
        ("? " * 100, "1: malformed YAML: a list or a mapping is no key"),
    ],
    ids=["many brackets", "brackets", "lists", "keys"],
)
def test_what_stands_too_deep_is_one_clear_error_and_not_a_hang(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_topology(path)
    assert why in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"- a\n- b\n", b"", b"a: \x07\n"])
def test_a_file_that_holds_no_topology_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "strange.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_topology(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
