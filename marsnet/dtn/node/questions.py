"""What worlds ask of a node over HTTP, whoever speaks HTTP for it.

GET  /status      figures of the process, as JSON
PUT  /clock       {"epoch", "rate", "origin"}: start on this mission clock, where the configuration says `wait`
PUT  /conditions  what a fault imposes on the node, as `Conditions` says; {} ends it
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig
from marsnet.errors import InputError

Begin = Callable[[ClockConfig], Awaitable[bool]]
"""Starts the node on a clock; tells whether it had none before."""
Impose = Callable[[Conditions], bool]
"""Lets the node live under conditions; tells whether it has a clock to do so by."""
Answer = Callable[[bytes], Awaitable[tuple[int, Any]]]
"""From the body of a request to the status of the answer (RFC 9110, 15) and its content, to be sent as JSON."""
Answers = Mapping[tuple[str, str], Answer]
"""By method and path."""


def answers(status: Callable[[], dict[str, Any]], begin: Begin, impose: Impose) -> Answers:
    """What the node answers.

    Args:
        status: figures of the process.
        begin: starts the node on the clock that it waits for.
        impose: lets the node live under a fault's conditions.
    """

    async def get_status(body: bytes) -> tuple[int, Any]:
        return 200, status()

    async def put_clock(body: bytes) -> tuple[int, Any]:
        try:
            clock = ClockConfig.model_validate_json(body)
        except ValidationError as error:
            return 400, {"error": json.loads(error.json(include_input=False))}
        if not await begin(clock):
            return 409, {"error": "the node runs on a clock already"}
        return 200, {"running": True}

    async def put_conditions(body: bytes) -> tuple[int, Any]:
        try:
            conditions = Conditions.model_validate_json(body)
            if not impose(conditions):
                return 409, {"error": "the node has no clock yet"}
        except ValidationError as error:
            return 400, {"error": json.loads(error.json(include_input=False))}
        except InputError as error:
            return 400, {"error": str(error)}
        return 200, conditions.model_dump(mode="json")

    return {("GET", "/status"): get_status, ("PUT", "/clock"): put_clock, ("PUT", "/conditions"): put_conditions}
