"""Which datagrams of LTP need not wake a node: a filter in the kernel puts them on a socket of their own.

A node answers checkpoints, reports and cancellations. Red data before its checkpoint waits in the kernel until one of
those comes, or until a block passes another multiple of some octets, which bounds what waits. So a node is woken for
a block a few times, not for each of its segments.

The filter is a classic BPF program (Documentation/networking/filter.rst of Linux) that chooses between two sockets on
one port (SO_ATTACH_REUSEPORT_CBPF, socket(7)); it needs no privilege.
"""

from __future__ import annotations

import ctypes
import socket
import struct

_ATTACH_CBPF = 51
_PROMPT, _PATIENT = 0, 1
"""Which socket, in the order in which they were bound."""
_SPAN = 18
"""Data that waits spans at most two to this power of a block's octets."""

_LOAD, _LOAD_LENGTH, _LOAD_AT_X, _LOAD_MEMORY, _LOAD_X_MEMORY = 0x00, 0x80, 0x50, 0x60, 0x61
_STORE, _STORE_X, _TO_X, _FROM_X = 0x02, 0x03, 0x07, 0x87
_ADD, _ADD_X, _AND, _LEFT, _RIGHT = 0x04, 0x0C, 0x54, 0x64, 0x74
_JUMP, _IF_EQUAL, _IF_EQUAL_X, _IF_BITS, _RETURN = 0x05, 0x15, 0x1D, 0x45, 0x06
_Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if a condition holds and if not, operand."""
_VALUE, _PLACE, _OCTET, _OFFSET = range(4)
"""Cells of the filter's memory."""


def steer(receiver: socket.socket, patient: socket.socket) -> bool:
    """Let `patient`, which is not bound yet, receive what can wait of what comes to a bound UDP socket.

    Returns whether it does: where the operating system has no such filters, `patient` is closed.
    """
    buffer = patient.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    # Frames take up to twice their octets in a buffer, and more come while the node is about to wake.
    program = patience_filter(min(_SPAN, (buffer // 8).bit_length() - 1))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    try:
        # Only from now on: whoever is there already was refused when the receiver was bound.
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        patient.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        patient.bind(receiver.getsockname())
        attached = struct.pack("@HP", len(program), ctypes.addressof(code))
        receiver.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, attached)
    except OSError:
        patient.close()
        return False
    return True


def patience_filter(span: int) -> list[_Instruction]:
    """The program: red data that is alone in its datagram can wait, unless the block's next multiple of 2**span octets
    lies in it. All else is prompt, also what is no LTP."""
    program: list[_Instruction] = [
        (_LOAD_AT_X, 0, 0, 0),  # X is 0: segment type and version
        (_IF_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _PROMPT),
        (_LOAD, 0, 0, 1),
        (_TO_X, 0, 0, 0),
        *_sdnv(),  # originator
        *_sdnv(),  # session number
        (_LOAD_AT_X, 0, 0, 0),  # counts of extensions
        (_IF_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _PROMPT),
        (_FROM_X, 0, 0, 0),
        (_ADD, 0, 0, 1),
        (_TO_X, 0, 0, 0),
        *_sdnv(),  # client service
        *_sdnv(),  # offset
        (_LOAD_MEMORY, 0, 0, _VALUE),
        (_STORE, 0, 0, _OFFSET),
        *_sdnv(),  # length
        (_LOAD_MEMORY, 0, 0, _VALUE),
        (_ADD_X, 0, 0, 0),
        (_TO_X, 0, 0, 0),
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_EQUAL_X, 1, 0, 0),  # another segment follows
        (_RETURN, 0, 0, _PROMPT),
        (_LOAD_MEMORY, 0, 0, _OFFSET),
        (_LOAD_X_MEMORY, 0, 0, _VALUE),
        (_ADD_X, 0, 0, 0),
        (_RIGHT, 0, 0, span),
        (_TO_X, 0, 0, 0),
        (_LOAD_MEMORY, 0, 0, _OFFSET),
        (_RIGHT, 0, 0, span),
        (_IF_EQUAL_X, 1, 0, 0),
        (_RETURN, 0, 0, _PROMPT),
        (_RETURN, 0, 0, _PATIENT),
    ]
    return program


def _sdnv() -> list[_Instruction]:
    """Read an SDNV at X of at most five octets into the cell of values, and put X behind it."""
    octet: list[_Instruction] = [
        (_LOAD_AT_X, 0, 0, 0),
        (_STORE, 0, 0, _OCTET),
        (_FROM_X, 0, 0, 0),
        (_ADD, 0, 0, 1),
        (_STORE, 0, 0, _PLACE),
        (_LOAD_MEMORY, 0, 0, _VALUE),
        (_LEFT, 0, 0, 7),
        (_TO_X, 0, 0, 0),
        (_LOAD_MEMORY, 0, 0, _OCTET),
        (_AND, 0, 0, 0x7F),
        (_ADD_X, 0, 0, 0),
        (_STORE, 0, 0, _VALUE),
        (_LOAD_X_MEMORY, 0, 0, _PLACE),
        (_LOAD_MEMORY, 0, 0, _OCTET),
    ]
    program: list[_Instruction] = [(_LOAD, 0, 0, 0), (_STORE, 0, 0, _VALUE)]
    each, most = len(octet) + 2, 5
    for place in range(most):
        # Where no other octet follows, go on behind the last one's return.
        program += [*octet, (_IF_BITS, 1, 0, 0x80), (_JUMP, 0, 0, (most - 1 - place) * each + 1)]
    return [*program, (_RETURN, 0, 0, _PROMPT)]
