"""Which node a command speaks to: the URL of its HTTP interface, or its name in a lab that is up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from marsnet.client import AsyncNodeClient
from marsnet.errors import InputError

T = TypeVar("T")
Place = Annotated[str, typer.Argument(help="The node to speak to: its name in a lab, or http://HOST:PORT.")]
LabName = Annotated[str | None, typer.Option("--lab", help="Name of the lab; default: the only one that is up.")]
Token = Annotated[Path | None, typer.Option("--token", help="File with the bearer token that the node asks for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def converse(place: str, lab: str | None, token: Path | None, talk: Callable[[AsyncNodeClient], Awaitable[T]]) -> T:
    """Speak to a node.

    Args:
        place: its URL, or its name in a lab.
        lab: name of the lab.
        token: file with the bearer token.
        talk: what to do there.

    Raises:
        InputError: there is no such lab or node, or the token cannot be read.
        EnvironmentLacksError: no node answers.
    """
    secret = None
    if token is not None:
        try:
            secret = token.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token cannot be read: {error}", remedy="check the path", file=token) from None
    url, entered = _find(place, lab)

    async def session() -> T:
        async with AsyncNodeClient(url, token=secret) as node:
            return await talk(node)

    with entered:
        return asyncio.run(session())


def _find(place: str, lab: str | None) -> tuple[str, AbstractContextManager[None]]:
    if "://" in place:
        return place, nullcontext()
    # A URL needs no lab, and no root.
    from marsnet.commands.lab import the_lab  # noqa: PLC0415
    from marsnet.worlds.standing import attach  # noqa: PLC0415

    standing = attach(the_lab(lab))
    return standing.api(place), standing.inside()
