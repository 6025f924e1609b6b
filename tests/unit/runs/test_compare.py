"""Two runs side by side: figures by hand, tolerances to either side, and the command over real runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marsnet import cli
from marsnet.dtn.node.ledger import Record, Step
from marsnet.errors import InputError
from marsnet.plan.files import write_plan
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.runs.compare import Tolerance, compare
from marsnet.runs.execute import write_ledger
from marsnet.runs.finished import FinishedRun, read_run, write_stored

PLAN = ContactPlan(
    "2026-10-01T00:00:00.000Z",
    0.0,
    10_000.0,
    {"rover": 1, "relay": 2, "earth": 3},
    (
        Contact("up", "rover", "relay", 0.0, 100.0, 1e3),
        Contact("up", "rover", "relay", 100.0, 200.0, 2e3),
        Contact("up", "rover", "relay", 500.0, 600.0, 1e3),
        Contact("down", "relay", "earth", 0.0, 10_000.0, 1e3),
    ),
    (Range("rover", "relay", 0.0, 10_000.0, 1.0), Range("relay", "earth", 0.0, 10_000.0, 799.0)),
)


def life(
    number: int, latency: float | None, *, created: float = 0.0, via: float = 2.0, shift: int = 0, refused: bool = False
) -> list[Record]:
    """A bundle that the relay took after `via` seconds. `shift` makes ids differ, as another world's do."""
    name = f"ipn:1.1-{1000 * number + shift}-{number}"
    details = {"flow": "t", "class": "normal", "source": "rover", "destination": "earth", "size": 1000, "lifetime": 9.0}
    if refused:
        return [Record(created, "rover", Step.REFUSED, name, details)]
    records = [
        Record(created, "rover", Step.ACCEPTED, name, details),
        Record(created + via, "relay", Step.RECEIVED, name, {"peer": "rover"}),
    ]
    if latency is not None:
        records += [
            Record(created + latency, "earth", Step.RECEIVED, name, {"peer": "relay"}),
            Record(created + latency, "earth", Step.DELIVERED, name, {"intact": True}),
        ]
    return records


def finished(*bundles: list[Record], stored: dict[str, list[str]] | None = None) -> FinishedRun:
    verdict: dict[str, Any] = {
        "scenario": "s", "world": "virtual", "rate": None, "seed": 1, "passed": True, "ledger_hash": "0"
    }  # fmt: skip
    records = sorted((record for bundle in bundles for record in bundle), key=lambda record: record.time)
    return FinishedRun(Path("x"), verdict, PLAN, records, stored or {})


def test_bundles_are_matched_by_flow_and_number_whatever_their_ids() -> None:
    first = finished(life(0, 810.0), life(1, 820.0, created=50.0))
    second = finished(life(0, 812.0, shift=7), life(1, 824.0, created=50.1, shift=7))
    found = compare(first, second)
    assert [pair.latencies for pair in found.pairs] == [pytest.approx((810.0, 812.0)), pytest.approx((820.0, 824.0))]
    (group,) = found.classes
    assert group.light == 800.0
    assert group.difference(0) == pytest.approx(2 / 800)
    assert group.difference(2) == pytest.approx(4 / 800)
    assert group.hops == (2.0, 2.0)
    assert group.same_way == 1.0
    assert found.holds
    assert found.divergent == ()


def test_a_refused_bundle_keeps_its_number() -> None:
    first = finished(life(0, 810.0), life(1, 820.0, created=50.0))
    second = finished(life(0, None, refused=True), life(1, 820.0, created=50.0))
    found = compare(first, second)
    assert [pair.number for pair in found.divergent] == [0]
    assert found.classes[0].accepted == (2, 1)
    assert found.beyond == ("1 bundles were delivered only in the first run, 0 only in the second",)
    assert compare(first, second, Tolerance(deliveries=1)).holds


@pytest.mark.parametrize(
    ("apart", "tolerance", "holds"),
    [
        (15.9, Tolerance(), True),
        (16.1, Tolerance(), False),
        (-16.1, Tolerance(), False),
        (16.1, Tolerance(median=0.03), True),
        (41.0, Tolerance(median=1.0), False),
        (39.0, Tolerance(median=1.0), True),
        (41.0, Tolerance(median=1.0, p99=0.06), True),
    ],
)
def test_latency_is_held_to_shares_of_light_time(apart: float, tolerance: Tolerance, holds: bool) -> None:
    found = compare(finished(life(0, 900.0)), finished(life(0, 900.0 + apart)), tolerance)
    assert found.holds is holds
    assert bool(found.beyond) is not holds


def test_the_first_divergent_bundle_is_the_earliest_one() -> None:
    first = finished(life(0, 810.0, created=90.0), life(1, 820.0, created=50.0), life(2, 830.0, created=70.0))
    second = finished(life(0, None, created=90.0), life(1, 820.0, created=50.0), life(2, 930.0, created=70.0))
    assert [pair.some.created for pair in compare(first, second).divergent] == [70.0, 90.0]


def test_volume_is_counted_in_the_contact_that_carried_it() -> None:
    # What the relay hears at 200.5 s left within the joined contact that ends at 200 s; at 502 s in the next one.
    first = finished(life(0, 810.0, via=200.5), life(1, 820.0, via=502.0))
    second = finished(life(0, 810.0, via=100.5), life(1, 820.0, via=150.0))
    volumes = {(c.source, c.start): (c.end, c.volume) for c in compare(first, second).contacts}
    assert volumes == {
        ("rover", 0.0): (200.0, (1000, 2000)),
        ("rover", 500.0): (600.0, (1000, 0)),
        ("relay", 0.0): (10_000.0, (2000, 2000)),
    }


def test_runs_without_a_common_flow_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="no flow in common; name two runs of one scenario"):
        compare(finished(life(0, 810.0)), finished())


def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    run = finished(life(0, 810.0), life(1, None, created=50.0), stored={"relay": ["ipn:1.1-1000-1"]})
    (tmp_path / "verdict.json").write_text(json.dumps(run.verdict))
    write_plan(PLAN, tmp_path / "plan.json")
    write_ledger(tmp_path / "ledger.jsonl", run.records)
    with pytest.raises(InputError, match=r"has no stored\.json"):
        read_run(tmp_path)
    write_stored(tmp_path / "stored.json", run.stored)
    again = read_run(tmp_path)
    assert again.lives == run.lives
    assert [one.fate for one in again.lives.values()] == ["delivered", "stored"]
    assert compare(run, again).holds


SHORT = Path(__file__).parents[2] / "integration" / "runs" / "short.yaml"


def test_the_command_tells_where_runs_diverge(tmp_path: Path) -> None:
    runner = CliRunner()
    for name, options in (("usual", ()), ("calm", ("--no-faults",))):
        arguments = ["run", str(SHORT), "--world", "virtual", "--output", str(tmp_path / name), "--json", *options]
        assert runner.invoke(cli.app, arguments).exit_code == 0
    usual, calm = (str(tmp_path / name / "latest") for name in ("usual", "calm"))
    same = runner.invoke(cli.app, ["compare", usual, usual, "--json"])
    assert same.exit_code == 0
    assert json.loads(same.stdout)["first_divergent"] is None
    page = tmp_path / "page.html"
    apart = runner.invoke(cli.app, ["compare", usual, calm, "--html", str(page)])
    assert apart.exit_code == 1
    assert "DIVERGES" in apart.stdout
    assert "beyond tolerance: expedited: the 99th percentile of latency differs by" in apart.stdout
    told = json.loads(runner.invoke(cli.app, ["compare", usual, calm, "--json"]).stdout)
    assert not told["holds"]
    assert told["classes"]["expedited"]["latency"]["p99"]["of_light_time"] < -0.05
    assert told["classes"]["expedited"]["delivered"] == [45, 45]
    first = told["first_divergent"]
    assert first["latency"][0] > first["latency"][1] + 0.05 * 780
    assert sum(c["bytes"][0] for c in told["contacts"]) > 0
    text = page.read_text()
    assert "DIVERGES" in text
    assert "Volume per contact" in text
    assert len(text) < 8_000_000
    # Enough tolerance lets anything hold.
    wide = ["compare", usual, calm, "--median", "1000", "--p99", "1000"]
    assert runner.invoke(cli.app, wide).exit_code == 0


def test_what_is_no_run_is_said_so() -> None:
    with pytest.raises(InputError, match="there is no run in 'nowhere'"):
        CliRunner().invoke(cli.app, ["compare", "nowhere", "nowhere"], catch_exceptions=False)
