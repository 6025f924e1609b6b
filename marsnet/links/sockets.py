"""Packet sockets for the packet path: a receive ring at one interface, a sender at the other; see packet(7)."""

from __future__ import annotations

import contextlib
import socket
import struct

from marsnet.links.interfaces import Interface
from marsnet.links.native import RING_BLOCK

_SOL_PACKET, _SO_SNDBUFFORCE, _ETH_P_ALL = 263, 32, 3
_ADD_MEMBERSHIP, _RX_RING, _VERSION, _QDISC_BYPASS, _IGNORE_OUTGOING = 1, 5, 10, 20, 23
_TPACKET_V2, _MR_PROMISC = 1, 1
_HEADROOM = 128  # tpacket2_hdr, sockaddr_ll and alignment before the frame
_SEND_BUFFER = 8 << 20


def ring_shape(mtu: int, least_slots: int) -> tuple[int, int]:
    """Bytes of a slot that a frame fits in, and the number of slots that fill whole blocks."""
    slot = max(2048, 1 << (mtu + _HEADROOM).bit_length())
    per_block = max(RING_BLOCK // slot, 1)
    return slot, -(-least_slots // per_block) * per_block


def receiver(interface: Interface, slot_bytes: int, slots: int) -> socket.socket:
    """A socket that puts every frame that enters at the interface into a ring, and none that leaves there.

    Raises:
        OSError: when the kernel refuses.
    """
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        shape = struct.pack("IIII", RING_BLOCK, slots * slot_bytes // RING_BLOCK, slot_bytes, slots)
        made.setsockopt(_SOL_PACKET, _RX_RING, shape)
        made.bind((interface.name, _ETH_P_ALL))
        made.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8x", interface.index, _MR_PROMISC, 0))
    except OSError:
        made.close()
        raise
    return made


def sender(interface: Interface) -> socket.socket:
    """A socket that puts frames onto the interface past its queueing discipline.

    Raises:
        OSError: when the kernel refuses.
    """
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        with contextlib.suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        made.bind((interface.name, 0))
    except OSError:
        made.close()
        raise
    return made
