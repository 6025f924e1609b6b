"""The Grafana dashboard: well formed, nothing overlaps, every metric and label in it is one that marsnet exposes."""

import json
import random
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from marsnet.dtn.ltp import ConstantPeer, LtpConfig
from marsnet.dtn.node.ltp_layer import LtpLayer
from marsnet.links.metrics import LinkCollector

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "services" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "run.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]

METRIC = re.compile(r"\bmarsnet_[a-z_]+")
LABELS = re.compile(r"\b(?:by|on) \(([a-z, ]+)\)|[{,]\s*([a-z]+)(?:=|=~|!=)\"")
OF_PROMETHEUS = {"le", "job"}


def expressions(panel: dict[str, Any]) -> Iterator[str]:
    return (target["expr"] for target in panel["targets"])


def family(metric: str) -> str:
    return re.sub(r"_(total|bucket|sum|count)$", "", metric)


def sources() -> dict[str, str]:
    files = [path for room in ("marsnet", "controllers") for path in (ROOT / room).rglob("*.py")]
    texts = {str(path): path.read_text() for path in files}
    return {name: text for name, text in texts.items() if '"marsnet_' in text}


def test_rows_follow_the_life_of_a_bundle() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Verdict",
        "Bundles by class",
        "Latency and light time",
        "Queues and contacts",
        "Links",
        "LTP",
        "Storage",
        "Controllers",
        "Fidelity",
    ]


def test_panels_are_told_apart() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in DRAWN}) == len(DRAWN)
    assert all(panel["title"] for panel in PANELS)


def test_panels_lie_in_the_grid_and_apart() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    for one, other in combinations(PANELS, 2):
        assert not cells(one) & cells(other), f"{one['title']} lies over {other['title']}"


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_panel_draws_from_the_provisioned_source_in_a_unit(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "marsnet"}
    assert panel["targets"]
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    if panel["type"] in {"timeseries", "stat"}:
        assert panel["fieldConfig"]["defaults"]["unit"]


def link_families() -> dict[str, set[str]]:
    """Names of the delay line's metrics as it exposes them, and their labels."""
    count = {"frames": 1, "bytes": 1}
    direction = {
        "classes": {"bulk": dict.fromkeys(("entered", "delivered", "dropped", "queued"), count)},
        "dropped": {"down": count},
        "in_flight": count,
        "lateness_histogram": [],
        "lateness_frames": 0,
        "lateness_sum_ns": 0,
        **dict.fromkeys(("balanced", "valid"), True),
        **dict.fromkeys(("broken", "ring_drops", "clock_steps", "stalls", "corrupted"), 0),
    }
    line = SimpleNamespace(
        stats=lambda: {
            "links": {"dsn-mro": {"directions": {"dsn>mro": direction}}},
            "store": {"ram_bytes": 0, "disk_bytes": 0, "state": "ok"},
            "realtime": True,
            "steal": 0.0,
        }
    )
    families: dict[str, set[str]] = {}
    for metric in LinkCollector(cast(Any, line)).collect():
        families[metric.name] = {label for sample in metric.samples for label in sample.labels}
    return families


def ltp_families() -> dict[str, set[str]]:
    """Names of the metrics of LTP as its layer gives them, and their labels with those that the node adds."""
    layer = LtpLayer(1, LtpConfig(), {"relay": ConstantPeer()}, {"relay": 2}, random.Random(1))
    layer.cancelled[0, False] = 1
    return {f"marsnet_{figure.name}": {"node", "layer", "neighbour", *figure.labels} for _, figure in layer.figures()}


def lacking(metric: str, asked: set[str]) -> set[str] | None:
    """Labels asked for that the metric does not have; None when nothing exposes the metric at all."""
    name = family(metric)
    if name.startswith("marsnet_link_"):
        links = link_families()
        return asked - links[name] if name in links else None
    if name.startswith("marsnet_ltp_"):
        ltp = ltp_families()
        # An expression may join several of them: a label that only one has counts for all.
        return asked - set().union(*ltp.values()) if name in ltp else None
    defining = [text for text in sources().values() if f'"{name}"' in text]
    return {label for label in asked if not any(f'"{label}"' in text for text in defining)} if defining else None


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_panel_asks_for_metrics_and_labels_that_exist(panel: dict[str, Any]) -> None:
    for expression in expressions(panel):
        asked = {
            label.strip()
            for by, matcher in LABELS.findall(expression)
            for label in (by or matcher).split(",")
            if label.strip() not in OF_PROMETHEUS
        }
        for metric in METRIC.findall(expression):
            missing = lacking(metric, asked)
            assert missing is not None, f"nothing exposes {metric}"
            assert not missing, f"{metric} has no label {missing}"


def test_a_metric_that_nothing_exposes_is_seen() -> None:
    assert lacking("marsnet_link_invented_total", set()) is None
    assert lacking("marsnet_ltp_invented_total", set()) is None
    assert lacking("marsnet_ltp_sessions", {"node", "tenant"}) == {"tenant"}
    assert lacking("marsnet_invented_total", set()) is None
    assert lacking("marsnet_link_valid", {"link", "reason"}) == {"reason"}
    assert lacking("marsnet_store_bytes", {"node", "no_such_label"}) == {"no_such_label"}


def test_provisioning_finds_source_and_dashboard() -> None:
    yaml = YAML(typ="safe")
    (source,) = yaml.load(GRAFANA / "provisioning/datasources/prometheus.yaml")["datasources"]
    (provider,) = yaml.load(GRAFANA / "provisioning/dashboards/marsnet.yaml")["providers"]
    recipe = (GRAFANA / "Dockerfile").read_text()
    assert (source["uid"], source["type"]) == ("marsnet", "prometheus")
    assert source["url"] == "${MARSNET_PROMETHEUS}"
    assert source["jsonData"]["timeInterval"] == "${MARSNET_SCRAPE}"
    assert "MARSNET_PROMETHEUS=" in recipe
    assert "MARSNET_SCRAPE=2s" in recipe
    assert f"COPY dashboards/ {provider['options']['path']}/" in recipe
    assert "COPY provisioning/ /etc/grafana/provisioning/" in recipe
    assert re.search(r"^FROM \S+:\d+\.\d+\.\d+$", recipe, re.MULTILINE), "the image is pinned"


def test_variables_are_used() -> None:
    text = json.dumps(PANELS)
    for variable in DASHBOARD["templating"]["list"]:
        assert f"${variable['name']}" in text
        assert variable["type"] == "textbox" or variable["includeAll"]
