"""Golden tests of the mistakes in traffic and requirements: file, line, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.errors import InputError
from marsnet.model.scenario import load_scenario
from marsnet.runs.prepare import check_times

TOPOLOGY = Path(__file__).parents[3] / "topologies" / "first_light.yaml"
NODES = "there are mcc, dss14, dss43, dss63, mro, areo, rover, habitat"
GOOD = f"""\
marsnet: scenario/1
name: kinds
topology: {TOPOLOGY}
start: 2026-10-01T10:00:00Z
duration: 6 h
traffic:
  - name: backlog
    source: habitat
    destination: mcc
    class: bulk
    volume: 2 MB
    size: 100 kB
    window: 4
    lifetime: 6 h
  - name: panorama
    source: habitat
    destination: mcc
    class: bulk
    file: panorama.bin
    size: 64 kB
    lifetime: 6 h
  - name: listed
    source: habitat
    class: normal
    trace: listed.csv
    lifetime: 6 h
  - name: commands
    source: mcc
    destination: habitat
    class: critical
    tenant: crew
    size: 500 B
    every: 30 min
    lifetime: 6 h
    reply:
      size: 200 B
requirements:
  - kind: completion
    flow: backlog
    within: 3 h
  - kind: round_trip
    flow: commands
    percentile: 95 %
    beyond_light_time: 5 min
  - kind: delivery
    tenant: crew
    at_least: 95 %
  - kind: storage
    node: habitat
    at_most: 1 MB
  - kind: starvation
    class: bulk
    at_most: 1 h
  - kind: availability
    site: habitat
    to: mcc
    class: normal
    interval: 10 min
    within: 5 min
    at_least: 90 %
  - kind: deadline
    flow: commands.reply
    within: 5 min
    at_least: 90 %
"""
TRACE = "time,size,class,destination\n0 s,3 kB,,mcc\n20 min,5 kB,critical,rover\n"
KINDS = "give one of 'every', 'trace', 'volume' and 'file'"

# name: right text, wrong text, what follows the file's name in the message
MISTAKES: dict[str, tuple[str, str, str]] = {
    "two-kinds": ("    window: 4", "    every: 1 h", f"11: flow 'backlog' has every and volume; {KINDS}"),
    "no-kind": ("    every: 30 min\n", "", f"27: flow 'commands' does not say when it sends; {KINDS}"),
    "no-destination": (
        "    destination: mcc\n    class: bulk\n    volume",
        "    class: bulk\n    volume",
        "7: flow 'backlog' has no destination; add 'destination'",
    ),
    "no-size": ("    size: 64 kB\n", "", "15: flow 'panorama' has no size; add 'size', of a bundle"),
    "size-of-a-trace": (
        "    trace: listed.csv",
        "    trace: listed.csv\n    size: 1 kB",
        "26: its trace has the sizes; remove 'size'",
    ),
    "burst-of-a-volume": ("    window: 4", "    burst: 4", "13: 'burst' does not go with 'volume'; remove 'burst'"),
    "window-of-a-period": (
        "    every: 30 min",
        "    every: 30 min\n    window: 4",
        "34: 'window' does not go with 'every'; remove 'window'",
    ),
    "reply-to-a-file": (
        "    file: panorama.bin",
        "    file: panorama.bin\n    reply: {size: 1 B}",
        "20: 'reply' does not go with 'file'; remove 'reply'",
    ),
    "bare-volume": (
        "    volume: 2 MB",
        "    volume: 2000000",
        "11: traffic.0.volume: 2000000 has no unit; write it like '64 kB' (units: B, kB, MB, GB, TB, bit, kbit, Mbit, "
        "Gbit, Tbit, KiB, MiB, GiB)",
    ),
    "window-of-nothing": ("    window: 4", "    window: 0", "13: traffic.0.window: 0 is out of range; give at least 1"),
    "no-file": (
        "    file: panorama.bin",
        "    file: panoramas.bin",
        "19: there is no file 'panoramas.bin' with content; give its path relative to this file",
    ),
    "no-trace": (
        "    trace: listed.csv",
        "    trace: unlisted.csv",
        "25: there is no file 'unlisted.csv' with content; give its path relative to this file",
    ),
    "bad-tenant": (
        "    tenant: crew\n    size",
        "    tenant: The Crew\n    size",
        "31: traffic.3.tenant: 'The Crew' is no name; write a lower-case letter, then up to 30 letters, digits, '-' or "
        "'_'",
    ),
    "reply-without-size": (
        "      size: 200 B",
        "      class: normal",
        "35: 'traffic.3.reply.size' is missing; add 'size'",
    ),
    "unknown-tenant": (
        "    tenant: crew\n    at",
        "    tenant: cru\n    at",
        "46: unknown tenant 'cru'; there are crew",
    ),
    "completion-of-a-period": (
        "    flow: backlog",
        "    flow: commands",
        "39: unknown volume or file 'commands'; there are backlog, panorama",
    ),
    "round-trip-of-a-backlog": (
        "    flow: commands\n",
        "    flow: backlog\n",
        "42: unknown flow with a reply 'backlog'; there are commands",
    ),
    "unknown-reply": (
        "    flow: commands.reply",
        "    flow: backlog.reply",
        "62: unknown flow 'backlog.reply'; there are backlog, panorama, listed, commands, commands.reply",
    ),
    "storage-of-nobody": ("    node: habitat", "    node: base", f"49: unknown node 'base'; {NODES}"),
    "storage-in-time": (
        "    at_most: 1 MB",
        "    at_most: 1 h",
        "50: requirements.3.at_most: '1 h': 'h' is no unit of size; write it like '64 kB' (units: B, kB, MB, GB, TB, "
        "bit, kbit, Mbit, Gbit, Tbit, KiB, MiB, GiB)",
    ),
    "starvation-of-all": (
        "    class: bulk\n    at_most: 1 h",
        "    at_most: 1 h",
        "51: 'requirements.4.class' is missing; add 'class'",
    ),
    "available-to-nobody": ("    to: mcc", "    to: houston", f"56: unknown node 'houston'; {NODES}"),
    "interval-of-nothing": (
        "    interval: 10 min",
        "    interval: 0 s",
        "58: requirements.5.interval: 0 is not positive; give more than zero",
    ),
    "recovery-from-nothing": (
        "  - kind: deadline\n    flow: commands.reply\n    within: 5 min\n    at_least: 90 %",
        "  - kind: recovery\n    fault: storm\n    within: 1 h",
        "62: unknown fault 'storm'; there are none",
    ),
}
# trace, what follows the trace's name in the message
HEADER = "begin with 'time,size', and perhaps ',class,destination'"
TIMES = "write it like '20 min' (units: ns, us, ms, s, min, h, d, sol, sols)"
CLASSES = "choose one of critical, expedited, normal, bulk"
TRACES: dict[str, tuple[str, str]] = {
    "no-header": ("0 s,3 kB\n", f"1: the trace has the columns 0 s, 3 kB; {HEADER}"),
    "unknown-column": ("time,size,colour\n", f"1: the trace has the columns time, size, colour; {HEADER}"),
    "bare-time": ("time,size\n5,3 kB\n", f"2: '5' is no time; {TIMES}"),
    "backwards": (
        "time,size\n5 s,3 kB\n4 s,3 kB\n",
        "3: time '4 s' is earlier than the line before; order the lines by time",
    ),
    "nothing": ("time,size\n5 s,0 B\n", "2: size '0 B' is less than a byte; give more"),
    "odd-class": ("time,size,class\n5 s,1 B,urgent\n", f"2: unknown class 'urgent'; {CLASSES}"),
    "too-few": ("time,size,class\n5 s,1 B\n", "2: 2 values for 3 columns; give one for each column"),
}


def complaint(folder: Path, text: str, trace: str = TRACE) -> str:
    path = folder / "wrong.yaml"
    path.write_text(text)
    (folder / "panorama.bin").write_bytes(b"x" * 1000)
    (folder / "listed.csv").write_text(trace)
    with pytest.raises(InputError) as caught:
        check_times(*load_scenario(path), path)
    return str(caught.value)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    right, wrong, expected = MISTAKES[name]
    assert right in GOOD
    assert complaint(tmp_path, GOOD.replace(right, wrong, 1)) == f"{tmp_path / 'wrong.yaml'}:{expected}"


@pytest.mark.parametrize("name", TRACES)
def test_a_mistake_in_a_trace_is_placed_in_the_trace(name: str, tmp_path: Path) -> None:
    trace, expected = TRACES[name]
    assert complaint(tmp_path, GOOD, trace) == f"{(tmp_path / 'listed.csv').resolve()}:{expected}"


@pytest.mark.parametrize(
    ("trace", "what"),
    [
        ("time,size\n0 s,1 kB\n", "line 2 of the trace has no destination"),
        ("time,size,destination\n0 s,1 kB,base\n", "line 2 of the trace goes to unknown node 'base'"),
    ],
)
def test_a_trace_that_leads_nowhere_is_the_scenarios_mistake(trace: str, what: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, GOOD, trace) == f"{tmp_path / 'wrong.yaml'}:25: {what}; {NODES}"


def test_the_file_that_the_mistakes_are_made_in_is_good(tmp_path: Path) -> None:
    (tmp_path / "panorama.bin").write_bytes(b"x")
    (tmp_path / "listed.csv").write_text(TRACE)
    (tmp_path / "good.yaml").write_text(GOOD)
    scenario, topology = load_scenario(tmp_path / "good.yaml")
    check_times(scenario, topology, tmp_path / "good.yaml")
    assert len(scenario.traffic) == 4
