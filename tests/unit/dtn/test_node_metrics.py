"""What a node tells Prometheus: contacts, what they carry, timers, what is sent again, storage by class and tenant."""

from __future__ import annotations

import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from test_node_agent import ALWAYS, Network, flow, plan_of

from marsnet.dtn.node.config import FlowConfig
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.storage import open_store
from marsnet.model.bundles import FragmentsConfig, TenantConfig


class Told:
    """The figures of one node at one time."""

    def __init__(self, network: Network, name: str) -> None:
        text = network.agents[name].metrics.exposition().decode()
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; NaN when there is none."""
        found = [s.value for s in self._samples if s.name == f"marsnet_{name}" and labels.items() <= s.labels.items()]
        return math.fsum(found) if found else math.nan


WHOLE: Any = FragmentsConfig(proactive=False)


def windows() -> Network:
    """Rover meets the relay for 10 s every 1,000 s, and has 100 bundles of 10 kB for Earth."""
    passes = [("rover relay", at, at + 10.0, 80_000.0) for at in (1000.0, 2000.0, 3000.0)]
    flows: dict[str, tuple[FlowConfig, ...]] = {"rover": (flow("t", size=9_000, burst=100, start=5.0, stop=6.0),)}
    return Network(plan_of(*passes, ("relay earth", 0.0, 9e5, 1e6)), flows, fragments=WHOLE)


def test_a_contact_tells_its_volume_what_it_carried_and_what_is_next() -> None:
    network = windows()
    network.run(500.0)
    before = Told(network, "rover")
    assert before("contact_open", neighbour="relay") == 0
    assert before("next_contact_start_seconds", neighbour="relay") == 1000.0
    assert before("next_contact_volume_bytes", neighbour="relay") == 100_000.0
    assert before("next_deadline_seconds") == 1000.0
    assert before("queue_bundles", neighbour="relay", **{"class": "normal"}) == 30
    assert before("unroutable_bundles") == 70
    assert before("stored_bundles", **{"class": "normal"}) == 100
    assert before("left_bundles_total", neighbour="relay") == 0
    assert math.isnan(before("contact_volume_bytes"))

    network.run(1005.0)
    during = Told(network, "rover")
    assert during("contact_open", neighbour="relay") == 1
    assert during("contact_rate_bits") == 80_000.0
    assert during("contact_end_seconds") == 1010.0
    assert during("next_contact_start_seconds") == 2000.0
    left, booked = during("contact_left_bytes"), during("contact_booked_bytes", **{"class": "normal"})
    assert during("contact_left_bundles") in {4, 5}
    free = during("contact_free_bytes", **{"class": "bulk"})
    assert during("contact_volume_bytes") == 100_000.0
    # Octets on the wire are booked, so that headers of the layers below have room too.
    assert 0 <= 100_000.0 - free - booked - left <= 0.1 * left
    assert during("contact_booked_bytes", **{"class": "critical"}) == 0
    assert during("contact_free_bytes", **{"class": "critical"}) >= free

    network.run(2500.0)
    after = Told(network, "rover")
    assert after("contact_open") == 0
    assert math.isnan(after("contact_end_seconds"))
    assert after("next_contact_start_seconds") == 3000.0
    by_second = after("contact_left_bundles")
    assert 8 <= by_second <= 11
    assert 16 <= after("left_bundles_total", neighbour="relay") <= 22
    assert after("left_bundles_total") - by_second == network_left_in_first_contact(network)
    network.run(6000.0)
    relay = Told(network, "relay")
    assert relay("received_bundles_total", neighbour="rover") == len(
        [r for r in network.ledger.records if r.node == "relay" and r.step == Step.RECEIVED]
    )
    assert relay("taken_bundles_total", neighbour="earth") == relay("stay_seconds_count", neighbour="earth")


def network_left_in_first_contact(network: Network) -> int:
    """Bundles that the relay received before the second contact."""
    return len([r for r in network.ledger.records if r.node == "relay" and r.step == Step.RECEIVED and r.time < 1500])


def test_timers_are_told_by_what_they_are_for() -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t", every=5000.0, lifetime=80_000.0),)})
    network.run(100.0)
    relay = Told(network, "relay")
    assert relay("ltp_timers", neighbour="earth", type="checkpoint") == 1
    assert relay("ltp_timers", neighbour="rover", type="checkpoint") == 0
    assert relay("timers", timer="lifetime") == 1
    assert relay("timers", timer="contact") == 1
    assert relay("ltp_sessions", neighbour="earth", direction="export") == 1
    assert Told(network, "rover")("timers", timer="flow") == 0


def test_what_is_sent_again_is_told_by_neighbour_and_reason() -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t", stop=50.0),)})
    network.passes = lambda source, target, now: source != "relay" or now > 20_000
    network.run(60_000.0)
    rover = Told(network, "rover")
    assert rover("returned_bundles_total", neighbour="relay") >= 1
    assert rover("repeated_bundles_total", neighbour="relay") >= 1
    assert rover("handed_bundles_total") == 1 + rover("repeated_bundles_total")
    assert rover("taken_bundles_total", neighbour="relay") == 1
    assert rover("ltp_retransmitted_segments_total", neighbour="relay", type="checkpoint") >= 1


def test_storage_is_told_by_class_and_tenant_and_evictions_by_reason() -> None:
    tenants = {"science": TenantConfig(quota=50_000, sources=("ipn:1.1",)), "ops": TenantConfig(sources=("ipn:1.2",))}
    flows = {
        "rover": (
            flow("old", "bulk", size=9_000, burst=5, start=5.0, stop=6.0),
            flow("new", "normal", size=9_000, burst=2, start=7.0, stop=8.0),
            flow("ops", "critical", size=900, start=5.0, stop=6.0, service=2),
        )
    }
    passes = plan_of(("rover relay", 1000.0, 1001.0, 80_000.0), ("relay earth", 0.0, 9e5, 1e6))
    network = Network(passes, flows, tenants=tenants, fragments=WHOLE)  # type: ignore[arg-type]
    network.stores["rover"] = open_store(network.configs["rover"], None)
    network.start("rover")
    network.run(100.0)
    rover = Told(network, "rover")
    assert rover("tenant_quota_bytes", tenant="science") == 50_000
    assert math.isnan(rover("tenant_quota_bytes", tenant="ops"))
    assert rover("tenant_bundles", tenant="science") == 5
    assert rover("tenant_bundles", tenant="ops") == 1
    assert 45_000 <= rover("tenant_bytes", tenant="science") <= 50_000
    assert rover("evicted_bundles_total", tenant="science") == 2
    assert math.isnan(rover("evicted_bundles_total", tenant="ops"))
    assert rover("stored_bundles", **{"class": "bulk"}) == 3
    assert rover("stored_bundles") == rover("store_bundles") == 6
    assert rover("stored_bytes") == rover("store_bytes")
    assert rover("store_quota_bytes") == 2e9
    assert rover("dropped_bundles_total", **{"class": "bulk"}) == 2


def test_lifetimes_of_bundles_that_left_are_forgotten() -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t", every=1.0, size=100, stop=1200.0, lifetime=1e6),)})
    network.run(1210.0)
    assert len([node for node, _ in network.steps(Step.RECEIVED) if node == "relay"]) == 1200
    assert Told(network, "rover")("timers", timer="lifetime") < 1100
