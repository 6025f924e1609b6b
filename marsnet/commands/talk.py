"""`marsnet ping`, `trace`, `send` and `recv`: bundles from the command line, by a node's HTTP interface."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from marsnet.client import AsyncNodeClient, Forecast, Received, Report, StreamedBundle, Way
from marsnet.client.probe import Probe, Traced, ping, trace
from marsnet.commands.reach import AsJson, LabName, Place, Token, converse
from marsnet.dtn.apps.documents import ClassName
from marsnet.errors import InputError
from marsnet.units import format_duration, quantity

Target = Annotated[str, typer.Argument(help="Name of a node, or an endpoint ID such as ipn:3.7.")]
Class = Annotated[str, typer.Option("--class", help="critical, expedited, normal or bulk.")]
Size = Annotated[str, typer.Option("--size", help="Payload of each bundle.")]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="Mission time to wait for each answer; default: twice what the plan promises."),
]


def ping_command(
    place: Place,
    target: Target,
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="Bundles to send.")] = 4,
    interval: Annotated[str, typer.Option("--interval", help="Mission time between them.")] = "1 s",
    size: Size = "64 B",
    service_class: Class = "normal",
    timeout: Timeout = None,
    lab: LabName = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send bundles that come back. An answer is late only beyond the light time and the waits of the plan."""
    pause, octets, chosen, limit = quantity(interval, "time"), _size(size), _class(service_class), _time(timeout)
    promises: list[Forecast | None] = []

    def announce(endpoint: str, promise: Forecast | None) -> None:
        promises.append(promise)
        if not as_json:
            print(f"PING {endpoint} from {place}: {_promised(promise)}", flush=True)

    def tell(probe: Probe) -> None:
        if not as_json and probe.round_trip is not None:
            beyond = probe.round_trip - (probe.expected or 0.0)
            side = "beyond" if beyond >= 0 else "before"
            by_plan = "" if probe.expected is None else f", {format_duration(abs(beyond))} {side} the plan"
            late = ", late" if probe.late else ""
            print(f"{probe.number}: {probe.source} {format_duration(probe.round_trip)}{by_plan}{late}", flush=True)

    probes = converse(
        place,
        lab,
        token,
        lambda node: ping(
            node,
            target,
            count=count,
            interval=pause,
            size=octets,
            service_class=chosen,
            timeout=limit,
            announce=announce,
            tell=tell,
        ),
    )
    came = [probe.round_trip for probe in probes if probe.round_trip is not None]
    late, missing = sum(probe.late for probe in probes), len(probes) - len(came)
    if as_json:
        promise = promises[0] if promises else None
        rows = [
            asdict(p) | {"latest": None if p.expected is None else p.latest, "round_trip": p.round_trip, "late": p.late}
            for p in probes
        ]
        summary = {"sent": len(probes), "in_time": len(came) - late, "late": late, "missing": missing}
        document = {"target": target, "forecast": _dumped(promise), "probes": rows, **summary}
        print(json.dumps(document))
    else:
        print(f"{len(probes)} sent, {len(came) - late} in time, {late} late, {missing} missing")
        if came:
            figures = (min(came), sum(came) / len(came), max(came))
            print("round trip least/mean/most: " + " / ".join(map(format_duration, figures)))
    raise typer.Exit(1 if late or missing else 0)


def trace_command(
    place: Place,
    target: Target,
    size: Size = "64 B",
    service_class: Class = "normal",
    timeout: Timeout = None,
    lab: LabName = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send a bundle and list what the nodes on its way report. They do where status reports are enabled."""
    octets, chosen, limit = _size(size), _class(service_class), _time(timeout)

    def announce(endpoint: str, promise: Forecast | None) -> None:
        if not as_json:
            print(f"TRACE {endpoint} from {place}: {_promised(promise)}", flush=True)
            for hop in promise.out.hops if promise is not None and promise.out is not None else ():
                waits = f"waits {format_duration(hop.waits)}, " if hop.waits > 0 else ""
                print(f"  plan: {hop.source} → {hop.target}, {waits}light time {format_duration(hop.light_time)}")

    def tell(traced: Traced, report: Report) -> None:
        if not as_json:
            print(_line(traced, report), flush=True)

    traced = converse(
        place,
        lab,
        token,
        lambda node: trace(
            node, target, size=octets, service_class=chosen, timeout=limit, announce=announce, tell=tell
        ),
    )
    if as_json:
        rows = [report.model_dump() for report in traced.reports]
        document = {"bundle": traced.bundle, "sent": traced.sent, "delivered": traced.delivered, "reports": rows}
        print(json.dumps(document | {"forecast": _dumped(traced.promise)}))
    elif traced.delivered:
        print("the way it took, in order of time:")
        for report in traced.reports:
            print(_line(traced, report))
    else:
        why = "no node reported" if not traced.reports else "no report of its delivery came"
        print(f"{why} in time; nodes report where 'reports' are enabled in their configuration")
    raise typer.Exit(0 if traced.delivered else 1)


def send_command(
    place: Place,
    destination: Annotated[str, typer.Argument(help="Endpoint ID, or NODE.SERVICE with the name of a node.")],
    file: Annotated[str, typer.Argument(help="What to send; - is standard input.")] = "-",
    service_class: Class = "normal",
    lifetime: Annotated[str, typer.Option("--lifetime", help="Mission time until it expires.")] = "1 d",
    service: Annotated[int, typer.Option("--service", min=0, help="Service number of the source.")] = 0,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", help="Wait so much mission time for the report that it was delivered."),
    ] = None,
    lab: LabName = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send a file as a bundle. Ends when the bundle is durable at the node."""
    chosen, seconds, patience = _class(service_class), quantity(lifetime, "time"), _time(confirm)
    payload = _input(file)

    async def talk(node: AsyncNodeClient) -> dict[str, Any]:
        status = await node.status()
        asked = patience is not None
        made = await node.send(
            destination,
            payload,
            service_class=chosen,
            lifetime=seconds,
            service=service,
            flags=("report_delivery", "report_deletion", "status_time") if asked else (),
            report_to=status.node_id if asked else None,
        )
        found: dict[str, Any] = made.model_dump()
        if patience is None:
            return found
        deadline, after = made.created + patience, 0
        while (left := deadline - (await node.status()).clock.now) > 0:
            for report in await node.reports(made.bundle, after=after, wait=left):
                after = report.number
                if report.assertion in {"delivered", "deleted"}:
                    return found | {"outcome": report.assertion, "report": report.model_dump()}
        return found | {"outcome": "unknown", "report": None}

    sent = converse(place, lab, token, talk)
    outcome = sent.get("outcome")
    if as_json:
        print(json.dumps(sent))
    else:
        print(sent["bundle"] + ("" if outcome is None else f" {outcome}"))
    raise typer.Exit(0 if outcome in {None, "delivered"} else 1)


def recv_command(
    place: Place,
    endpoint: Annotated[str, typer.Argument(help="Service number of the node, or endpoint ID.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="File; with more than one bundle a folder; - is standard output.")
    ] = "-",
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="Bundles to receive.")] = 1,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Mission time to wait for each; default: for ever.")
    ] = None,
    lab: LabName = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Receive bundles. Each leaves the node when what it carried has been written here, durably in a file."""
    if as_json and output == "-":
        raise InputError("--json and the payload both want standard output", remedy="give a file with --output")
    limit = _time(timeout)
    got: list[Received] = []

    async def talk(node: AsyncNodeClient) -> None:
        rate = (await node.status()).clock.rate
        async with node.stream(endpoint) as stream:
            while len(got) < count:
                try:
                    patience = None if limit is None else limit / rate
                    bundle: StreamedBundle = await asyncio.wait_for(stream.next(), patience)
                except TimeoutError:
                    return
                _write(output, bundle, several=count > 1)
                await bundle.acknowledge()
                got.append(bundle.document)

    converse(place, lab, token, talk)
    if as_json:
        print(json.dumps({"bundles": [bundle.model_dump(exclude={"payload"}) for bundle in got]}))
    if len(got) < count:
        print(f"marsnet: {len(got)} of {count} bundles came in time", file=sys.stderr)
        raise typer.Exit(1)


def _write(output: str, bundle: StreamedBundle, *, several: bool) -> None:
    if output == "-":
        sys.stdout.buffer.write(bundle.payload)
        sys.stdout.buffer.flush()
        return
    target = Path(output)
    try:
        if several:
            target.mkdir(parents=True, exist_ok=True)
            target /= re.sub(r"[^\w.@+-]", "_", bundle.document.bundle)
        fresh = target.with_name(target.name + ".part")
        with fresh.open("wb") as file:
            file.write(bundle.payload)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {str(target)!r}: {error.strerror}", remedy="choose another --output") from None


def _input(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file!r}: {error.strerror}", remedy="check the path") from None


def _class(name: str) -> ClassName:
    if name not in get_args(ClassName):
        raise InputError(f"there is no class {name!r}", remedy=f"choose one of {', '.join(get_args(ClassName))}")
    return cast("ClassName", name)


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = quantity(text, "time")
    if seconds <= 0:
        raise InputError(f"{text!r} is no time to wait", remedy="give more than 0 s")
    return seconds


def _size(text: str) -> int:
    octets = round(quantity(text, "size"))
    if octets < 0:
        raise InputError(f"{text!r} is no size", remedy="write it like '64 B'")
    return octets


def _promised(promise: Forecast | None) -> str:
    if promise is None or promise.round_trip is None:
        return "the plan knows no way there and back"
    light, waits = 0.0, 0.0
    for way in (promise.out, promise.back):
        light += _sum(way, "light_time")
        waits += _sum(way, "waits")
    return (
        f"by the plan {format_duration(promise.round_trip)} there and back "
        f"(light time {format_duration(light)}, waits for contacts {format_duration(waits)})"
    )


def _sum(way: Way | None, field: str) -> float:
    return 0.0 if way is None else sum(getattr(hop, field) for hop in way.hops)


def _line(traced: Traced, report: Report) -> str:
    when = report.received if report.time is None else report.time
    told = "" if report.time is not None else " (when the report came)"
    reason = "" if report.reason == 0 else f", {report.reason_name.replace('_', ' ')}"
    place = report.node or report.reporter
    return f"  {format_duration(when - traced.sent):>16}  {place:<12} {report.assertion}{reason}{told}"


def _dumped(promise: Forecast | None) -> dict[str, Any] | None:
    return None if promise is None else promise.model_dump()
