"""Topologies for tests of the sky, written as a topology file would be read."""

from __future__ import annotations

from typing import Any

from marsnet.model.topology import Topology

EPOCH = "2026-10-01T00:00:00Z"
MRO = (3655.0, 0.005, 92.6, 200.0, 270.0)
TGO = (3796.19, 0.0, 74.0, 40.0, 0.0)
MAVEN = (5736.19, 0.3766, 75.0, 100.0, 60.0)
STATIONS = {
    "dss14": (-2353621.420, -4641341.472, 3677052.318),
    "dss43": (-4460894.917, 2682361.507, -3674748.152),
    "dss63": (4849092.518, -360180.348, 4115109.251),
}
RADIO = {"uhf": {"band": "UHF", "rate": "1 Mbit/s"}, "x": {"band": "X", "rate": "2 Mbit/s"}}


def orbiter(
    axis: float,
    eccentricity: float,
    inclination: float,
    node: float,
    periapsis: float,
    anomaly: float = 0.0,
    epoch: str = EPOCH,
) -> dict[str, Any]:
    """An orbiter on mean elements; km and degrees."""
    angles = {"inclination": inclination, "node": node, "periapsis": periapsis, "anomaly": anomaly}
    orbit = {
        "frame": "mars-equator-j2000",
        "elements": "mean",
        "epoch": epoch,
        "semi_major_axis": f"{axis!r} km",
        "eccentricity": eccentricity,
        **{name: f"{value!r} deg" for name, value in angles.items()},
    }
    return {"kind": "orbiter", "radios": ["uhf", "x"], "orbit": orbit}


def areostationary(longitude: float) -> dict[str, Any]:
    """An orbiter above a longitude in degrees."""
    return {"kind": "orbiter", "radios": ["uhf", "x"], "areostationary": {"longitude": f"{longitude} deg"}}


def site(latitude: float, longitude: float, mask: float = 10.0, **more: Any) -> dict[str, Any]:
    """A site; degrees."""
    return {
        "kind": "site",
        "radios": ["uhf", "x"],
        "latitude": f"{latitude!r} deg",
        "longitude": f"{longitude!r} deg",
        "mask": {"receive": f"{mask} deg", "transmit": f"{mask} deg"},
        **more,
    }


def station(name: str, receive: float = 10.0, transmit: float = 10.0) -> dict[str, Any]:
    """A DSN station by its ITRF coordinates."""
    return {
        "kind": "station",
        "radios": ["x"],
        "itrf": [f"{value} m" for value in STATIONS[name]],
        "mask": {"receive": f"{receive} deg", "transmit": f"{transmit} deg"},
    }


def topology(nodes: dict[str, dict[str, Any]], links: list[Any], **more: Any) -> Topology:
    """A topology; links are pairs of names, or dictionaries."""
    numbered = {name: {"number": number, **node} for number, (name, node) in enumerate(nodes.items(), 1)}
    declared = [link if isinstance(link, dict) else _link(nodes, *link) for link in links]
    return Topology.model_validate(
        {"marsnet": "topology/1", "name": "test", "radios": RADIO, "nodes": numbered, "links": declared, **more}
    )


def _link(nodes: dict[str, dict[str, Any]], a: str, b: str) -> dict[str, Any]:
    """X between the planets, UHF around Mars."""
    return {"between": [a, b], "band": "X" if "station" in (nodes[a]["kind"], nodes[b]["kind"]) else "UHF"}


def h1() -> Topology:
    """Three orbiters over Jezero, with a crosslink and a station."""
    return topology(
        {
            "jezero": site(18.44, 77.45),
            "mro": orbiter(*MRO),
            "tgo": orbiter(*TGO),
            "maven": orbiter(*MAVEN),
            "dss14": station("dss14"),
        },
        [("jezero", "mro"), ("jezero", "tgo"), ("jezero", "maven"), ("mro", "tgo"), ("dss14", "mro"), ("dss14", "tgo")],
    )
