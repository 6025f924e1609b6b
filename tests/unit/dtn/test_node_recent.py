"""Bundles that need not be decoded again, within a bound."""

from __future__ import annotations

from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, decode, encode
from marsnet.dtn.node.recent import Recent


def bundle(number: int) -> Bundle:
    return Bundle.create(Eid.ipn(1, 1), Eid.ipn(2, 1), bytes(100), CreationTimestamp(1, number), 1000)


def test_a_bundle_is_taken_once_and_the_oldest_gives_way() -> None:
    recent = Recent(250)
    made = [bundle(n) for n in range(3)]
    for key, each in enumerate(made):
        recent.put(key, each, 100)
    assert recent.take(0) is None
    assert recent.take(2) is made[2]
    assert recent.take(2) is None
    recent.put(3, made[0], 100)
    assert (recent.take(1), recent.take(3)) == (made[1], made[0])
    recent.put(4, made[1], 251)
    assert len(recent) == 0


def test_what_was_made_here_leaves_as_if_it_had_been_read_back() -> None:
    made = bundle(1)
    octets = encode(made)
    relay = Eid.ipn(7, 0)
    assert encode(made) == octets
    assert encode(made.forwarded(relay)) == encode(decode(octets).forwarded(relay))
    changed = made.with_block(made.blocks[-1].with_data(b"other"))
    assert decode(encode(changed)).payload == b"other"
