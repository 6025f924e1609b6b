"""Node processes on loopback over every convergence layer: both ways, restarts, kills, several hops."""

from __future__ import annotations

from pathlib import Path

import pytest
from cl_nodes import figure, line, send, started, take_all, until

ACKNOWLEDGED = ("ltp", "tcpcl")
LAYERS = (*ACKNOWLEDGED, "udpcl", "mtcp", "stcp")


@pytest.mark.parametrize("layer", LAYERS)
def test_bundles_go_both_ways(layer: str, tmp_path: Path) -> None:
    with started(line(tmp_path, layer)) as nodes:
        for size in (1, 1000, 50_000):
            send(nodes["alpha"], "ipn:2.5", b"a" * size)
            send(nodes["beta"], "ipn:1.5", b"b" * size)
        assert sorted(map(len, take_all(nodes["beta"], 3))) == [1, 1000, 50_000]
        assert set(b"".join(take_all(nodes["alpha"], 3))) == set(b"b")
        for node in nodes.values():
            until(node, "marsnet_bundles_total", 3, event="forwarded")
            assert figure(node, "marsnet_queue_bundles", layer=layer) == 0
