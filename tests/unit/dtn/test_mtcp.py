"""MTCP and STCP framing."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.mtcp import FramingError, MtcpDeframer, StcpDeframer, mtcp_frame, stcp_frame

Frame = Callable[[bytes], list[bytes | memoryview]]
WAYS = [(mtcp_frame, MtcpDeframer), (stcp_frame, StcpDeframer)]


@pytest.mark.parametrize(
    ("size", "head"), [(0, "40"), (23, "57"), (24, "5818"), (256, "590100"), (65536, "5a00010000")]
)
def test_mtcp_frames_are_cbor_byte_strings(size: int, head: str) -> None:
    frame = b"".join(mtcp_frame(bytes(size)))
    assert frame[: len(head) // 2].hex() == head
    assert cbor2.loads(frame) == bytes(size)


def test_stcp_frames_have_four_octets_of_length() -> None:
    assert b"".join(stcp_frame(b"bundle")).hex() == "00000006" + b"bundle".hex()
    with pytest.raises(FramingError, match="0 octets"):
        stcp_frame(b"")


@pytest.mark.parametrize(("frame", "deframer"), WAYS)
@given(bundles=st.lists(st.binary(min_size=1, max_size=400), max_size=8), seed=st.integers(0, 99))
def test_bundles_survive_any_cut(
    frame: Frame, deframer: type[MtcpDeframer | StcpDeframer], bundles: list[bytes], seed: int
) -> None:
    stream = b"".join(part for bundle in bundles for part in frame(bundle))
    rng, found, reader = random.Random(seed), [], deframer()
    while stream:
        cut = rng.randrange(1, 30)
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found == bundles
    assert not reader.unfinished


def test_keepalives_are_skipped() -> None:
    assert StcpDeframer().feed(bytes(8) + b"\0\0\0\1x" + bytes(4)) == [b"x"]
    assert MtcpDeframer().feed(b"\x40\x41x\x40") == [b"x"]


def test_an_unfinished_frame_is_known() -> None:
    reader = StcpDeframer()
    assert reader.feed(b"\0\0") == []
    assert reader.unfinished
    assert reader.feed(b"\0\3ab") == []
    assert reader.unfinished
    assert reader.feed(b"c") == [b"abc"]
    assert not reader.unfinished


@pytest.mark.parametrize("octets", ["5f", "00", "80", "61", "5c", "ff"])
def test_what_is_no_byte_string(octets: str) -> None:
    with pytest.raises(FramingError, match="no CBOR byte string"):
        MtcpDeframer().feed(bytes.fromhex(octets))


@pytest.mark.parametrize(
    ("reader", "octets"), [(MtcpDeframer(100), "5bffffffffffffffff"), (StcpDeframer(100), "00000065")]
)
def test_a_lying_length_is_refused_before_anything_is_allocated(
    reader: MtcpDeframer | StcpDeframer, octets: str
) -> None:
    tracemalloc.start()
    with pytest.raises(FramingError, match="more than 100"):
        reader.feed(bytes.fromhex(octets))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


def test_what_was_whole_before_the_stream_broke_is_kept() -> None:
    reader = MtcpDeframer()
    assert reader.feed(b"\x41a\xff\x41b") == [b"a"]
    with pytest.raises(FramingError, match="0xff"):
        reader.feed(b"\x41c")
