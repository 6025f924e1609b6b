"""Bundles one after another on a TCP connection, in one direction, without acknowledgement: MTCP and STCP.

MTCP (draft-ietf-dtn-mtcpcl-01) makes each bundle a CBOR byte string of definite length. STCP
(draft-burleigh-dtn-stcp-00) puts four octets of length before it; a length of 0 is a keepalive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from marsnet.errors import MarsnetError

MAX_BUNDLE = 1 << 28
"""Octets of the largest bundle accepted, by default."""
STCP_KEEPALIVE = bytes(4)
_SMALL = 4096
"""Octets. Received pieces of fewer are copied together."""
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}


class FramingError(MarsnetError):
    """The stream cannot be continued: what follows is no frame, or one that is too large. Close the connection."""


def mtcp_frame(bundle: bytes | memoryview) -> list[bytes | memoryview]:
    """The parts of a bundle's frame, in order, for `writelines`."""
    size = len(bundle)
    if size < 24:
        return [bytes((0x40 | size,)), bundle]
    for low, width in _WIDTHS.items():
        if size < 1 << 8 * width:
            return [bytes((0x40 | low,)) + size.to_bytes(width, "big"), bundle]
    raise FramingError(f"a bundle of {size} octets has no frame")


def stcp_frame(bundle: bytes | memoryview) -> list[bytes | memoryview]:
    """The parts of a bundle's frame, in order, for `writelines`.

    Raises:
        FramingError: when the bundle is empty or its length does not fit 32 bits.
    """
    if not 0 < len(bundle) < 1 << 32:
        raise FramingError(f"a bundle of {len(bundle)} octets has no STCP frame")
    return [len(bundle).to_bytes(4, "big"), bundle]


class _Deframer(ABC):
    """Finds the bundles in a stream. Holds at most one unfinished frame, and no more than has been received of it.

    Attributes:
        max_bundle: octets of the largest bundle accepted.
    """

    def __init__(self, max_bundle: int = MAX_BUNDLE) -> None:
        self.max_bundle = max_bundle
        self._parts: list[bytearray | memoryview] = []
        self._missing: int | None = None
        self._head = b""
        self._broken: FramingError | None = None

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun that has not ended: closing the connection now cuts it."""
        return self._missing is not None or bool(self._head)

    def feed(self, octets: bytes) -> list[bytes]:
        """The bundles that these octets complete.

        Raises:
            FramingError: when the stream is broken. What was whole before was returned by earlier calls.
        """
        if self._broken is not None:
            raise self._broken
        bundles: list[bytes] = []
        try:
            self._scan(octets, bundles)
        except FramingError as error:
            if not bundles:
                raise
            self._broken = error
        return bundles

    def _scan(self, octets: bytes, bundles: list[bytes]) -> None:
        view = memoryview(self._head + octets if self._head else octets)
        self._head = b""
        position, size = 0, len(view)
        while position < size:
            if self._missing is None:
                length, after = self._length(view[position : position + 9])
                if length is None:
                    self._head = bytes(view[position:])
                    break
                if length > self.max_bundle:
                    raise FramingError(f"a frame announces {length} octets, more than {self.max_bundle}")
                position += after
                self._missing = length
            part = view[position : position + self._missing]
            position += len(part)
            self._missing -= len(part)
            self._keep(part)
            if not self._missing:
                if self._parts:
                    bundles.append(b"".join(self._parts))
                self._parts, self._missing = [], None

    def _keep(self, part: memoryview) -> None:
        """Small pieces are put together: each alone would take far more memory than its octets."""
        if len(part) >= _SMALL:
            self._parts.append(part)
        elif self._parts and isinstance(last := self._parts[-1], bytearray):
            last += part
        elif len(part):
            self._parts.append(bytearray(part))

    @abstractmethod
    def _length(self, head: memoryview) -> tuple[int | None, int]:
        """Octets of the frame's bundle (None when the head is not whole) and of the head."""


class MtcpDeframer(_Deframer):
    """Finds the bundles in an MTCP stream. Empty byte strings are skipped."""

    def _length(self, head: memoryview) -> tuple[int | None, int]:
        low = head[0] & 31
        if head[0] >> 5 != 2 or low > 27:
            raise FramingError(f"octet {head[0]:#04x} begins no CBOR byte string of definite length")
        if low < 24:
            return low, 1
        width = _WIDTHS[low]
        return (int.from_bytes(head[1 : 1 + width], "big"), 1 + width) if len(head) > width else (None, 0)


class StcpDeframer(_Deframer):
    """Finds the bundles in an STCP stream. Keepalives are skipped."""

    def _length(self, head: memoryview) -> tuple[int | None, int]:
        return (int.from_bytes(head[:4], "big"), 4) if len(head) >= 4 else (None, 0)
