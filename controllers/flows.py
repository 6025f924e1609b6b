"""The flow entries of one switch, as data: what shall be there, and how to get from one set to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

COOKIE_BASE = 0x4D41_0000_0000_0000
"""Marks the entries of this application ("MA"); the low bits tell what an entry is for."""
COOKIE_MASK = 0xFFFF_0000_0000_0000


class Purpose(IntEnum):
    """Why an entry exists. Higher priorities decide first."""

    MISS = 0
    NO_CONTACT = 1
    FORWARD = 2
    LOCAL = 3


_PRIORITY = {Purpose.MISS: 0, Purpose.NO_CONTACT: 100, Purpose.FORWARD: 1000, Purpose.LOCAL: 60000}


@dataclass(frozen=True, slots=True)
class Entry:
    """One flow entry.

    Attributes:
        purpose: why it exists.
        destination: number of the node whose address it matches; 0 for the table-miss entry.
        port: output port; 0 to drop.
    """

    purpose: Purpose
    destination: int = 0
    port: int = 0

    @property
    def priority(self) -> int:
        """Entries of one destination towards different ports differ, so a new way is laid before the old one goes."""
        return _PRIORITY[self.purpose] + (self.port if self.purpose is Purpose.FORWARD else 0)

    @property
    def cookie(self) -> int:
        """Everything about the entry in 64 bits, so that it is known again when a switch reports it."""
        return COOKIE_BASE | self.purpose << 40 | self.port << 16 | self.destination


def entry_of(cookie: int) -> Entry | None:
    """The entry that a cookie names; None for a cookie of somebody else."""
    if cookie & COOKIE_MASK != COOKIE_BASE:
        return None
    purpose, port, destination = cookie >> 40 & 0xFF, cookie >> 16 & 0xFFFF, cookie & 0xFFFF
    return Entry(Purpose(purpose), destination, port) if purpose in set(Purpose) else None


def standing(own: int, host_port: int, numbers: Mapping[str, int]) -> set[Entry]:
    """The entries that hold whatever the plan says.

    What is for the switch's own node is delivered at any time: gating is the transmitter's duty, and what is in flight
    arrives. What is for others and finds no open contact is dropped and counted, as is what nobody knows.
    """
    others = {Entry(Purpose.NO_CONTACT, number) for number in numbers.values() if number != own}
    return {Entry(Purpose.MISS), Entry(Purpose.LOCAL, own, host_port)} | others


def forwarding(ports: Mapping[str, int], numbers: Mapping[str, int]) -> set[Entry]:
    """The entries of a forwarding table (destination node to port)."""
    return {Entry(Purpose.FORWARD, numbers[node], port) for node, port in ports.items()}
