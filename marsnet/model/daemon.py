"""The manifest of a foreign daemon's template, `daemon.yaml`: image, files, protocols, probe, metrics, clock."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from marsnet.model.quantities import Duration, Strict

Protocol = Literal["ltp", "tcpcl", "udpcl", "mtcp", "stcp"]


class Ready(Strict):
    """How one sees that the daemon works: a line of its log, a port that accepts, or a command that succeeds."""

    log: str | None = Field(default=None, description="regular expression that a line of its output contains")
    tcp: int | None = Field(default=None, ge=1, le=65535, description="port of its management address that accepts")
    command: tuple[str, ...] | None = Field(default=None, description="program in its container that exits with 0")
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _one(self) -> Ready:
        if sum(way is not None for way in (self.log, self.tcp, self.command)) != 1:
            raise ValueError("a probe needs one way; give one of 'log', 'tcp' and 'command'")
        return self


class Series(Strict):
    """A metric that the bridge reads from a command's output."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    help: str
    type: Literal["counter", "gauge"] = "gauge"
    pattern: str = Field(
        description="regular expression; its group 'value' is the number, other named groups are labels"
    )


class Metrics(Strict):
    """Where Prometheus finds the daemon's metrics."""

    port: int | None = Field(default=None, ge=1, le=65535, description="its own exporter's, at its management address")
    path: str = "/metrics"
    command: tuple[str, ...] | None = Field(
        default=None, description="what the bridge runs in its container, per scrape"
    )
    series: tuple[Series, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Metrics:
        if (self.port is None) == (self.command is None):
            raise ValueError("metrics come one way; give either 'port' or 'command' with 'series'")
        if (self.command is None) == bool(self.series):
            raise ValueError("a bridge needs to know what to read; give 'series' with 'command', and only then")
        return self


class Manifest(Strict):
    """The `daemon.yaml` of a template."""

    marsnet: Literal["daemon/1"]
    description: str = ""
    image: str = Field(description="Docker image; built from the folder's Dockerfile where it has one")
    command: tuple[str, ...] = Field(default=(), description="in place of the image's entry point")
    environment: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(
        default_factory=dict, description="name under /etc/marsnet to template in this folder"
    )
    convergence: dict[Protocol, int] = Field(min_length=1, description="protocols that it speaks, with its port")
    ready: Ready
    metrics: Metrics | None = None
    clock: Literal["mission", "faketime", "host"] = Field(
        description="what it takes for the time: clock.json, libfaketime's file, or this machine's clock (rate 1 only)"
    )
    ledger: bool = Field(default=False, description="it writes /var/lib/marsnet/ledger.jsonl, so traffic may end at it")
