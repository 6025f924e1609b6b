"""What netem is told, and what it is not asked to do."""

from __future__ import annotations

from typing import Any

import pytest

from marsnet.errors import InputError
from marsnet.links.netem import NetemParameters
from marsnet.links.timeline import Bursts, Segment

S = 10**9


def test_the_limit_covers_what_flies_and_what_waits() -> None:
    found = NetemParameters.of(Segment(0, 1440 * S, rate_bps=2e6, loss=0.25), 1000)
    assert found == NetemParameters(1440 * S, 2_000_000 * 1440 // 8 // 64 + 1000, 250_000, 2**30)


def test_certain_loss_fits() -> None:
    assert NetemParameters.of(Segment(0, loss=1.0), 1).loss == 2**32 - 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slope": 1e-5}, "slope 1e-05"),
        ({"up": False}, "transmitter that is down"),
        ({"bursts": Bursts(0.1, 0.1)}, "bursts"),
        ({"ber": 1e-6}, "bit error rate 1e-06"),
        ({"delay_ns": 86400 * S, "rate_bps": 10e9}, "may hold 1687"),
    ],
)
def test_the_rest_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        NetemParameters.of(Segment(**({"t0_ns": 0} | change)), 1)
