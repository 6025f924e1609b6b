"""Golden tests of every mistake that a scenario file can hold: file, line, value and remedy, and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from marsnet import cli

TOPOLOGY = Path(__file__).parents[3] / "topologies" / "first_light.yaml"
DARK = TOPOLOGY.with_name("first_dark.yaml")
GOOD = f"""\
marsnet: scenario/1
name: morning
topology: {TOPOLOGY}
start: 2026-10-01T10:00:00Z
duration: 8 h
traffic:
  - name: telemetry
    source: rover
    destination: mcc
    class: expedited
    size: 1 kB
    every: 10 min
    lifetime: 8 h
    start: 1 h
    stop: 6 h
  - {{name: images, source: rover, destination: mcc, class: bulk, size: 1 MB, every: 2 h, lifetime: 8 h}}
faults:
  - kind: node_silent
    node: mro
    at: 2 h
    duration: 1 h
  - kind: link_outage
    link: areo--rover
    at: 2026-10-01T12:00:00Z
    duration: 1 h
requirements:
  - kind: delivery
    flow: telemetry
    at_least: 100 %
  - {{kind: latency, class: expedited, percentile: 95 %, beyond_light_time: 30 min}}
  - kind: online
    site: rover
    to: mcc
    at_least: 80 %
"""
TIMES = "write it like '20 min' (units: ns, us, ms, s, min, h, d, sol, sols)"
INSTANTS = "write '11 h' after the start, '2026-10-01T12:00:00Z', or 'sol 3 06:00 LTST at jezero'"
SPAN = (
    "is outside the ephemeris; choose instants between 2025-01-01 and 2040-12-31, or replace the excerpt as "
    "marsnet/sky/data/README.md says"
)
NODES = "there are mcc, dss14, dss43, dss63, mro, areo, rover, habitat"

# name: right text, wrong text, what follows the file's name in the message
MISTAKES: dict[str, tuple[str, str, str]] = {
    "online-to-itself": (
        "    to: mcc\n",
        "    to: rover\n",
        "33: 'site' and 'to' are both 'rover'; name another node, to which it is to have a way",
    ),
    "unknown-source": ("    source: rover", "    source: rovr", f"8: unknown node 'rovr'; {NODES}"),
    "unknown-destination": ("    destination: mcc", "    destination: mc", f"9: unknown node 'mc'; {NODES}"),
    "unknown-node-in-fault": ("    node: mro", "    node: odyssey", f"19: unknown node 'odyssey'; {NODES}"),
    "unknown-link-in-fault": (
        "link: areo--rover",
        "link: rover--areo",
        "23: unknown link 'rover--areo'; there are mcc--dss14, mcc--dss43, mcc--dss63, dss14--mro, dss43--mro, "
        "dss63--mro, dss14--areo, dss43--areo, dss63--areo, mro--rover, mro--habitat, areo--rover, areo--habitat",
    ),
    "unknown-flow-in-requirement": (
        "    flow: telemetry",
        "    flow: telemetri",
        "28: unknown flow 'telemetri'; there are telemetry, images",
    ),
    "unknown-site-in-requirement": ("    site: rover", "    site: base", f"32: unknown node 'base'; {NODES}"),
    "unknown-end-in-requirement": ("    to: mcc", "    to: houston", f"33: unknown node 'houston'; {NODES}"),
    "unknown-site-of-a-local-time": (
        "    at: 2 h",
        "    at: sol 0 12:00 LTST at gale",
        f"20: unknown site 'gale'; {NODES}",
    ),
    "local-time-on-earth": (
        "    at: 2 h",
        "    at: sol 0 12:00 LTST at mcc",
        "20: 'sol 0 12:00 LTST at mcc': 'mcc' has no local time; name a site on Mars",
    ),
    "size-without-unit": (
        "    size: 1 kB",
        "    size: 1000",
        "11: traffic.0.size: 1000 has no unit; write it like '64 kB' (units: B, kB, MB, GB, TB, bit, kbit, Mbit, Gbit, "
        "Tbit, KiB, MiB, GiB)",
    ),
    "interval-without-unit": ("    every: 10 min", "    every: 10", f"12: traffic.0.every: 10 has no unit; {TIMES}"),
    "interval-in-bytes": (
        "    every: 10 min",
        "    every: 10 kB",
        f"12: traffic.0.every: '10 kB': 'kB' is no unit of time; {TIMES}",
    ),
    "lifetime-of-nothing": (
        "    lifetime: 8 h\n",
        "    lifetime: 0 s\n",
        "13: traffic.0.lifetime: 0 is not positive; give more than zero",
    ),
    "bare-duration": ("duration: 8 h", "duration: 8", f"5: duration: 8 has no unit; {TIMES}"),
    "bad-instant": ("    at: 2 h", "    at: noon", f"20: faults.0.at: 'noon' is no instant; {INSTANTS}"),
    "bare-instant": ("    at: 2 h", "    at: 7200", f"20: faults.0.at: '7200' is no instant; {INSTANTS}"),
    "hour-25": (
        "    at: 2 h",
        "    at: sol 0 25:00 LTST at rover",
        "20: faults.0.at: 'sol 0 25:00 LTST at rover': a sol has 24 local hours; give 00:00 to 23:59",
    ),
    "bad-start": (
        "start: 2026-10-01T10",
        "start: 2026-10-41T10",
        "4: start: '2026-10-41T10:00:00Z' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
    ),
    "two-flows-of-one-name": ("name: images", "name: telemetry", "16: two flows are named 'telemetry'; rename one"),
    "stop-before-start": (
        "    stop: 6 h",
        "    stop: 30 min",
        "15: flow 'telemetry' starts at '1 h' and stops at '30 min', which is not later; give a later 'stop'",
    ),
    "start-before-the-run": (
        "    start: 1 h",
        "    start: 2026-10-01T09:00:00Z",
        "14: flow 'telemetry' starts at '2026-10-01T09:00:00Z', before the run; give a later 'start'",
    ),
    "fault-after-the-run": (
        "    at: 2 h",
        "    at: 9 h",
        "20: a fault at '9 h' is outside of the run; move it into the duration",
    ),
    "fault-before-the-run": (
        "2026-10-01T12",
        "2026-09-01T12",
        "24: a fault at '2026-09-01T12:00:00Z' is outside of the run; move it into the duration",
    ),
    "unknown-key": ("    stop: 6 h", "    stopp: 6 h", "15: unknown key 'traffic.0.stopp'; did you mean 'stop'?"),
    "unknown-key-at-the-top": ("traffic:", "trafic:", "6: unknown key 'trafic'; did you mean 'traffic'?"),
    "unknown-key-in-fault": (
        "    duration: 1 h\n  - kind: link",
        "    duraton: 1 h\n  - kind: link",
        "21: unknown key 'faults.0.duraton'; did you mean 'duration'?",
    ),
    "unknown-fault": (
        "kind: node_silent",
        "kind: node_silnt",
        "18: faults.0.kind: unknown kind 'node_silnt'; did you mean 'node_silent'?",
    ),
    "unknown-requirement": (
        "kind: delivery",
        "kind: deliver",
        "27: requirements.0.kind: unknown kind 'deliver'; did you mean 'delivery'?",
    ),
    "unknown-class": (
        "class: expedited\n",
        "class: urgent\n",
        "10: traffic.0.class: unknown value 'urgent'; choose one of critical, expedited, normal, bulk",
    ),
    "unknown-arrivals": (
        "    stop: 6 h",
        "    arrivals: poison",
        "15: traffic.0.arrivals: unknown value 'poison'; did you mean 'poisson'?",
    ),
    "missing-key": ("    lifetime: 8 h\n", "", "7: 'traffic.0.lifetime' is missing; add 'lifetime'"),
    "share-without-percent": (
        "    at_least: 80 %",
        "    at_least: 80",
        "34: requirements.2.at_least: 80 has no unit; write it like '95 %' (units: %)",
    ),
    "share-of-more-than-all": (
        "    at_least: 80 %",
        "    at_least: 180 %",
        "34: requirements.2.at_least: 180 % is out of range; give 0 % to 100 %",
    ),
    "negative-seed": (
        "duration: 8 h\ntraffic",
        "duration: 8 h\nseed: -1\ntraffic",
        "6: seed: -1 is out of range; give at least 0",
    ),
    "rate-of-nothing": (
        "duration: 8 h\ntraffic",
        "duration: 8 h\nrate: 0\ntraffic",
        "6: rate: 0 is out of range; give more than 0",
    ),
    "no-topology": (
        "first_light.yaml",
        "first_dark.yaml",
        f"3: there is no topology '{DARK}'; give its path relative to this file",
    ),
    "folder-for-a-topology": (
        "/first_light.yaml",
        "",
        f"3: there is no topology '{TOPOLOGY.parent}'; give its path relative to this file",
    ),
    "start-before-the-ephemeris": (
        "2026-10-01T10:00:00Z",
        "1969-07-20T20:17:40Z",
        f"4: 1969-07-20T19:02:40.000Z {SPAN}",
    ),
    "endless-run": ("duration: 8 h", "duration: 1e300 s", f"5: 1e+300 s after 2026-10-01T10:00:00.000Z {SPAN}"),
    "nothing-in-a-bundle": ("size: 1 kB", "size: 4 bit", "11: traffic.0.size: 0.5 bytes are less than one; give more"),
    "bundle-that-never-fits": (
        "size: 1 MB",
        "size: 3 GB",
        "16: a bundle of 3 GB never fits the storage of 'rover', 2 GB; "
        "send smaller ones, or give the node more 'storage'",
    ),
    "endless-lifetime": (
        "lifetime: 8 h",
        "lifetime: 1e20 s",
        "13: flow 'telemetry' has a lifetime of 1e+20 s; give a thousand years at most",
    ),
    "too-many-bundles": (
        "every: 10 min",
        "every: 1 us",
        "12: flow 'telemetry' sends 1.8e+10 bundles; send at most 10,000,000, of a greater size",
    ),
    "start-after-the-run": (
        "    start: 1 h\n    stop: 6 h",
        "    start: 8 h\n    stop: 9 h",
        "15: flow 'telemetry' starts at '8 h' and stops at the end of the run at 8.00 h, which is not later; "
        "give an earlier 'start'",
    ),
}


def complaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the console script."""
    monkeypatch.setattr(sys, "argv", ["marsnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong, expected = MISTAKES[name]
    assert right in GOOD
    path = tmp_path / "wrong.yaml"
    path.write_text(GOOD.replace(right, wrong, 1))
    code, told = complaint(monkeypatch, capsys, "validate", str(path))
    assert code == 2
    assert told == f"marsnet: {path}:{expected}\n"
    runs = tmp_path / "runs"
    assert complaint(monkeypatch, capsys, "run", str(path), "--world", "virtual", "--output", str(runs)) == (code, told)
    assert not runs.exists()


def test_the_file_that_the_mistakes_are_made_in_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert complaint(monkeypatch, capsys, "validate", str(path)) == (0, "")
