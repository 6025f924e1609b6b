"""The report: what it says, that it stands alone, stays small, and that a browser draws it."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from marsnet import Run, Scenario
from marsnet.dtn.node.ledger import Record, Step
from marsnet.model.scenario import load_scenario
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.runs.judge import judge
from marsnet.runs.lives import Life
from marsnet.runs.report import write_report
from marsnet.runs.stays import Stay, allowed, deaths, longest_wait, stays
from marsnet.runs.verdict import verdict
from marsnet.worlds.machine_programs import find
from marsnet.worlds.spec import Outcome, RunSpec

SHORT = Path(__file__).parents[2] / "integration" / "runs" / "short.yaml"
SECTIONS = [
    "Requirements",
    "Classes of service",
    "Contacts and what they carried",
    "Latency against light time",
    "Queues and storage",
    "Lost and late",
    "Links",
    "Fidelity",
    "What was run",
]
LIMIT = 8_000_000
"""Bytes of a report; Plotly itself is 4.8 million of them."""


def record(time: float, node: str, step: Step, bundle: str = "a", **details: Any) -> Record:
    return Record(time, node, step, bundle, details)


def life(**changes: Any) -> Life:
    return Life(**({
        "bundle": "a", "flow": "f", "service_class": "normal", "source": "rover", "destination": "mcc", "size": 10,
        "created": 5.0,
    } | changes))  # fmt: skip


def test_stays_begin_and_end_with_the_steps() -> None:
    records = [
        record(5.0, "rover", Step.ACCEPTED),
        record(9.0, "relay", Step.RECEIVED, peer="rover"),
        record(10.0, "rover", Step.FORWARDED, peer="relay"),
        record(20.0, "relay", Step.EXPIRED, reason="lifetime"),
        record(7.0, "rover", Step.ACCEPTED, "b"),
    ]
    assert list(stays(records)) == [
        Stay("rover", "a", "relay", 5.0, 10.0),
        Stay("relay", "a", "", 9.0, 20.0),
        Stay("rover", "b", "", 7.0, float("inf")),
    ]


def test_every_bundle_that_was_not_delivered_has_a_place_and_a_reason() -> None:
    everyone = {
        "held": life(bundle="held", holders=["relay"], hops=[("rover", 5.0), ("relay", 9.0)], stored_parts=[(0, 10)]),
        "old": life(bundle="old", ended_parts=[(Step.EXPIRED, 0, 10)]),
        "thrown": life(bundle="thrown", ended_parts=[(Step.DROPPED, 0, 10)]),
        "gone": life(bundle="gone"),
        "there": life(bundle="there", delivered=99.0),
    }
    records = [
        *(record(5.0, "rover", Step.ACCEPTED, name) for name in everyone),
        record(30.0, "relay", Step.EXPIRED, "old", reason="lifetime"),
        record(20.0, "mcc", Step.DROPPED, "thrown", reason="evicted"),
        record(10.0, "relay", Step.RECEIVED, "gone", peer="rover"),
    ]
    assert [(h.life.bundle, h.node, h.time, h.reason) for h in deaths(everyone, records)] == [
        ("gone", "relay", 10.0, "lost: last seen as received"),
        ("thrown", "mcc", 20.0, "dropped: evicted"),
        ("old", "relay", 30.0, "expired: lifetime"),
        ("held", "relay", 9.0, "waits in the store at the end of the run"),
    ]


def test_the_longest_wait_is_the_one_beyond_light() -> None:
    contacts = (Contact("l", "rover", "relay", 0.0, 9.0, 1.0), Contact("l", "relay", "mcc", 0.0, 9.0, 1.0))
    ranges = (Range("rover", "relay", 0.0, 9.0, 1.0), Range("relay", "mcc", 0.0, 9.0, 800.0))
    plan = ContactPlan("2026-10-01", 0.0, 9.0, {"rover": 1, "relay": 2, "mcc": 3}, contacts, ranges)
    waiting = life(hops=[("rover", 5.0), ("relay", 106.0), ("mcc", 956.0)], delivered=956.0)
    halt = longest_wait(waiting, plan)
    assert (halt.node, halt.time, halt.waited) == ("rover", 5.0, 100.0)


def test_a_bundle_is_late_by_the_strictest_requirement_that_looks_at_it() -> None:
    requirements = load_scenario(SHORT)[0].requirements
    assert allowed(life(service_class="expedited"), requirements) == 5400.0
    assert allowed(life(service_class="bulk"), requirements) == float("inf")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Scenario.load(SHORT).run(output=tmp_path_factory.mktemp("runs"))


def test_it_stands_alone_with_the_verdict_first(run: Run) -> None:
    text = (run.spec.folder / "report.html").read_text()
    body = text[text.index("<body>") :]
    assert "<h1>short <span class=badge style='background:#1e8449'>PASSED</span></h1>" in body
    places = [body.index(f"<h2>{title}</h2>") for title in SECTIONS]
    assert places == sorted(places)
    assert body.index("PASSED") < places[0]
    for requirement in run.verdict["requirements"]:
        assert requirement["measured"] in body
    assert run.ledger_hash in body
    assert "numpy" in body
    assert len(text.encode()) < LIMIT


def test_its_size_is_bounded_whatever_the_run(tmp_path: Path) -> None:
    scenario, topology = load_scenario(SHORT)
    contacts = (Contact("l", "habitat", "areo", 0.0, 9000.0, 1e6), Contact("l", "areo", "mcc", 0.0, 9000.0, 1e6))
    ranges = (Range("habitat", "areo", 0.0, 9000.0, 0.1), Range("areo", "mcc", 0.0, 9000.0, 800.0))
    plan = ContactPlan("2026-10-01T00:00:00.000Z", 0.0, 9000.0, {"habitat": 1, "areo": 2, "mcc": 3}, contacts, ranges)
    records = []
    details = {"flow": "images", "class": "bulk", "source": "habitat", "destination": "mcc", "size": 1000}
    for number in range(40_000):
        name, at = f"b{number}", 8000.0 * number / 40_000
        records.append(record(at, "habitat", Step.ACCEPTED, name, **details))
        records.append(record(at + 1, "areo", Step.RECEIVED, name, peer="habitat"))
        records.append(record(at + 1.2, "habitat", Step.FORWARDED, name, peer="areo"))
        if number % 2:
            records.append(record(at + 2, "areo", Step.DROPPED, name, reason="evicted"))
    spec = RunSpec(scenario, topology, plan, (), 1, 1.0, tmp_path)
    outcome = Outcome("virtual", records, {}, [], elapsed=9000.0)
    judgement = judge(spec, outcome)
    path = tmp_path / "report.html"
    write_report(path, spec, outcome, judgement, verdict(spec, outcome, judgement, path))
    text = path.read_text()
    assert len(text.encode()) < LIMIT
    assert "<td>areo</td><td>dropped: evicted</td><td>bulk</td><td>20000</td>" in text
    assert "39900 more are in ledger.jsonl" in text


@pytest.mark.slow
def test_a_browser_draws_every_figure_without_an_error(run: Run) -> None:
    chromium = find("chromium") or find("chromium-browser")
    if not chromium:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    asked: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto((run.spec.folder / "report.html").as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 5")
        assert page.locator("h1").inner_text().split() == ["short", "PASSED"]
        assert page.locator("h2").all_inner_texts() == SECTIONS
        plots = page.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map(p => ({traces: p.data.map(t => t.name),"
            " axis: p.layout.xaxis.title.text, points: p.data.map(t => (t.x.length || t.x._inputArray?.length || 0))}))"
        )
        box = page.locator("h1 .badge").bounding_box()
        labels = page.evaluate(
            "[...document.querySelectorAll('.annotation-text-g, .legend')].map(a => a.getBoundingClientRect())"
            ".map(b => [b.left, b.top, b.right, b.bottom])"
        )
        # No figure is wider than the page.
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []
    assert len(labels) > 5
    for one, other in combinations(labels, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, "what is written does not overlap"
    assert box is not None
    assert box["y"] < 100
    contacts, latency, beyond, queues, stores = plots
    assert contacts["traces"] == ["contact", "critical", "expedited", "normal", "bulk"]
    assert latency["traces"] == beyond["traces"] == ["critical", "expedited", "normal", "bulk"]
    assert queues["traces"] == stores["traces"] == list(run.spec.topology.nodes)
