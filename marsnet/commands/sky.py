"""`marsnet sky`: light time, conjunctions, passes and Mars time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from marsnet.clock import format_utc, parse_utc
from marsnet.commands.tables import columns, facts, show, show_json, to_second
from marsnet.errors import InputError
from marsnet.model.topology import Site, Topology, load_topology
from marsnet.sky import marstime
from marsnet.sky.conjunction import conjunctions as find_conjunctions
from marsnet.sky.lighttime import light_time as find_light_time
from marsnet.sky.lighttime import signal_ends
from marsnet.sky.passes import passes as find_passes
from marsnet.units import format_duration, quantity

app = typer.Typer(help="Light time, conjunctions, passes and Mars time.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TopologyFile = Annotated[Path | None, typer.Option("--topology", help="Topology file that names the nodes.")]


@app.command("light-time")
def light_time(
    a: Annotated[str, typer.Argument(metavar="A", help="earth, mars, or a node.")],
    b: Annotated[str, typer.Argument(metavar="B", help="earth, mars, or a node.")],
    received_at: Annotated[
        str | None, typer.Option("--received-at", help="UTC instant of reception on Earth; without Earth, at B.")
    ] = None,
    transmitted_at: Annotated[
        str | None, typer.Option("--transmitted-at", help="UTC instant of transmission at A.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="End, A or B, at which the instant holds instead.")] = None,
    topology: TopologyFile = None,
    as_json: AsJson = False,
) -> None:
    """How long a signal takes between A and B (earth: the geocentre; mars: the barycentre of the Mars system)."""
    known = load_topology(topology) if topology is not None else None
    source, target = signal_ends(a, b, received=received_at is not None, at=at, topology=known)
    delay = find_light_time(
        source,
        target,
        received_at=received_at,
        transmitted_at=transmitted_at,
        topology=known,
        base_dir=topology.parent if topology is not None else None,
    )
    given = parse_utc(received_at or transmitted_at or "")
    sent = given - timedelta(seconds=delay) if received_at is not None else given
    arrived = sent + timedelta(seconds=delay)
    if as_json:
        show_json(
            {
                "source": source,
                "target": target,
                "transmitted_at": format_utc(sent),
                "received_at": format_utc(arrived),
                "light_time_s": delay,
            }
        )
        return
    show(
        facts(
            (
                ("from", source),
                ("to", target),
                ("transmitted", format_utc(sent)),
                ("received", format_utc(arrived)),
                ("light time", f"{delay:.6f} s ({format_duration(delay)}, one way)"),
            )
        )
    )


@app.command("conjunctions")
def conjunctions(
    start: Annotated[str, typer.Argument(metavar="FROM", help="UTC instant.")],
    end: Annotated[str, typer.Argument(metavar="TO", help="UTC instant.")],
    sep: Annotated[str, typer.Option("--sep", help="Sun-Earth-Mars angle below which a passage counts.")] = "3 deg",
    as_json: AsJson = False,
) -> None:
    """When the Sun stands between Earth and Mars: the conjunction, the least angle, entry and exit."""
    limit = quantity(sep, "angle")
    found = find_conjunctions(start, end, limit)
    if as_json:
        show_json(
            {
                "sep_limit_deg": limit,
                "conjunctions": [
                    {
                        "instant": passage.instant,
                        "min_sep_at": passage.least_at,
                        "min_sep_deg": passage.least_deg,
                        "entry": passage.entry,
                        "exit": passage.exit,
                    }
                    for passage in found
                ],
            }
        )
        return
    names = ("conjunction (UTC)", "least SEP", "at (UTC)", "entry (UTC)", "exit (UTC)", "lasts")
    table = columns(f"Mars within {limit:g} deg of the Sun", names, right=("least SEP", "lasts"))
    for passage in found:
        lasts = ""
        if passage.entry and passage.exit:
            lasts = f"{(parse_utc(passage.exit) - parse_utc(passage.entry)) / timedelta(days=1):.1f} d"
        table.add_row(
            to_second(passage.instant) if passage.instant else "outside FROM - TO",
            f"{passage.least_deg:.4f} deg",
            to_second(passage.least_at),
            to_second(passage.entry) if passage.entry else "before FROM",
            to_second(passage.exit) if passage.exit else "after TO",
            lasts,
        )
    show(table if found else f"none between {start} and {end}")


@app.command("passes")
def passes(
    topology: Annotated[Path, typer.Option("--topology", help="Topology file.")],
    site: Annotated[str, typer.Option("--site", help="Site on Mars.")],
    orbiter: Annotated[str, typer.Option("--orbiter", help="Orbiter.")],
    start: Annotated[str, typer.Option("--start", help="UTC instant.")],
    duration: Annotated[str, typer.Option("--duration", help="Like '1 sol' or '24 h'.")],
    mask: Annotated[str | None, typer.Option("--mask", help="Least elevation, in place of the site's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every pass of an orbiter over a site."""
    known = load_topology(topology)
    length = quantity(duration, "time")
    found = find_passes(
        known,
        site,
        orbiter,
        start,
        length,
        mask_deg=quantity(mask, "angle") if mask is not None else None,
        base_dir=topology.parent,
    )
    if as_json:
        show_json(
            {
                "site": site,
                "orbiter": orbiter,
                "start": format_utc(parse_utc(start)),
                "duration_s": length,
                "count": len(found),
                "passes": [
                    {
                        "rise": one.rise,
                        "set": one.set,
                        "duration_s": one.end - one.start,
                        "highest_deg": one.highest_deg,
                        "nearest_m": one.nearest_m,
                    }
                    for one in found
                ],
            }
        )
        return
    names = ("#", "rise (UTC)", "set (UTC)", "lasts", "highest", "nearest")
    table = columns(f"{orbiter} over {site}: {len(found)} passes", names, right=("#", "lasts", "highest", "nearest"))
    for number, one in enumerate(found, start=1):
        table.add_row(
            str(number),
            one.rise[:-3].replace("T", " "),
            one.set[:-3].replace("T", " "),
            format_duration(one.end - one.start),
            f"{one.highest_deg:.1f} deg",
            f"{one.nearest_m / 1e3:,.0f} km",
        )
    show(table)


@app.command("time")
def time(
    utc: Annotated[str, typer.Argument(metavar="UTC", help="UTC instant.")],
    site: Annotated[str | None, typer.Option("--site", help="Site of the topology, for its local time.")] = None,
    topology: TopologyFile = None,
    longitude: Annotated[str | None, typer.Option("--longitude", help="East longitude, like '77.45 deg'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Mars time: MSD, MTC, Ls, and the local times of a site or a longitude."""
    east = _longitude(site, topology, longitude)
    now: dict[str, Any] = {
        "utc": format_utc(parse_utc(utc)),
        "msd": marstime.msd(utc),
        "mtc": marstime.clock_text(marstime.mtc(utc)),
        "ls_deg": marstime.ls_deg(utc),
        "equation_of_time_deg": marstime.equation_of_time_deg(utc),
    }
    if east is not None:
        now |= {
            "site": site,
            "longitude_deg": east,
            "lmst": marstime.clock_text(marstime.lmst(utc, east)),
            "ltst": marstime.clock_text(marstime.ltst(utc, east)),
        }
    if as_json:
        show_json(now)
        return
    rows = [("UTC", now["utc"]), ("MSD", f"{now['msd']:.5f}"), ("MTC", now["mtc"]), ("Ls", f"{now['ls_deg']:.3f} deg")]
    if east is not None:
        place = f"{site or 'longitude'} ({east:g} deg E)"
        rows += [("LTST", f"{now['ltst']} at {place}"), ("LMST", f"{now['lmst']} at {place}")]
    show(facts(rows))


def _longitude(site: str | None, topology: Path | None, longitude: str | None) -> float | None:
    """East longitude in degrees of what the options name; None when they name nothing."""
    if longitude is not None:
        if site is not None:
            raise InputError("both --site and --longitude are given", remedy="give one of them")
        return quantity(longitude, "angle")
    if site is None:
        return None
    if topology is None:
        raise InputError(f"--site {site!r} needs a topology", remedy="add --topology FILE, or give --longitude")
    return _site(load_topology(topology), site, topology).longitude


def _site(topology: Topology, name: str, file: Path) -> Site:
    node = topology.nodes.get(name)
    if not isinstance(node, Site) or node.body != "mars":
        sites = [key for key, value in topology.nodes.items() if isinstance(value, Site) and value.body == "mars"]
        raise InputError(f"{name!r} is no site on Mars", remedy=f"there are {', '.join(sites) or 'none'}", file=file)
    return node
