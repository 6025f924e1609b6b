"""Bundles in datagrams."""

from __future__ import annotations

import pytest

from marsnet.dtn.udpcl import MAX_DATAGRAM, DatagramError, from_datagram, to_datagram

BUNDLE = b"\x9f\x88\x07\x00\xff"


def test_a_bundle_is_a_datagram() -> None:
    assert to_datagram(memoryview(BUNDLE)) == BUNDLE
    received = from_datagram(BUNDLE)
    assert received is not None
    assert bytes(received) == BUNDLE
    assert from_datagram(b"\x06 of version 6") is not None


def test_keepalives_are_no_bundles() -> None:
    assert from_datagram(b"") is None
    assert from_datagram(bytes(4)) is None


@pytest.mark.parametrize("octets", [b"x", b"\0", bytes(5), b"\x80"])
def test_other_datagrams_are_refused(octets: bytes) -> None:
    with pytest.raises(DatagramError, match=r"begins with 0x"):
        from_datagram(octets)


@pytest.mark.parametrize("size", [0, MAX_DATAGRAM + 1])
def test_what_fits_no_datagram(size: int) -> None:
    with pytest.raises(DatagramError, match="fragment it"):
        to_datagram(bytes(size))
    assert len(to_datagram(bytes(MAX_DATAGRAM))) == MAX_DATAGRAM
