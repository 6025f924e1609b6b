"""Flow entries, their cookies, and the metrics made of what switches count."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controllers import flows
from controllers.flows import Entry, Purpose
from controllers.paths import Port
from controllers.settings import Settings, Switch, read
from controllers.telemetry import Telemetry
from marsnet.clock import MissionClock
from marsnet.errors import InputError

NUMBERS = {"mcc": 1, "mro": 2, "rover": 300}


def settings_of() -> Settings:
    switches = (
        Switch("mcc", 1, "earth", "10.77.0.1", 1, (Port(2, "x", "mro"),)),
        Switch("mro", 2, "mars", "10.77.0.2", 1, (Port(2, "x", "mcc"), Port(3, "uhf", "rover"))),
        Switch("rover", 300, "mars", "10.77.1.44", 1, (Port(2, "uhf", "mro"),)),
    )
    return Settings("mars", 6654, 8654, Path("plan.json"), MissionClock("2026-10-01", 1.0, 0.0), 0.0, switches)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Purpose.MISS),
        Entry(Purpose.NO_CONTACT, 65533),
        Entry(Purpose.FORWARD, 300, 99),
        Entry(Purpose.LOCAL, 1, 1),
    ],
)
def test_a_cookie_names_its_entry(entry: Entry) -> None:
    assert flows.entry_of(entry.cookie) == entry
    assert 0 <= entry.cookie < 2**64


@pytest.mark.parametrize("cookie", [0, 1, 2**64 - 1, flows.COOKIE_BASE | 77 << 40])
def test_a_foreign_cookie_names_nothing(cookie: int) -> None:
    assert flows.entry_of(cookie) is None


def test_every_destination_is_either_local_or_dropped_when_no_contact_is_open() -> None:
    entries = flows.standing(2, 1, NUMBERS)
    assert Entry(Purpose.LOCAL, 2, 1) in entries
    assert {e.destination for e in entries if e.purpose is Purpose.NO_CONTACT} == {1, 300}
    assert Entry(Purpose.MISS) in entries


def test_an_open_contact_beats_the_drop_and_nothing_beats_local_delivery() -> None:
    drop, forward, local = Entry(Purpose.NO_CONTACT, 1), Entry(Purpose.FORWARD, 1, 400), Entry(Purpose.LOCAL, 1, 1)
    assert Entry(Purpose.MISS).priority < drop.priority < forward.priority < local.priority


def test_ways_to_one_destination_have_different_priorities() -> None:
    ways = flows.forwarding({"rover": 2}, NUMBERS) | flows.forwarding({"rover": 3}, NUMBERS)
    assert len({way.priority for way in ways}) == 2


def series(text: bytes) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))] = sample.value
    return found


def test_counts_of_removed_entries_stay_counted() -> None:
    telemetry = Telemetry(settings_of())
    way = Entry(Purpose.FORWARD, 300, 3)
    telemetry.retire("mro", way, 40)
    telemetry.retire("mro", way, 2)
    found = series(telemetry.expose({"mro": {way: 5, Entry(Purpose.NO_CONTACT, 300): 7}, "rover": None}))
    base = "marsnet_sdn_{}_frames_total"
    assert found[base.format("forwarded"), "destination=rover", "link=uhf", "node=mro", "segment=mars"] == 47
    dropped = (base.format("dropped"), "destination=rover", "node=mro", "reason=no contact", "segment=mars")
    assert found[dropped] == 7
    assert found["marsnet_sdn_flows_installed", "node=mro", "segment=mars"] == 2
    assert found["marsnet_sdn_switch_connected", "node=rover", "segment=mars"] == 0
    again = series(telemetry.expose({"mro": {}}))
    assert again[base.format("forwarded"), "destination=rover", "link=uhf", "node=mro", "segment=mars"] == 42


def test_each_controller_has_a_registry_of_its_own() -> None:
    first, second = Telemetry(settings_of()), Telemetry(settings_of())
    first.errors.inc()
    name = ("marsnet_sdn_errors_total", "segment=mars")
    assert (series(first.expose({}))[name], series(second.expose({}))[name]) == (1, 0)


def test_settings_that_are_none_name_their_file(tmp_path: Path) -> None:
    wrong = tmp_path / "earth.json"
    wrong.write_text('{"segment": "earth"}')
    with pytest.raises(InputError, match=r"earth\.json: no controller settings: KeyError"):
        read(wrong)
