"""What is loaded into QEMU lets its main loop go on only while the guest's processor waits (turns.c)."""

from __future__ import annotations

import os
import subprocess
import sys

from marsnet.worlds.warp.machine import turns_library

# A thread with the name of QEMU's processors computes and waits, three times; the main thread waits for a file that is
# ready all the time, and tells how far the thread is when it is let go.
PROGRAM = """
import ctypes, os, select, struct, threading, time
libc = ctypes.CDLL(None)
mutex, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
ready = os.eventfd(1)
entry = ctypes.create_string_buffer(struct.pack("ihh", ready, select.POLLIN, 0))
steps = 0

def processor():
    global steps
    libc.prctl(15, NAME, 0, 0, 0)
    libc.pthread_mutex_lock(mutex)
    for _ in range(4):
        began.set()
        libc.pthread_cond_wait(condition, mutex)
        clock.append(time.monotonic())
        moved.set()
        for _ in range(100_000):
            steps += 1

began, moved, clock = threading.Event(), threading.Event(), []
threading.Thread(target=processor, daemon=True).start()
began.wait()
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_unlock(mutex)
for _ in range(3):
    libc.pthread_mutex_lock(mutex)
    libc.pthread_cond_broadcast(condition)
    libc.pthread_mutex_unlock(mutex)
    assert libc.poll(entry, 1, -1) == 1
    print(steps)
moved.wait()
print(clock[0] == 0, time.monotonic() == 0)
"""


def told(name: bytes) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"NAME = {name!r}\n{PROGRAM}"],
        env={**os.environ, "LD_PRELOAD": turns_library()}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


def test_the_main_loop_waits_until_the_processor_does_for_which_the_hosts_clock_stands() -> None:
    assert told(b"ALL CPUs/TCG") == ["100000", "200000", "300000", "True", "False"]


def test_other_threads_are_nobody_to_wait_for() -> None:
    *steps, first, second = told(b"worker")
    assert steps != ["100000", "200000", "300000"]
    assert (first, second) == ("False", "False")
