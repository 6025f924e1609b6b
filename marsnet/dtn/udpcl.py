"""UDP convergence layer: a bundle is a datagram, a datagram is a bundle (RFC 7122 section 3).

There is no acknowledgement and no segmentation; what must arrive goes over LTP or TCPCL. Four zero octets, or none, are
a keepalive.
"""

from __future__ import annotations

from marsnet.errors import MarsnetError

UDPCL_PORT = 4556
MAX_DATAGRAM = 65507
"""Octets of the largest UDP payload over IPv4."""
_KEEPALIVES = (b"", b"\0\0\0\0")
_BUNDLE_STARTS = (0x9F, 6)
"""First octet of a bundle: of version 7 (RFC 9171 section 4.1), of version 6 (RFC 5050)."""


class DatagramError(MarsnetError):
    """A bundle that no datagram can carry, or a datagram that carries none."""


def to_datagram(bundle: bytes | memoryview, limit: int = MAX_DATAGRAM) -> bytes:
    """The datagram of a bundle.

    Raises:
        DatagramError: when the bundle is empty or larger than `limit` octets. Fragment it, or use LTP.
    """
    if not 0 < len(bundle) <= limit:
        raise DatagramError(f"a bundle of {len(bundle)} octets fits no datagram of {limit}; fragment it, or use LTP")
    return bytes(bundle)


def from_datagram(datagram: bytes | memoryview) -> memoryview | None:
    """The bundle of a datagram, None when it is a keepalive. The bundle itself is for its codec to check.

    Raises:
        DatagramError: when the datagram begins like no bundle.
    """
    view = memoryview(datagram)
    if len(view) in (0, 4) and bytes(view) in _KEEPALIVES:
        return None
    if view[0] not in _BUNDLE_STARTS:
        raise DatagramError(f"a datagram that begins with {view[0]:#04x} holds no bundle")
    return view
