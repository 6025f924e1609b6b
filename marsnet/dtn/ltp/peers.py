"""Two `PeerModel`s: a link that never changes, and a neighbour of a contact plan."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

from marsnet.plan.types import ContactPlan


class ConstantPeer:
    """A neighbour that is always in contact.

    Attributes:
        mtu: octets of the largest segment.
        light_time: seconds.
        bit_rate: bit/s.
    """

    def __init__(self, *, mtu: int = 1400, owlt: float = 0.0, rate: float = math.inf) -> None:
        self.mtu, self.light_time, self.bit_rate = mtu, owlt, rate

    def owlt(self, now: float) -> float:
        """Seconds, whatever `now` is."""
        return self.light_time

    def rate(self, now: float) -> float:
        """bit/s, whatever `now` is."""
        return self.bit_rate

    def can_send(self, now: float) -> bool:
        """Always."""
        return True

    def next_change(self, now: float) -> float | None:
        """Never."""
        return None

    def peer_can_send(self, now: float) -> bool:
        """Always."""
        return True

    def peer_next_change(self, now: float) -> float | None:
        """Never."""
        return None


class _Timeline:
    """Piecewise constant rate, bit/s; 0 outside of the windows."""

    def __init__(self, windows: Iterable[tuple[float, float, float]]) -> None:
        self.times: list[float] = [-math.inf]
        self.rates: list[float] = [0.0]
        for start, end, rate in sorted(windows):
            if start < self.times[-1]:
                self.times.pop()
                self.rates.pop()
            if self.times[-1] == start:
                self.rates[-1] = rate
            else:
                self.times.append(start)
                self.rates.append(rate)
            self.times.append(end)
            self.rates.append(0.0)
        self._since, self._until, self._rate = math.inf, -math.inf, 0.0
        self._next: float | None = None
        """Beginning, end, rate and next change of the interval that was last asked for: mostly the next question is
        about the same."""

    def _look(self, now: float) -> None:
        place = bisect_right(self.times, now)
        self._since, self._rate = self.times[place - 1], self.rates[place - 1]
        self._until = self.times[place] if place < len(self.times) else math.inf
        while place < len(self.times) and self.rates[place] == self.rates[place - 1]:
            place += 1
        self._next = self.times[place] if place < len(self.times) else None

    def at(self, now: float) -> float:
        if not self._since <= now < self._until:
            self._look(now)
        return self._rate

    def change(self, now: float) -> float | None:
        if not self._since <= now < self._until:
            self._look(now)
        return self._next


class WindowedPeer:
    """A neighbour with windows of contact.

    Attributes:
        mtu: octets of the largest segment.

    Args of the constructor:
        outbound: (start, end, bit/s) of our contacts to it.
        inbound: (start, end) of its contacts to us, at its transmitter; None when it can always send.
        owlt: one-way light time in seconds.
    """

    def __init__(
        self,
        outbound: Iterable[tuple[float, float, float]],
        inbound: Iterable[tuple[float, float]] | None,
        *,
        owlt: float,
        mtu: int = 1400,
    ) -> None:
        self.mtu, self.light_time = mtu, owlt
        self._out = _Timeline(outbound)
        self._in = _Timeline([(-math.inf, math.inf, 1.0)] if inbound is None else [(s, e, 1.0) for s, e in inbound])

    def owlt(self, now: float) -> float:
        """Seconds, whatever `now` is."""
        return self.light_time

    def rate(self, now: float) -> float:
        """bit/s of the contact at `now`, 0 outside of contacts."""
        return self._out.at(now)

    def can_send(self, now: float) -> bool:
        """Whether `now` is in one of our contacts."""
        return self._out.at(now) > 0

    def next_change(self, now: float) -> float | None:
        """Next start, end or change of rate of our contacts."""
        return self._out.change(now)

    def peer_can_send(self, now: float) -> bool:
        """Whether `now` is in one of the peer's contacts."""
        return self._in.at(now) > 0

    def peer_next_change(self, now: float) -> float | None:
        """Next start or end of the peer's contacts."""
        return self._in.change(now)


class PlanPeer(WindowedPeer):
    """The neighbour `peer` of `node` as a contact plan describes the two directions between them."""

    def __init__(self, plan: ContactPlan, node: str, peer: str, *, mtu: int = 1400) -> None:
        self._pair = (node, peer)
        self._mtu = mtu
        self.load(plan)

    def load(self, plan: ContactPlan) -> None:
        """Take another plan; an engine that uses this peer is told by `plan_changed`."""
        node, peer = self._pair
        self._plan = plan
        super().__init__(
            ((c.start, c.end, c.rate) for c in plan.between(node, peer)),
            [(c.start, c.end) for c in plan.between(peer, node)],
            owlt=math.nan,
            mtu=self._mtu,
        )

    def owlt(self, now: float) -> float:
        """One-way light time of the plan, seconds.

        Raises:
            KeyError: when the plan has no range for the pair.
        """
        return self._plan.owlt(*self._pair, now)
