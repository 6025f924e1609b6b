"""A node over HTTP: what `marsnet.dtn.apps.api` offers for applications and operators, and what worlds ask for besides.

GET  /status      figures of the process, as JSON
PUT  /clock       {"epoch", "rate", "origin"}: start on this mission clock, where the configuration says `wait`
PUT  /conditions  what a fault imposes on the node, as `Conditions` says; {} ends it
"""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from marsnet.dtn.apps.api import NodeApi
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig
from marsnet.errors import InputError

_PATIENCE = 2.0
"""Host seconds that requests under way get when the node ends."""

Begin = Callable[[ClockConfig], Awaitable[bool]]
"""Starts the node on a clock; tells whether it had none before."""
Impose = Callable[[Conditions], bool]
"""Lets the node live under conditions; tells whether it has a clock to do so by."""


async def serve_http(
    listener: socket.socket, api: NodeApi, status: Callable[[], dict[str, Any]], begin: Begin, impose: Impose
) -> web.AppRunner:
    """Serve until the runner that is returned is cleaned up.

    Args:
        listener: a socket that listens.
        api: for applications and operators.
        status: figures of the process.
        begin: starts the node on the clock that it waits for.
        impose: lets the node live under a fault's conditions.
    """

    async def get_status(request: web.Request) -> web.Response:
        return web.json_response(status())

    async def put_clock(request: web.Request) -> web.Response:
        try:
            clock = ClockConfig.model_validate_json(await request.read())
        except ValidationError as error:
            return web.json_response({"error": json.loads(error.json(include_input=False))}, status=400)
        if not await begin(clock):
            return web.json_response({"error": "the node runs on a clock already"}, status=409)
        return web.json_response({"running": True})

    async def put_conditions(request: web.Request) -> web.Response:
        try:
            conditions = Conditions.model_validate_json(await request.read())
            if not impose(conditions):
                return web.json_response({"error": "the node has no clock yet"}, status=409)
        except ValidationError as error:
            return web.json_response({"error": json.loads(error.json(include_input=False))}, status=400)
        except InputError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(conditions.model_dump(mode="json"))

    app = api.application()
    app.add_routes(
        [
            web.get("/status", get_status),
            web.put("/clock", put_clock),
            web.put("/conditions", put_conditions),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_PATIENCE)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner
