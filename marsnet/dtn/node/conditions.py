"""What a fault imposes on a node: less storage, a clock that drifts, bundles that are tampered with on their way in."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from marsnet.dtn.node.ledger import Ledger, Record

_REMEMBERED = 32
"""Bundles of a neighbour that one of may arrive again."""


class Tampering(BaseModel):
    """What happens to bundles from a neighbour.

    Attributes:
        corrupt: share of them that arrive with a wrong octet.
        replay: probability that one that came before arrives again with each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corrupt: float = Field(default=0.0, ge=0, le=1)
    replay: float = Field(default=0.0, ge=0, le=1)


class Conditions(BaseModel):
    """All that is imposed on a node at a time; the defaults impose nothing.

    Attributes:
        quota: bytes that the store may hold; None for the configuration's.
        drift: seconds that its clock gains in a second.
        plan: contact plan file that it goes by, relative to its configuration; None for the configuration's.
        tampering: by neighbour.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quota: int | None = Field(default=None, ge=0)
    drift: float = Field(default=0.0, gt=-0.5, lt=0.5)
    plan: Path | None = None
    tampering: dict[str, Tampering] = Field(default_factory=dict)


class Skew:
    """A node's own clock against mission time. It never goes back: set right after running fast, it stands still.

    Attributes:
        active: whether it ever differed.
        now: true mission time at which the node last acted.
    """

    def __init__(self) -> None:
        self.active = False
        self.now = 0.0
        self._since, self._offset, self._drift, self._least = 0.0, 0.0, 0.0, float("-inf")

    def set(self, drift: float, now: float) -> None:
        """From the true mission time `now` on the clock gains `drift` seconds a second; 0 sets it right."""
        if drift == self._drift:
            return
        own = self.local(now)
        self.active = True
        self._since, self._drift = now, drift
        self._offset = own - now if drift else 0.0
        self._least = own

    def local(self, now: float) -> float:
        """What the clock shows at a true mission time."""
        if not self.active:
            return now
        return max(self._least, now + self._offset + self._drift * (now - self._since))

    def true(self, local: float) -> float:
        """The true mission time at which the clock shows `local`, a microsecond later so that it surely does."""
        if not self.active:
            return local
        return self._since + (local - self._since - self._offset) / (1 + self._drift) + 1e-6


class TrueTimeLedger:
    """A ledger whose records bear true mission time, whatever the node's own clock shows."""

    def __init__(self, ledger: Ledger, skew: Skew) -> None:
        self._ledger, self._skew = ledger, skew

    def record(self, record: Record) -> None:
        """Add one."""
        self._ledger.record(record._replace(time=self._skew.now) if self._skew.active else record)

    def flush(self) -> None:
        """Hand what was added to the operating system."""
        self._ledger.flush()

    @property
    def mark(self) -> int | None:
        """Where the next record will stand."""
        return self._ledger.mark

    @property
    def waiting_bytes(self) -> int:
        """Octets that could not be written yet."""
        return self._ledger.waiting_bytes


class Tamperer:
    """Corrupts and repeats what neighbours sent, as conditions say, at random from a seed.

    Attributes:
        corrupted: bundles that were changed.
        replayed: bundles that came again.
    """

    def __init__(self, seed: str) -> None:
        self.corrupted = self.replayed = 0
        self._draw = random.Random(seed)
        self._rules: dict[str, Tampering] = {}
        self._before: dict[str, deque[bytes]] = {}

    def impose(self, rules: dict[str, Tampering]) -> None:
        """Go by these rules from now on."""
        self._rules = dict(rules)

    def pass_on(self, peer: str, octets: bytes) -> list[bytes]:
        """What arrives in place of what a neighbour sent."""
        rule = self._rules.get(peer)
        if rule is None:
            return [octets]
        before = self._before.setdefault(peer, deque(maxlen=_REMEMBERED))
        arriving = [octets]
        if before and self._draw.random() < rule.replay:
            self.replayed += 1
            arriving.append(self._draw.choice(list(before)))
        before.append(octets)
        if self._draw.random() < rule.corrupt:
            self.corrupted += 1
            place = self._draw.randrange(len(octets))
            arriving[0] = octets[:place] + bytes([octets[place] ^ self._draw.randrange(1, 256)]) + octets[place + 1 :]
        return arriving
