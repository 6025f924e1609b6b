"""Endpoint IDs: text, encoding, what they name (RFC 9171 section 4.2.5.1, RFC 9758)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.bpv7 import NULL_EID, BundleError, Eid, Malformation


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("dtn:none", "820100"),
        ("dtn://rover/", "8201682f2f726f7665722f"),
        ("dtn://rover/~news", "82016d2f2f726f7665722f7e6e657773"),
        ("ipn:2.1", "8202820201"),
        ("ipn:0.0", "8202820000"),
        ("ipn:977000.100.1", "8202821b000ee8680000006401"),
        ("ipn:!.7", "8202821affffffff07"),
    ],
)
def test_text_and_encoding(text: str, encoded: str) -> None:
    eid = Eid.parse(text)
    assert str(eid) == text
    assert eid.cbor.hex() == encoded
    assert Eid.from_cbor(bytes.fromhex(encoded)) == eid


def test_the_three_element_form_is_the_same_endpoint_and_keeps_its_encoding() -> None:
    three = Eid.from_cbor(bytes.fromhex("8202831a000ee868186401"))
    two = Eid.parse("ipn:977000.100.1")
    assert three == two
    assert hash(three) == hash(two)
    assert three.cbor.hex() == "8202831a000ee868186401"
    assert Eid.parse(f"ipn:{977000 << 32 | 100}.1") == two


def test_kinds_of_endpoint() -> None:
    assert NULL_EID.is_null
    assert Eid.parse("ipn:0.0").is_null
    assert not NULL_EID.is_singleton
    assert not Eid.parse("dtn://mars/~all").is_singleton
    assert Eid.parse("dtn://mars/x").is_singleton
    assert Eid.parse("dtn://mars/x").node_id == Eid.parse("dtn://mars/") == Eid.parse("dtn://mars")
    assert Eid.parse("ipn:4.9").node_id == Eid.ipn(4, 0)
    assert Eid.ipn(4, 0).is_node_id
    assert not Eid.ipn(4, 9).is_node_id


@pytest.mark.parametrize(
    "text",
    [
        "ipn:01.1", "ipn:\u0661.1",
        "", "ipn:", "ipn:1", "ipn:1.2.3.4", "ipn:-1.0", "ipn:0.5", "ipn:4294967296.1.1", f"ipn:1.{1 << 64}",
        "dtn:rover", "dtn:///x", "dtn://ro ver/", "dtn://r\u00f6ver/", f"dtn://{'n' * 2000}/", "http://x/", "imc:1.0",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_id_is_refused(text: str) -> None:
    with pytest.raises(BundleError) as caught:
        Eid.parse(text)
    assert caught.value.reason is Malformation.EID


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        ("820101", Malformation.TYPE),
        ("8201646e6f6e65", Malformation.EID),
        ("820301", Malformation.EID),
        ("8202820005", Malformation.EID),
        ("82028101", Malformation.LENGTH),
        ("820282020100", Malformation.TRAILING),
        ("82028202", Malformation.TRUNCATED),
        ("820282180201", Malformation.NOT_CANONICAL),
        ("82018168", Malformation.TYPE),
    ],
)
def test_malformed_encodings_are_refused(encoded: str, reason: Malformation) -> None:
    with pytest.raises(BundleError) as caught:
        Eid.from_cbor(bytes.fromhex(encoded))
    assert caught.value.reason is reason


U32 = st.integers(0, (1 << 32) - 1)


@given(st.integers(1, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), U32, st.sampled_from((2, 3)))
def test_ipn_round_trip(node: int, service: int, allocator: int, elements: int) -> None:
    eid = Eid.ipn(node, service, allocator, elements=elements)
    again = Eid.from_cbor(eid.cbor)
    assert (again, again.elements, again.cbor) == (eid, elements, eid.cbor)
    assert Eid.parse(str(eid)) == eid
