"""What a node leaves out where only LTP can have something to do changes nothing but the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.dtn.node.agent import BundleAgent
from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import prepare
from marsnet.worlds.virtual import run_virtual

EXCERPT = Path(__file__).parents[2] / "integration" / "warp" / "excerpt.yaml"


@pytest.mark.interpreted
def test_a_node_that_looks_at_ltp_alone_does_what_one_does_that_looks_at_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = prepare(EXCERPT, tmp_path)
    advance, looks = BundleAgent.advance, [0]

    def counted(agent: BundleAgent, now: float) -> None:
        looks[0] += 1
        advance(agent, now)

    monkeypatch.setattr(BundleAgent, "advance", counted)
    brief, few = run_virtual(spec), looks[0]
    monkeypatch.setattr(BundleAgent, "tick", counted)
    thorough, many = run_virtual(spec), looks[0] - few
    assert brief.records
    assert ledger_hash(brief.records) == ledger_hash(thorough.records)
    assert brief.frames == thorough.frames
    assert few < 0.8 * many
