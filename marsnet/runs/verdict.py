"""The verdict as JSON, as JUnit XML and as a table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rich import box
from rich.table import Table
from rich.text import Text

from marsnet import __version__
from marsnet.runs.judge import Judgement
from marsnet.runs.lives import ledger_hash
from marsnet.units import format_duration, format_size
from marsnet.worlds.spec import Outcome, RunSpec


def verdict(spec: RunSpec, outcome: Outcome, judgement: Judgement, report: Path) -> dict[str, Any]:
    """The verdict as one JSON object: `passed`, `valid`, `world`, `rate`, `seed`, `requirements`, `report`, figures."""
    return {
        "passed": judgement.passed and judgement.valid,
        "valid": judgement.valid,
        "invalid": list(judgement.invalid),
        "interrupted": outcome.interrupted,
        "scenario": spec.scenario.name,
        "world": outcome.world,
        "rate": spec.rate if outcome.world != "virtual" else None,
        "seed": spec.seed,
        "requirements": [
            {
                "name": f.name,
                "passed": f.passed,
                "measured": f.measured,
                "required": f.required,
                "value": f.value,
                "unit": f.unit,
            }
            for f in judgement.findings
        ],
        "classes": {
            c.service_class: {
                "accepted": c.accepted,
                "delivered": c.delivered,
                "bytes": c.volume,
                "beyond_light_time": _percentiles(c.excess),
                "latency": _percentiles(c.latency),
            }
            for c in judgement.classes
        },
        "frames": [
            {
                "link": f.link,
                "source": f.source,
                "target": f.target,
                "in": f.entered,
                "delivered": f.delivered,
                "queued": f.queued,
                "in_flight": f.in_flight,
                "dropped": f.dropped,
            }
            for f in outcome.frames
        ],
        "fidelity": outcome.fidelity,
        "ledger_hash": ledger_hash(outcome.records),
        "elapsed": outcome.elapsed,
        "wall": outcome.wall,
        "version": __version__,
        "report": str(report),
    }


def _percentiles(values: tuple[float, float, float]) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None for name, value in zip(("p50", "p95", "p99"), values, strict=True)
    }


def write_verdict(content: dict[str, Any], folder: Path) -> None:
    """Write `verdict.json` and `junit.xml` into the run's folder."""
    (folder / "verdict.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    suite = ET.Element("testsuite", name=content["scenario"], time=f"{content['wall']:.3f}")
    failures = errors = 0
    for requirement in content["requirements"]:
        case = ET.SubElement(suite, "testcase", classname=content["scenario"], name=requirement["name"])
        message = f"measured {requirement['measured']}, required {requirement['required']}"
        if not content["valid"]:
            ET.SubElement(case, "error", message="; ".join(content["invalid"]))
            errors += 1
        elif not requirement["passed"]:
            ET.SubElement(case, "failure", message=message)
            failures += 1
        else:
            ET.SubElement(case, "system-out").text = message
    suite.set("tests", str(len(content["requirements"])))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    ET.ElementTree(suite).write(folder / "junit.xml", encoding="utf-8", xml_declaration=True)


def requirements_table(judgement: Judgement) -> Table:
    """The requirements as a table that a person reads."""
    table = Table("", "requirement", "measured", "required", box=box.SIMPLE_HEAD, pad_edge=False)
    for finding in judgement.findings:
        mark = Text("pass", "green") if finding.passed else Text("FAIL", "bold red")
        table.add_row(mark, finding.name, finding.measured, finding.required)
    return table


def _brief(seconds: float) -> str:
    """A duration in one unit, for a narrow column."""
    if not math.isfinite(seconds):
        return "-"
    return f"{seconds / 60:.1f} min" if 120 <= seconds < 7200 else format_duration(seconds)


def classes_table(judgement: Judgement) -> Table:
    """Figures of each class as a table that a person reads."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Latency beyond light time", title_justify="right")
    table.add_column("class")
    for name in ("accepted", "delivered", "volume", "median", "95th", "99th"):
        table.add_column(name, justify="right", no_wrap=True)
    for figures in judgement.classes:
        table.add_row(
            figures.service_class,
            str(figures.accepted),
            str(figures.delivered),
            format_size(figures.volume),
            *map(_brief, figures.excess),
        )
    return table


def conclusion(content: dict[str, Any]) -> Text:
    """The verdict in one line."""
    if not content["valid"]:
        return Text("INVALID: " + "; ".join(content["invalid"]), "bold yellow")
    return Text("PASSED", "bold green") if content["passed"] else Text("FAILED", "bold red")
