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
from marsnet.dtn.routing.baselines import EpidemicRouter, StaticRouter
from marsnet.dtn.routing.graph import SABR_MARGIN, Margin
from marsnet.dtn.routing.sabr import SabrRouter

__all__ = [
    "PRIORITIES",
    "SABR_MARGIN",
    "Booking",
    "BookingState",
    "Decision",
    "EpidemicRouter",
    "Forward",
    "Margin",
    "NoRoute",
    "Reason",
    "RouteRequest",
    "Router",
    "SabrRouter",
    "StaticRouter",
]
