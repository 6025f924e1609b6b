"""Every operation of a node's HTTP interface: the server serves this table and documents itself with it."""

from __future__ import annotations

from typing import get_args

from marsnet.dtn.apps import documents as d
from marsnet.dtn.apps.openapi import Parameter, Route

OCTETS = "application/octet-stream"
_FORMATS = ("json", "csv", "ion", "ion-relative", "hdtn")
_ENDPOINT = Parameter("endpoint", "Service number of this node, or endpoint ID in full.", place="path")
_BUNDLE = Parameter("bundle", "Bundle ID.", place="path")
_WAIT = Parameter("wait", "Mission seconds to wait for one.", "number", default=0.0, least=0)
_NAME = Parameter("name", "Name of the key.", place="path")
_FORMAT = Parameter("format", "Format of the plan.", default="json", choices=_FORMATS)
_EPOCH = Parameter("epoch", "UTC instant of time 0, for ION and HDTN plans that do not say it.")

ROUTES = (
    Route("GET", "/openapi.json", "describe", "This document.", content=("application/json",), open=True),
    Route("GET", "/metrics", "metrics", "Figures for Prometheus.", content=("text/plain",), open=True),
    Route("GET", "/v1/status", "status", "Who the node is and how it is.", d.NodeStatus, errors=(409,)),
    Route(
        "POST",
        "/v1/bundles",
        "send",
        "Make a bundle; the answer comes when it is durable. Octets as they are take their fields from the query.",
        d.Accepted,
        body=d.NewBundle,
        octets=OCTETS,
        parameters=(
            Parameter("destination", "With octets: endpoint ID, or `node.service`."),
            Parameter("service_class", "With octets.", choices=get_args(d.ClassName), default="normal"),
            Parameter("lifetime", "With octets: mission seconds.", "number", default=86400.0, least=0),
            Parameter("flags", "With octets: names, separated by commas."),
            Parameter("service", "With octets: service number of the source.", "integer", default=0, least=0),
            Parameter("report_to", "With octets: endpoint ID for status reports."),
        ),
        errors=(400, 409, 413, 507),
        status=201,
        large=True,
    ),
    Route(
        "GET",
        "/v1/bundles",
        "store",
        "What the store holds, by key.",
        d.StoreListing,
        parameters=(
            Parameter("after", "Key of the last bundle of the page before.", "integer", default=0, least=0),
            Parameter("limit", "Bundles on a page, at most 1000.", "integer", default=100, least=1),
            Parameter("state", "Only bundles in this state.", choices=get_args(d.StateName)),
        ),
        errors=(400, 409),
    ),
    Route("GET", "/v1/endpoints", "endpoints", "Endpoints with bundles or applications.", d.Endpoints, errors=(409,)),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/next",
        "receive",
        "Take the next bundle of an endpoint. It comes again unless it is acknowledged in time.",
        d.Received,
        content=(OCTETS,),
        parameters=(
            _ENDPOINT,
            _WAIT,
            Parameter("lease", "Host seconds in which to acknowledge it.", "number", default=60.0, least=0),
        ),
        errors=(400, 409),
        empty="None came in time.",
    ),
    Route(
        "DELETE",
        "/v1/endpoints/{endpoint}/bundles/{bundle}",
        "acknowledge",
        "A bundle was taken for good: it leaves the store. The answer comes when that is durable; repeating is safe.",
        d.Acknowledged,
        parameters=(_ENDPOINT, _BUNDLE),
        errors=(400, 404, 409),
    ),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/stream",
        "stream",
        'A WebSocket with the bundles of an endpoint. The client answers each with `{"acknowledge": ID}` or '
        '`{"release": ID}`, and is told `{"acknowledged": ID}` when that is durable.',
        parameters=(
            _ENDPOINT,
            Parameter("window", "Bundles handed over and not acknowledged, at most.", "integer", default=1, least=1),
        ),
        errors=(400, 409),
        status=101,
    ),
    Route(
        "GET",
        "/v1/plan",
        "plan",
        "The contact plan that the node goes by.",
        content=("text/plain", "application/json"),
        parameters=(_FORMAT,),
        errors=(400, 404, 409),
    ),
    Route(
        "PUT",
        "/v1/plan",
        "set_plan",
        "Go by another contact plan from now on, also after a restart. A plan with a mistake changes nothing.",
        d.PlanSummary,
        octets="text/plain",
        parameters=(_FORMAT, _EPOCH),
        errors=(400, 409, 413),
        large=True,
    ),
    Route(
        "POST",
        "/v1/plan",
        "extend_plan",
        "Add the contacts and ranges of a plan to the one that the node goes by.",
        d.PlanSummary,
        octets="text/plain",
        parameters=(_FORMAT, _EPOCH),
        errors=(400, 409, 413),
        large=True,
    ),
    Route(
        "GET",
        "/v1/forecast",
        "forecast",
        "What the plan promises a bundle that leaves now, and its answer.",
        d.Forecast,
        parameters=(
            Parameter("destination", "Endpoint ID, `node.service` or name of a node."),
            Parameter("size", "Octets of the payload.", "integer", default=64, least=0),
        ),
        errors=(400, 409),
    ),
    Route("GET", "/v1/neighbours", "neighbours", "Who can be reached in one hop.", d.Neighbours, errors=(409,)),
    Route(
        "GET",
        "/v1/reports",
        "reports",
        "Status reports that came to this node, oldest first.",
        d.Reports,
        parameters=(
            Parameter("bundle", "Only those about this bundle."),
            Parameter("after", "Only those with a larger number.", "integer", default=0, least=0),
            _WAIT,
        ),
        errors=(400, 409),
    ),
    Route("GET", "/v1/keys", "keys", "Names of the keys for BPSec.", d.Keys, errors=(409,)),
    Route(
        "PUT",
        "/v1/keys/{name}",
        "set_key",
        "Add a key, or put another in its place.",
        d.KeyName,
        body=d.KeyUpload,
        parameters=(_NAME,),
        errors=(400, 409),
    ),
    Route(
        "DELETE",
        "/v1/keys/{name}",
        "drop_key",
        "Forget a key.",
        parameters=(_NAME,),
        errors=(400, 404, 409),
        status=204,
    ),
)
OPEN = frozenset(route.path for route in ROUTES if route.open)
"""Paths that need no token."""
