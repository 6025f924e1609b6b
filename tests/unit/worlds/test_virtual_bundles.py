"""What a topology says of bundles holds at every node of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from marsnet.dtn.node.config import ClockConfig
from marsnet.dtn.node.ledger import Step
from marsnet.errors import InputError
from marsnet.runs.judge import judge
from marsnet.runs.prepare import prepare
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import RunSpec
from marsnet.worlds.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[3]
SCENARIO: dict[str, Any] = {
    "marsnet": "scenario/1", "name": "guarded", "topology": "net.yaml", "start": "2026-10-01T10:00:00Z",
    "duration": "3 h",
    "traffic": [{
        "name": "telemetry", "source": "rover", "destination": "mcc", "class": "expedited", "size": "2 kB",
        "every": "20 min", "lifetime": "8 h", "stop": "1 h",
    }],
    "requirements": [{"kind": "nothing_lost"}, {"kind": "delivery", "at_least": "100 %"}],
}  # fmt: skip


def prepared(folder: Path, bundles: dict[str, Any]) -> RunSpec:
    topology = YAML().load((ROOT / "topologies" / "first_light.yaml").read_text(encoding="utf-8"))
    topology["bundles"] = bundles
    for name, content in (("net.yaml", topology), ("scenario.yaml", SCENARIO)):
        with (folder / name).open("w", encoding="utf-8") as stream:
            YAML().dump(content, stream)
    return prepare(folder / "scenario.yaml", folder)


def test_traffic_is_signed_and_encrypted_and_arrives_intact(tmp_path: Path) -> None:
    (tmp_path / "wrap.hex").write_text("22" * 32, encoding="ascii")
    security = {
        "keys": {"sign": {"hex": "11" * 32}, "wrap": {"file": "wrap.hex", "wraps": True}},
        "rules": [{"source": "ipn:*.1", "integrity": "sign", "confidentiality": "wrap"}],
        "entropy": "seed",
    }
    sizes = []
    for bundles in ({}, {"security": security}):
        spec = prepared(tmp_path, bundles)
        outcome = run_virtual(spec)
        assert judge(spec, outcome).passed
        delivered = [record for record in outcome.records if record.step == Step.DELIVERED]
        assert len(delivered) == 3
        assert all(record.details["intact"] for record in delivered)
        sizes.append(sum(frames.entered for frames in outcome.frames))
        clock = ClockConfig(epoch=spec.plan.epoch, rate=1.0, origin=0.0)
        keys = [config.security.keys for config in node_configs(spec, clock, hiccup=0.0).values()]
        assert all(bool(each) is bool(bundles) for each in keys)
    assert {each["wrap"].hex for each in keys} == {"22" * 32}, "nodes see no key files"
    assert sizes[1] >= sizes[0], "signatures take room on the links"


@pytest.mark.parametrize(
    ("bundles", "message"),
    [
        ({"groups": {"dtn://team/~all": ["nobody"]}}, r"net\.yaml.*names unknown node 'nobody'"),
        ({"critical_copys": 2}, r"net\.yaml.*unknown key 'bundles\.critical_copys'"),
        ({"security": {"keys": {"k": {"file": "gone.hex"}}}}, r"gone\.hex.*key 'k' cannot be read"),
        ({"security": {"keys": {"k": {}}}}, r"net\.yaml.*a key has one source"),
    ],
)
def test_a_mistake_is_shown_where_it_stands(tmp_path: Path, bundles: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, bundles)
