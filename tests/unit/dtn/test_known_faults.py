"""What other implementations get wrong: which test holds it for ours, and those that stand nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from chain_world import NAMES, Fate, chain, wait_until
from test_node_agent import Network, flow, plan_of

from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine
from marsnet.dtn.node.ledger import Step

HERE = Path(__file__).parent
HELD_BY = {
    "CRC over a re-encoded block": [
        "test_bpv7_codec.py::test_the_checksum_covers_the_octets_received_not_a_canonical_form",
    ],
    "extension block with flag 0x10 and a CRC": [
        "test_bpv7_codec.py::test_extension_blocks_are_sent_without_checksum_and_never_flagged_for_removal",
    ],
    "Transfer MRU near 2^64": ["test_tcpcl_engine.py::test_huge_mrus_of_the_peer_are_no_trouble"],
    "extension length on other than the first TCPCL segment": [
        "test_tcpcl_engine.py::test_only_the_first_segment_announces_the_length_and_only_of_several",
        "test_live_tshark.py::test_tshark_reads_the_sessions_of_two_nodes",
        "test_node_peers.py::test_an_extension_length_on_a_later_segment_ends_that_session_and_harms_nothing",
    ],
    "LTP report larger than the MTU": [
        "test_ltp_engine.py::test_long_reports_are_split_to_the_mtu",
        "test_ltp_segments.py::test_a_report_is_split_to_the_mtu_and_keeps_its_meaning",
    ],
    "SDNV bounds": [
        "test_ltp_segments.py::test_sdnv_of_rfc_6256_and_of_its_bounds",
        "test_ltp_segments.py::test_sdnv_out_of_bounds",
    ],
    "LTP timers that ignore light time": [
        "test_ltp_engine.py::test_each_lost_segment_is_repeated_when_its_answer_is_overdue",
        "test_ltp_engine.py::test_the_timer_waits_for_the_peers_contact",
        "test_known_faults.py::test_nothing_is_repeated_before_light_could_bring_an_answer",
        "test_node_contacts.py::test_timers_are_suspended_while_no_answer_can_leave",
    ],
    "time 0 without Bundle Age": ["test_bpv7_codec.py::test_time_0_needs_an_age_and_expiry_counts_from_reception"],
    "HMAC over the wrong scope": [
        "test_bpsec_policy.py::test_a_header_is_covered_only_as_far_as_the_scope_says",
        "test_bpsec_rfc9173.py::test_examples_are_made_octet_by_octet",
    ],
    "volume booked twice": [
        "test_routing_sabr.py::test_bundles_queue_and_volume_is_never_booked_twice",
        "test_routing_large.py::test_volume_is_never_promised_twice_under_load",
    ],
    "sub-second contacts": [
        "test_routing_sabr.py::test_sub_second_contacts",
        "test_ltp_engine.py::test_contacts_shorter_than_a_segment_are_used",
        "test_known_faults.py::test_contacts_of_less_than_a_second_carry_bundles",
        "test_node_contacts.py::test_contacts_of_less_than_a_second_carry_what_fits_and_nothing_is_lost",
    ],
    "several nodes on one host": ["test_known_faults.py::test_several_nodes_at_one_address"],
    "Nagle delays of 40 ms": ["test_tcpcl_asyncio.py::test_small_bundles_do_not_wait_for_each_other"],
    "aggregation delays of 1 s on an idle link": [
        "test_ltp_aggregate.py::test_an_idle_open_link_is_not_kept_waiting",
    ],
}


@pytest.mark.parametrize("fault", HELD_BY)
def test_each_known_fault_has_its_test(fault: str) -> None:
    for place in HELD_BY[fault]:
        file, _, name = place.partition("::")
        assert f"def {name}(" in (HERE / file).read_text(), f"{fault}: {place} is gone"


@pytest.mark.parametrize("light", [1.0, 240.0, 1260.0])
def test_nothing_is_repeated_before_light_could_bring_an_answer(light: float) -> None:
    engine = LtpEngine(1, LtpConfig(timer_margin=2.0, session_base=7))
    engine.add_peer(2, ConstantPeer(mtu=1000, owlt=light, rate=1e6))
    engine.send(2, bytes(5000), 0.0)
    now = 0.0
    sent: list[float] = []
    while now < 2 * light + 60:
        engine.advance(now)
        sent += [now] * len(engine.take_datagrams())
        deadline = engine.next_deadline(now)
        assert deadline is not None
        now = max(now, deadline)
        if len(sent) > 6:
            break
    first_again = next(time for time in sent if time > 1.0)
    assert 2 * light < first_again < 2 * light + 3.0


def test_contacts_of_less_than_a_second_carry_bundles() -> None:
    contacts = [(pair, 100.0 * n + 0.3, 100.0 * n + 0.7, 1e6) for n in range(1, 12) for pair in ("rover relay",)]
    network = Network(plan_of(*contacts, ("relay earth", 0.0, 9e5, 1e5)), {"rover": (flow("t", stop=900.0),)})
    network.run(5000.0)
    accepted = network.steps(Step.ACCEPTED)
    assert len(accepted) == 9
    received = [time for node, time in network.steps(Step.RECEIVED) if node == "relay"]
    assert len(received) == 9
    assert all(0.3 <= time % 100 < 0.75 for time in received)
    assert len(network.steps(Step.DELIVERED)) == 9


@pytest.mark.slow
@pytest.mark.parametrize("convergence", ["ltp", "tcpcl", "mtcp", "udpcl"])
def test_several_nodes_at_one_address(tmp_path: Path, convergence: str) -> None:
    network = 60 + ["ltp", "tcpcl", "mtcp", "udpcl"].index(convergence)
    with chain(tmp_path, network, convergence, one_address=True) as made:
        for name in NAMES:
            made.start(name)

        def arrived() -> int:
            flows = {r.bundle: r.details["flow"] for r in made.records() if r.step == Step.ACCEPTED}
            return len(
                {flows[bundle] for bundle in Fate(made.records()).delivered if bundle in flows} & {"log", "orders"}
            )

        wait_until(lambda: arrived() == 2, 30, lambda: made.whereabouts(Fate(made.records()).missing))
