"""Virtual time jumps from deadline to deadline, in order."""

from __future__ import annotations

import asyncio
import time

import pytest

from marsnet.worlds.loop import DeadlockError, VirtualLoop


def test_a_year_passes_at_once() -> None:
    loop = VirtualLoop()
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(365 * 86400.0))
    assert loop.time() == pytest.approx(365 * 86400.0, abs=1e-3)
    assert time.monotonic() - began < 30
    loop.close()


def test_timers_fire_in_order_at_their_instants() -> None:
    loop, seen = VirtualLoop(), []
    for at in (5.0, 0.1, 0.3, 1334.9):
        loop.call_at(at, lambda at=at: seen.append((at, loop.time())))
    loop.call_at(2000.0, loop.stop)
    loop.run_forever()
    assert [at for at, _ in seen] == [0.1, 0.3, 5.0, 1334.9]
    assert all(now == pytest.approx(at, abs=1e-9) for at, now in seen)
    loop.close()


def test_waiting_for_what_never_comes_is_an_error() -> None:
    loop = VirtualLoop()
    with pytest.raises(DeadlockError):
        loop.run_until_complete(asyncio.Event().wait())
    loop.close()


def test_what_goes_wrong_in_a_callback_ends_the_run() -> None:
    loop, seen = VirtualLoop(), []

    def broken() -> None:
        raise ValueError("a defect")

    loop.call_at(1.0, broken)
    loop.call_at(2.0, seen.append, 2.0)
    with pytest.raises(ValueError, match="a defect"):
        loop.run_forever()
    assert not seen, "no verdict on what a broken network went on to do"
    loop.close()


def test_timers_of_one_instant_fire_as_they_were_set_unless_they_were_cancelled() -> None:
    loop, seen = VirtualLoop(), []
    for number in range(100):
        handle = loop.call_at(7.0, seen.append, number)
        if number % 3 == 0:
            handle.cancel()
    loop.call_later(8.0, loop.stop)
    loop.run_forever()
    assert seen == [number for number in range(100) if number % 3]
    loop.close()
