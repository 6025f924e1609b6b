"""How applications reach a node."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Aap2Config(_Record):
    """Where the node speaks AAP 2.0. Relative paths are relative to the configuration.

    Attributes:
        socket: path of a Unix socket; None for none.
        tcp: address and port; None for none.
        secret: file with the node's own secret, which connections must give that want to send in the name of others or
            to follow links; without it nobody may.
        payload: octets of the largest payload that is taken.
    """

    socket: Path | None = None
    tcp: tuple[str, int] | None = None
    secret: Path | None = None
    payload: int = Field(default=1 << 28, gt=0)


class ApplicationsConfig(_Record):
    """How applications reach the node.

    Attributes:
        echo: service number that sends bundles back to their source; None for none.
        token: file with the bearer token that the HTTP interface asks for; without it everybody who reaches the
            interface may use it.
        payload: octets of the largest payload that the HTTP interface takes.
        aap2: AAP 2.0.
    """

    echo: int | None = Field(default=7, ge=2)
    token: Path | None = None
    payload: int = Field(default=1 << 26, gt=0)
    aap2: Aap2Config = Aap2Config()
