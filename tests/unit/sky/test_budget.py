"""Link budgets against figures worked by hand and by published links."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.model.topology import Topology
from marsnet.sky.budget import CODES, DirectedBudget, directed_budget
from marsnet.units import AU

STATION: dict[str, Any] = {
    "kind": "station",
    "itrf": ["-2353621.42 m", "-4641341.472 m", "3677052.318 m"],
}
ORBITER: dict[str, Any] = {"kind": "orbiter", "areostationary": {"longitude": "77 deg"}}
SPACE_X: dict[str, Any] = {
    "band": "X",
    "frequency": "8.439 GHz",
    "power": "100 W",
    "gain": "46.7 dBi",
    "losses": "0.5 dB",
    "gt": "18.2 dB/K",
    "coding": "rs-conv-i5",
    "margin": "3 dB",
}
EARTH_X: dict[str, Any] = {
    "band": "X",
    "frequency": "7.183 GHz",
    "power": "20 kW",
    "gain": "68.2 dBi",
    "noise_temperature": "33 K",
    "pointing": "0.3 dB",
}


def budget(
    space: dict[str, Any] | None = None,
    earth: dict[str, Any] | None = None,
    *,
    up: bool = False,
    link: dict[str, Any] | None = None,
    sep: dict[str, Any] | None = None,
) -> DirectedBudget:
    topology = Topology.model_validate(
        {
            "marsnet": "topology/1",
            "name": "budgets",
            "radios": {"space": SPACE_X | (space or {}), "earth": EARTH_X | (earth or {})},
            "nodes": {
                "dss": STATION | {"number": 1, "radios": ["earth"]},
                "relay": ORBITER | {"number": 2, "radios": ["space"]},
            },
            "links": [{"between": ["dss", "relay"]} | (link or {})],
            "sep": {"X": sep} if sep else {},
        }
    )
    ends = ("dss", "relay") if up else ("relay", "dss")
    return directed_budget(topology, topology.links[0], *ends)


def test_a_100_watt_x_band_downlink_carries_what_the_equation_gives() -> None:
    """Worked by hand: 20 + 46.7 - 0.5 - 0.3 + 68.2 dB over free space at 8.439 GHz, 33 K, 2.39 + 3 dB."""
    distance = 2.675 * AU
    free_space = 20 * math.log10(4 * math.pi * distance * 8.439e9 / 299_792_458)
    density = 20 + 46.7 - 0.5 - 0.3 - free_space + 68.2 - 10 * math.log10(33) + 228.599
    rate, ber, loss = budget().rate(distance)
    assert rate == pytest.approx(10 ** ((density - 5.39) / 10), rel=1e-4)
    assert 0.72e6 < rate < 0.90e6, "a 34 m station hears about 0.72 Mbit/s with 0.2 dB of air and 0.3 dB implementation"
    assert ber == 0
    assert loss == 0


@given(st.floats(0.37, 2.7), st.floats(1.1, 3.0))
def test_the_closing_rate_falls_with_the_square_of_the_distance(au: float, factor: float) -> None:
    near, far = budget().rate(np.array([au, au * factor]) * AU)[0]
    assert near / far == pytest.approx(factor**2)


def test_the_atmosphere_follows_the_cosecant_law_and_heats_the_receiver() -> None:
    air = {"atmosphere": {"10 %": "4.7 dB", "1 %": "16.3 dB"}, "exceedance": "10 %"}
    rates = budget(earth=air).rate(1.5 * AU, np.array([10.0, 90.0]))[0]
    zenith = 4.7 * math.sin(math.radians(10))
    hot, mild = (33 + 275 * (1 - 10 ** (-loss / 10)) for loss in (4.7, zenith))
    assert 10 * math.log10(rates[1] / rates[0]) == pytest.approx(4.7 - zenith + 10 * math.log10(hot / mild))
    worse = budget(earth=air | {"exceedance": "1 %"}).rate(1.5 * AU, 10.0)[0]
    assert worse < rates[0]


def test_the_uplink_feels_the_stations_air_but_not_its_heat() -> None:
    dry = budget(up=True).rate(AU, 10.0)[0]
    wet = budget(earth={"atmosphere": {"10 %": "2 dB"}}, up=True).rate(AU, 10.0)[0]
    assert 10 * math.log10(dry / wet) == pytest.approx(2.0)


def test_eirp_and_gt_equal_their_parts() -> None:
    parts = budget().rate(AU)[0]
    gt = 68.2 - 10 * math.log10(33)
    whole = budget(
        {"power": None, "gain": None, "eirp": "66.2 dBW", "losses": "0 dB"},
        {"gt": f"{gt:.12f} dB/K", "noise_temperature": None},
    ).rate(AU)[0]
    assert whole == pytest.approx(float(parts))


def test_the_cap_bounds_and_the_steps_quantise_downwards() -> None:
    assert budget({"cap": "6 Mbit/s"}).rate(0.4 * AU)[0] == 6e6
    assert budget(earth={"receive_cap": "5 Mbit/s"}).rate(0.3 * AU)[0] == 5e6
    steps = {"steps": [f"{2**n} kbit/s" for n in range(12)]}
    rates = budget(steps).rate(np.array([0.4, 2.0, 2.7, 400.0]) * AU)[0]
    free = budget().rate(np.array([0.4, 2.0, 2.7, 400.0]) * AU)[0]
    assert list(rates) == [2_048_000, 1_024_000, 512_000, 0]
    assert (rates <= free).all()


def test_what_a_cap_leaves_unused_is_margin() -> None:
    lines = {line.item: line.value for line in budget({"cap": "1 kbit/s"}).explain(AU)}
    closing = lines["rate at which the link closes"]
    assert lines["margin at this rate"] == pytest.approx(3 + 10 * math.log10(closing / 1000))


def test_bit_errors_appear_when_the_margin_is_thin() -> None:
    code = CODES["rs-conv-i5"]
    assert budget({"margin": "0 dB"}).rate(AU)[1] == pytest.approx(code.ber)
    assert budget({"margin": "0.2 dB"}).rate(AU)[1] == pytest.approx(code.ber * 10 ** (-0.2 * code.slope))


def test_the_sun_takes_rate_and_frames_between_two_angles() -> None:
    sun = {"cut": "2 deg", "clear": "6 deg", "loss": 0.4}
    near = budget({"cap": "1 Mbit/s"}, sep=sun)
    # 2 AU closes at more than 1.4 Mbit/s: half of it is below the cap.
    closing = float(budget().rate(2 * AU)[0])
    rate, _, loss = near.rate(2 * AU, None, np.array([1.0, 2.0, 4.0, 6.0, 90.0]))
    assert list(rate) == pytest.approx([0, 0, closing / 2, 1e6, 1e6])
    assert list(loss) == pytest.approx([0.4, 0.4, 0.2, 0, 0])


def test_a_link_that_carries_less_than_a_bit_per_second_does_not_close() -> None:
    faint, lost = budget().rate(np.array([2000.0, 3000.0]) * AU)[0]
    assert 1 <= faint < 2
    assert lost == 0
    near = budget(link={"rate": "1 kbit/s"}, sep={"cut": "2 deg", "clear": "6 deg"})
    assert list(near.rate(AU, None, np.array([2.003, 2.01]))[0]) == pytest.approx([0.0, 2.5])


def test_stated_rates_replace_the_budget() -> None:
    assert budget(link={"rate": "3 Mbit/s"}).rate(9 * AU)[0] == 3e6
    assert budget(link={"rate": "3 Mbit/s"}, up=True).rate(9 * AU)[0] == 3e6
    asymmetric = {"earth": {"rate": "16 kbit/s"}}
    assert budget(**asymmetric, up=True).rate(9 * AU)[0] == 16e3
    assert budget(**asymmetric).rate(AU)[0] != 16e3
    assert not budget(link={"rate": "3 Mbit/s"}).by_range


def test_a_known_rate_scales_by_the_inverse_square_up_to_the_cap() -> None:
    """The fit to DSOC: min(267, 25 (226 / d)^2) Mbit/s, d in millions of km."""
    dsoc = {"reference": {"rate": "25 Mbit/s", "distance": "226e6 km"}, "cap": "267 Mbit/s"}
    rates = budget(dsoc).rate(np.array([31e9, 226e9, 2.7 * AU]))[0]
    assert rates == pytest.approx([267e6, 25e6, 25e6 * (226e9 / (2.7 * AU)) ** 2])
    assert 7.5e6 < rates[2] < 8.3e6


def test_a_wire_has_the_wires_rate() -> None:
    topology = Topology.model_validate(
        {
            "marsnet": "topology/1",
            "name": "wire",
            "nodes": {
                "mcc": {"kind": "hub", "number": 1},
                "dss": STATION | {"number": 2},
            },
            "links": [{"between": ["mcc", "dss"], "wired": {"delay": "20 ms", "rate": "1 Gbit/s"}}],
        }
    )
    wire = directed_budget(topology, topology.links[0], "mcc", "dss")
    assert wire.rate(1e6)[0] == 1e9
    assert [line.item for line in wire.explain(1e6)] == ["distance", "stated rate", "rate"]


def test_shapes_broadcast() -> None:
    rate, ber, loss = budget().rate(np.full((3, 1), AU), np.full(4, 30.0), 10.0)
    assert rate.shape == ber.shape == loss.shape == (3, 4)


def test_the_explanation_adds_up() -> None:
    air = {"atmosphere": {"10 %": "0.32 dB"}}
    lines = budget(earth=air).explain(1.2 * AU, 25.0, 40.0)
    decibels = [line.value for line in lines if line.unit in {"dBW", "dBi", "dB", "dBK", "dB/K", "dBHzK/W"}]
    by_item = {line.item: line.value for line in lines}
    total = sum(decibels) - by_item["margin at this rate"]
    assert 10 ** (total / 10) == pytest.approx(by_item["rate at which the link closes"])
    assert by_item["rate"] == pytest.approx(float(budget(earth=air).rate(1.2 * AU, 25.0, 40.0)[0]))


def test_a_receiver_without_figures_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'earth' has no receiver.*give it 'gt'"):
        budget(earth={"noise_temperature": None})


def test_a_direction_that_the_link_does_not_have_is_an_error() -> None:
    made = Topology.model_validate(
        {
            "marsnet": "topology/1",
            "name": "x",
            "radios": {"r": {"band": "X", "rate": "1 kbit/s"}},
            "nodes": {
                "a": STATION | {"number": 1, "radios": ["r"]},
                "b": ORBITER | {"number": 2, "radios": ["r"]},
            },
            "links": [{"between": ["a", "b"]}],
        }
    )
    with pytest.raises(InputError, match="does not join 'a' to 'a'"):
        directed_budget(made, made.links[0], "a", "a")
