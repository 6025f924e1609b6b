"""How old bundles are and when they expire, on nodes with a clock and without (RFC 9171 sections 4.2.7 and 4.4.2)."""

from __future__ import annotations

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import Bundle, BundleError


class Lifetimes:
    """The ages of bundles as one node knows them."""

    def __init__(self, clock: MissionClock, *, has_clock: bool) -> None:
        """`has_clock` is false where the node does not know the time, only how much of it passes."""
        self._clock, self._has_clock = clock, has_clock

    def stamp(self, now: float) -> int:
        """Creation time of a bundle that is made now, in milliseconds of DTN time; 0 without a clock."""
        return self._clock.dtn_time(now) if self._has_clock else 0

    def expiry(self, bundle: Bundle, now: float) -> float:
        """Mission time when a bundle that is here since `now` expires."""
        if bundle.timestamp.time_ms and self._has_clock:
            return self._clock.from_dtn_time(bundle.timestamp.time_ms + bundle.lifetime_ms)
        return now + (bundle.lifetime_ms - age_block(bundle)) / 1000

    def age(self, bundle: Bundle, since: float, now: float) -> int:
        """Milliseconds since a bundle was made, also where its source, or this node, has no clock.

        Args:
            bundle: as it came.
            since: mission seconds when it came.
            now: mission seconds.
        """
        if bundle.timestamp.time_ms and self._has_clock:
            return max(0, self._clock.dtn_time(now) - bundle.timestamp.time_ms)
        return age_block(bundle) + max(0, round((now - since) * 1000))


def age_block(bundle: Bundle) -> int:
    """Milliseconds in its Bundle Age block; 0 without one, or where it cannot be read."""
    try:
        return bundle.bundle_age or 0
    except BundleError:
        return 0
