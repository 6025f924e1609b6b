"""LTP as nodes use it: green classes, reports beyond the MTU, several bundles in a block."""

from __future__ import annotations

import random

import pytest

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import ConstantPeer, LtpConfig
from marsnet.dtn.ltp.segments import GREEN, ReportSegment, decode_segment
from marsnet.dtn.node.layer import Received, Taken
from marsnet.dtn.node.ltp_layer import LtpLayer

NUMBERS = {"a": 1, "b": 2}
MTU = 120


def pair(config: LtpConfig, green: tuple[ServiceClass, ...] = ()) -> dict[str, LtpLayer]:
    return {
        name: LtpLayer(number, config, {other: ConstantPeer(mtu=MTU)}, NUMBERS, random.Random(number), green)
        for (name, number), other in zip(NUMBERS.items(), ("b", "a"), strict=True)
    }


def exchange(
    layers: dict[str, LtpLayer], until: float, lose: set[int] = frozenset()
) -> tuple[list[Received], list[object], list[bytes]]:  # type: ignore[assignment]
    """Let both talk; losing a's datagrams of these numbers. What came, what was taken, and all datagrams."""
    now, seen, came, taken = 0.0, [], [], []
    sent = 0
    while True:
        moved = False
        for name, other in (("a", "b"), ("b", "a")):
            layers[name].advance(now)
            for _, octets, _ in layers[name].take_datagrams():
                moved = True
                seen.append(octets)
                if name == "a":
                    sent += 1
                    if sent - 1 in lose:
                        continue
                layers[other].receive_all(name, (octets,), now)
            for event in layers[name].take_events():
                if isinstance(event, Received):
                    came.append(event)
                    event.layer.confirm(event.receipt, now)
                elif isinstance(event, Taken):
                    taken += event.tags
        if moved:
            continue
        deadlines = [d for layer in layers.values() if (d := layer.next_deadline(now)) is not None]
        if not deadlines or min(deadlines) >= until:
            return came, taken, seen
        now = max(now, min(deadlines))


@pytest.mark.parametrize("lose", [set(), {1}])
def test_a_green_class_is_sent_once_and_arrives_whole_or_not_at_all(lose: set[int]) -> None:
    layers = pair(LtpConfig(), (ServiceClass.BULK,))
    payload = bytes(range(256)) * 4
    layers["a"].send("b", payload, 0.0, tag="t", service_class=ServiceClass.BULK)
    came, taken, seen = exchange(layers, 100.0, lose)
    assert [event.parts for event in came] == ([] if lose else [(payload,)])
    assert taken == ["t"], "nobody tells whether it arrived"
    assert all(octets[0] & 15 >= GREEN for octets in seen)


def test_other_classes_stay_red_and_are_repaired() -> None:
    layers = pair(LtpConfig(), (ServiceClass.BULK,))
    layers["a"].send("b", bytes(1000), 0.0, tag="t", service_class=ServiceClass.NORMAL)
    came, taken, _ = exchange(layers, 100.0, {1, 3})
    assert ([event.parts for event in came], taken) == ([(bytes(1000),)], ["t"])


def test_a_report_that_no_datagram_holds_is_sent_in_parts() -> None:
    layers = pair(LtpConfig())
    payload = random.Random(1).randbytes(20_000)
    layers["a"].send("b", payload, 0.0, tag="t", service_class=ServiceClass.NORMAL)
    came, taken, seen = exchange(layers, 1000.0, set(range(0, 150, 2)))
    assert ([event.parts for event in came], taken) == ([(payload,)], ["t"])
    reports = [octets for octets in seen if isinstance(decode_segment(octets, 0)[0], ReportSegment)]
    assert len(reports) > 4
    assert max(map(len, seen)) <= MTU


def test_bundles_share_blocks_by_size_and_by_time_but_never_wait_for_an_idle_link() -> None:
    layers = pair(LtpConfig(aggregate_size=50, aggregate_time=5.0))
    for number in range(5):
        layers["a"].send("b", b"\x82\x01" + bytes([number]), 0.0, tag=number, service_class=ServiceClass.NORMAL)
    came, taken, _ = exchange(layers, 1.0)
    assert taken == [0, 1, 2, 3, 4]
    assert len(came) == 1
