"""The lab's Prometheus: configuration, targets, start and questions."""

from __future__ import annotations

import json
import re
import shutil
import string
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import marsnet
from marsnet.errors import EnvironmentLacksError
from marsnet.worlds.lab import services, spec, web

_READY = re.escape("Server is ready to receive web requests.")
# A mission may last longer than the 15 days that Prometheus keeps. Files are small, because it reserves them whole, and
# where a mission is archived they are in memory.
_ARCHIVED = (
    "--web.enable-admin-api",
    "--storage.tsdb.retention.time=100y",
    "--storage.tsdb.max-block-chunk-segment-size=16MB",
    "--storage.tsdb.wal-segment-size=10MB",
)
_ARCHIVING = 600.0
"""Host seconds that it may take to write the blocks."""
FOLDER = "prometheus"
"""Of the run's: configuration, log and data."""
JOBS = ("nodes", "links", "controllers")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that Prometheus scrapes, at `/metrics`.

    Attributes:
        job: `nodes`, `links` or `controllers`.
        address: host and port inside the lab.
        labels: what its series carry besides job and instance.
    """

    job: str
    address: str
    labels: Mapping[str, str]


def template_folder() -> Path:
    """Where the configuration's templates are."""
    return Path(marsnet.__file__).resolve().parent.parent / "services" / "prometheus"


def write_configuration(folder: Path, targets: Sequence[Target], *, lab: str, run: str, scrape_interval: float) -> Path:
    """Write configuration, rules and target files.

    Args:
        folder: where to; it is made.
        targets: what to scrape. Prometheus follows changes of the files under `targets/` without a restart.
        lab: name of the lab, a label of every series that leaves this Prometheus.
        run: name of the run, likewise.
        scrape_interval: host seconds.

    Returns:
        The configuration file.

    Raises:
        EnvironmentLacksError: when the templates are not there.
    """
    source = template_folder()
    if not (source / "prometheus.yml").exists():
        raise EnvironmentLacksError(f"there is no {source}/prometheus.yml", fix="run marsnet from its source tree")
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "rules.yml", folder / "rules.yml")
    values = {"lab": lab, "run": run or lab, "scrape_interval": f"{max(round(scrape_interval * 1000), 1)}ms"}
    configuration = folder / "prometheus.yml"
    configuration.write_text(string.Template((source / "prometheus.yml").read_text()).substitute(values))
    for job in JOBS:
        groups = [{"targets": [t.address], "labels": dict(t.labels)} for t in targets if t.job == job]
        (folder / "targets" / f"{job}.json").write_text(json.dumps(groups, indent=1))
    return configuration


def start(folder: Path, configuration: Path, *, archived: bool = False) -> tuple[int, Path]:
    """Start Prometheus in the calling thread's namespace; it answers when this returns.

    Args:
        folder: where its log and its data are.
        configuration: file.
        archived: whether `archive` is to find all that it has seen.

    Returns:
        Process id and log file.

    Raises:
        EnvironmentLacksError: when it is not installed.
        services.ServiceError: when it does not start.
    """
    if shutil.which("prometheus") is None:
        raise EnvironmentLacksError("Prometheus is not installed", fix="apt-get install prometheus")
    log = folder / "prometheus.log"
    pid, _ = services.start(
        [
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{spec.PROMETHEUS_PORT}",
            *(_ARCHIVED if archived else ()),
        ],
        log,
        _READY,
    )
    return pid, log


def archive(lab_namespace: str, folder: Path) -> None:
    """Put complete blocks of all that a Prometheus started as `archived` has seen in the place of its data.

    They are what any other Prometheus reads as its own. This one has lost its data: its lab is to end now.

    Args:
        lab_namespace: where it runs.
        folder: that it was started with.

    Raises:
        OSError: when it does not answer.
    """
    url = f"http://127.0.0.1:{spec.PROMETHEUS_PORT}/api/v1/admin/tsdb/snapshot"
    answer = json.loads(web.request(lab_namespace, url, method="POST", timeout=_ARCHIVING))
    data, blocks = folder / "data", folder / "blocks"
    (data / "snapshots" / answer["data"]["name"]).rename(blocks)
    shutil.rmtree(data)
    blocks.rename(data)


def ask(lab_namespace: str, path: str, **parameters: str) -> Any:
    """The data of an answer of Prometheus' HTTP API, for example `ask(ns, "query", query="up")`.

    Raises:
        urllib.error.HTTPError: when the question is wrong.
        OSError: when Prometheus does not answer.
    """
    query = urllib.parse.urlencode(parameters)
    url = f"http://127.0.0.1:{spec.PROMETHEUS_PORT}/api/v1/{path}?{query}"
    return json.loads(web.request(lab_namespace, url))["data"]
