"""What a node learns from bundles that come back: where the way led that they did not get through.

All nodes route by one plan, until one learns that a neighbour is silent and the others have not. Then it sends a bundle
back that the next would send there again. SABR (CCSDS 734.3-B-1 section 3.2.8) forbids only the previous hop, and takes
it that all plans are alike. A bundle that has no other way waits longer each time before it tries again, so that it
does not use up its hops: up to some hours, or half of the time that it has left, or until a plan has news of the relay.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from marsnet.plan.types import Contact

MOST = 10_000
"""Bundles that are remembered after they have gone."""
FIRST_WAIT, LAST_WAIT = 60.0, 21_600.0
"""Mission seconds for which a bundle waits that came back and has no other way: doubled each time, up to a limit.

With 64 hops, of which every return takes two, that is enough for about a week.
"""


def doubtful(route: tuple[Contact, ...]) -> str:
    """The relay that a bundle did not get past when it comes back from a route; empty where none stands between.

    The neighbour took it, so it is the one after that; where the neighbour is the last, the neighbour itself.
    """
    if len(route) < 2:
        return ""
    return route[min(1, len(route) - 2)].target


@dataclass(slots=True)
class _Doubt:
    """What has shown of one bundle.

    Attributes:
        relays: by way of which it did not get on.
        wait: mission seconds for which it waited last, 0 where it never did.
        until: when it may go by those again; infinite while it does not wait.
    """

    relays: frozenset[str] = frozenset()
    wait: float = 0.0
    until: float = math.inf


_NONE = _Doubt()


class Ways:
    """Relays by way of which the bundles of late have gone, and those by way of which they did not get on."""

    def __init__(self) -> None:
        self._gone: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._doubts: OrderedDict[str, _Doubt] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._gone), len(self._doubts))

    def went(self, bundle: str, neighbour: str, relay: str) -> None:
        """A neighbour took a bundle that is to go on by way of a relay."""
        if relay:
            self._gone.setdefault(bundle, {})[neighbour] = relay
            if len(self._gone) > MOST:
                self._gone.popitem(last=False)

    def came_back(self, bundle: str, peer: str | None) -> None:
        """A bundle is here that may have been here before: what it took did not lead on.

        Where several neighbours have had a copy, and the one that it comes from is one of them, that is the copy.
        """
        gone = self._gone.pop(bundle, None)
        if gone is not None:
            for relay in [gone[peer]] if peer in gone else list(gone.values()):
                self.fail(bundle, relay)

    def fail(self, bundle: str, relay: str) -> None:
        """A bundle does not get on by way of a relay."""
        if relay:
            doubt = self._doubts.setdefault(bundle, _Doubt())
            doubt.relays |= {relay}
            if len(self._doubts) > MOST:
                self._doubts.popitem(last=False)

    def avoided(self, bundle: str) -> frozenset[str]:
        """Relays by way of which a bundle did not get on."""
        return self._doubts.get(bundle, _NONE).relays

    def pardon(self, bundle: str, now: float) -> bool:
        """Whether a bundle that has no other way has waited for long enough; it may then go by those again."""
        doubt = self._doubts[bundle]
        if now < doubt.until:
            return False
        doubt.relays, doubt.until = frozenset(), math.inf
        return True

    def wait(self, bundle: str, now: float, expires: float) -> float | None:
        """Let a bundle that has no other way wait; returns until when, None where it does so already."""
        doubt = self._doubts[bundle]
        if doubt.until < math.inf:
            return None
        doubt.wait = min(2 * doubt.wait or FIRST_WAIT, LAST_WAIT)
        doubt.until = now + min(doubt.wait, max(FIRST_WAIT, (expires - now) / 2))
        return doubt.until

    def changed(self, nodes: Collection[str]) -> None:
        """A plan has news of these nodes: what held for them holds no more."""
        for doubt in self._doubts.values():
            if not doubt.relays.isdisjoint(nodes):
                doubt.relays -= frozenset(nodes)
                doubt.until = math.inf
