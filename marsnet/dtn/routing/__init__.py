"""Routing of bundles over a contact plan: SABR (CCSDS 734.3-B-1), static and epidemic."""

from marsnet.dtn.routing.api import (
    PRIORITIES,
    Booking,
    BookingState,
    Decision,
    Forward,
    NoRoute,
    Reason,
    Router,
    RouteRequest,
)

__all__ = [
    "PRIORITIES",
    "Booking",
    "BookingState",
    "Decision",
    "Forward",
    "NoRoute",
    "Reason",
    "RouteRequest",
    "Router",
]
