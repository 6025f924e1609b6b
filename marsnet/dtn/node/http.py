"""A node over HTTP: what `marsnet.dtn.apps.api` offers for applications and operators, and what worlds ask for besides
(`marsnet.dtn.node.questions`).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from marsnet.dtn.apps.api import NodeApi
from marsnet.dtn.node.questions import Answer, Answers

_PATIENCE = 2.0
"""Host seconds that requests under way get when the node ends."""


async def serve_http(listener: socket.socket, api: NodeApi, answers: Answers) -> web.AppRunner:
    """Serve until the runner that is returned is cleaned up.

    Args:
        listener: a socket that listens.
        api: for applications and operators.
        answers: for worlds.
    """
    app = api.application()
    for (method, path), answer in answers.items():
        (app.router.add_get if method == "GET" else app.router.add_put)(path, _handler(answer))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_PATIENCE)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        status, content = await answer(await request.read())
        return web.json_response(content, status=status)

    return handle
