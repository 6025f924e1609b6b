from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from marsnet.dtn.routing.api import Booking
from marsnet.dtn.routing.graph import Slot
from marsnet.plan.types import Contact

VERSION: int

class Cell:
    contact: Contact
    bookings: dict[Booking, None]
    source: int
    target: int
    start: float
    stop: float
    pace: float
    down: bool
    free: tuple[float, ...]
    pending: tuple[float, ...]
    spent: tuple[float, ...]
    light: tuple[tuple[float, float, float], ...]
    def arrival(self, time: float, /) -> float: ...

class Net:
    def __init__(self, lanes: Sequence[Sequence[tuple[int, list[float], list[Slot]]]], /) -> None: ...
    def search(
        self,
        node: int,
        time: float,
        target: int,
        size: float,
        priority: int,
        loaded: bool,
        goal: float,
        closed: tuple[int, ...],
        shut: AbstractSet[tuple[int, int]],
        without: AbstractSet[Slot],
        passed: set[Slot] | None,
        /,
    ) -> tuple[float, tuple[Slot, ...], tuple[Contact, ...]] | None: ...
    def branch(
        self,
        slots: tuple[Slot, ...],
        time: float,
        target: int,
        size: float,
        priority: int,
        shut: AbstractSet[tuple[int, int]],
        without: frozenset[Slot],
        kept: int,
        serial: int,
        passed: set[Slot],
        /,
    ) -> list[tuple[float, int, int, tuple[Slot, ...], int, frozenset[Slot] | None, Slot]]: ...

def project(slots: tuple[Slot, ...], start: float, size: float, priority: int, /) -> float | None: ...
def depart(slots: tuple[Slot, ...], now: float, size: float, priority: int, /) -> tuple[float, float]: ...
def take(slots: tuple[Slot, ...], now: float, size: float, priority: int, booking: Booking, /) -> bool: ...
def give(slots: tuple[Slot, ...], sent: bool, size: float, priority: int, booking: Booking, /) -> None: ...
