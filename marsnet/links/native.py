"""The compiled core: its structures and functions, as ctypes sees them (core/*.h)."""

from __future__ import annotations

import ctypes as c
from enum import Enum
from functools import cache
from importlib.util import find_spec

from marsnet.errors import EnvironmentLacksError
from marsnet.links.config import MAX_CLASSES


class Reason(Enum):
    """Why a frame was dropped. The order is that of `enum reason` in core/pipeline.h, after DELIVERED."""

    QUEUE_FULL = "queue_full"
    DOWN = "down"
    CUT = "cut"
    LOSS = "loss"
    BIT_ERROR = "bit_error"
    RECEIVER_DOWN = "receiver_down"
    OVERSIZED = "oversized"
    RAM_FULL = "ram_full"
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"
    EGRESS = "egress"
    RING = "ring"
    LINK_GONE = "link_gone"


REASONS = ("delivered", *(reason.value for reason in Reason))
"""How a frame ended, by number; all but the first are drops."""
LATE_BUCKETS = 200
CHUNK_BYTES = 256 << 10
"""Unit in which frames are kept and spilled."""
CAPTURE_BYTES = 16 << 20
"""Of the ring between the packet path and the thread that writes a capture file."""
RING_BLOCK = 1 << 20
"""Of a receive ring."""


class CSegment(c.Structure):
    _fields_ = [(n, c.c_int64) for n in ("t0", "ref", "delay", "slope")] + [
        (n, c.c_uint64) for n in ("byte_time", "loss", "ber", "to_bad", "to_good", "bad_loss", "flags")
    ]


class CRecord(c.Structure):
    _fields_ = [("t", c.c_int64), ("sent", c.c_int64), ("id", c.c_uint64), ("len", c.c_uint32)] + [
        (n, c.c_uint8) for n in ("cls", "reason", "corrupt", "quiet")
    ]


class CPipeConfig(c.Structure):
    _fields_ = (
        [(n, c.c_uint32) for n in ("classes", "weighted", "max_frame", "carry")]
        + [("seed", c.c_uint64)]
        + [(n, c.c_uint64 * MAX_CLASSES) for n in ("limit_bytes", "limit_frames", "quantum")]
    )


class CCount(c.Structure):
    _fields_ = [("frames", c.c_uint64), ("bytes", c.c_uint64)]


class CPipeStats(c.Structure):
    _fields_ = (
        [(n, CCount * MAX_CLASSES) for n in ("entered", "out", "wait", "drop")]
        + [("fly", CCount)]
        + [("reason", CCount * len(REASONS))]
        + [(n, c.c_uint64) for n in ("corrupted", "stalls", "broken")]
        + [(n, c.c_int64) for n in ("last_tx", "last_rx")]
    )


class CWireConfig(c.Structure):
    _fields_ = [
        ("rx", c.c_int32),
        ("tx", c.c_int32),
        ("slot_bytes", c.c_uint32),
        ("slots", c.c_uint32),
        ("class_of", c.c_uint8 * 64),
        ("class_default", c.c_uint32),
        ("ring", c.c_void_p),
    ]


class CWireStats(c.Structure):
    _fields_ = (
        [("pipe", CPipeStats)]
        + [("late", c.c_uint64 * LATE_BUCKETS)]
        + [(n, c.c_uint64) for n in ("late_frames", "late_sum", "late_max", "early")]
        + [(n, c.c_uint64) for n in ("ring_drops", "bad_stamps", "clock_steps", "unfinished_sums", "capture_lost")]
        + [(n, c.c_int64) for n in ("now", "offset", "delay")]
        + [("seg", CSegment)]
        + [(n, c.c_int32) for n in ("known", "paused", "gone", "egress_errno")]
    )


class CCapture(c.Structure):
    _fields_ = (
        [("ring", c.c_void_p)]
        + [(n, c.c_uint64) for n in ("written", "drained", "lost")]
        + [("offset", c.c_int64), ("event", c.c_int32)]
    )


class CEngineStats(c.Structure):
    _fields_ = (
        [
            (n, c.c_uint64)
            for n in ("ram_chunks", "disk_chunks", "peak_ram_chunks", "written", "read", "write_errors", "read_errors")
        ]
        + [("last_errno", c.c_int32), ("writing", c.c_int32)]
        + [("wakes", c.c_uint64)]
    )


_P, _I, _T = c.c_void_p, c.c_int, c.c_int64
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "pipe_new": (_P, [c.POINTER(CPipeConfig), _P]),
    "pipe_free": (None, [_P]),
    "pipe_replace": (_I, [_P, _T, c.POINTER(CSegment), c.c_size_t, _T]),
    "pipe_receiver": (_I, [_P, _T, c.POINTER(CSegment), c.c_size_t]),
    "pipe_push": (None, [_P, _P, c.c_uint32, c.c_uint32, _T, c.c_uint64]),
    "pipe_pop": (c.c_size_t, [_P, _T, c.POINTER(CRecord), c.c_size_t]),
    "pipe_next": (_T, [_P]),
    "pipe_push_trains": (None, [_P, c.c_size_t, _P, _P, c.c_char_p, c.c_char_p, _T, c.c_uint64]),
    "pipe_take": (c.c_size_t, [_P, _T, _P, c.c_size_t]),
    "pipe_alarm": (_T, [_P]),
    "pipe_stats": (None, [_P, c.POINTER(CPipeStats)]),
    "pipe_at": (_I, [_P, _T, c.POINTER(CSegment), c.POINTER(_T)]),
    "engine_new": (_P, [c.c_uint64, _I, _I]),
    "engine_run": (None, [_P]),
    "store_run": (None, [_P]),
    "engine_stop": (None, [_P]),
    "engine_free": (None, [_P]),
    "engine_stats": (None, [_P, c.POINTER(CEngineStats)]),
    "dir_add": (_P, [_P, c.POINTER(CWireConfig), c.POINTER(CPipeConfig)]),
    "dir_remove": (None, [_P]),
    "dir_fail": (None, [_P]),
    "dir_timeline": (_I, [_P, _T, c.POINTER(CSegment), c.c_size_t, _T]),
    "dir_receiver": (_I, [_P, _T, c.POINTER(CSegment), c.c_size_t]),
    "dir_clock": (None, [_P, _T, _I]),
    "dir_stats": (None, [_P, c.POINTER(CWireStats)]),
    "dir_capture": (None, [_P, _P]),
    "capture_drained": (c.c_uint64, [_P, c.c_uint64]),
}


@cache
def core() -> c.CDLL:
    """The compiled core.

    Raises:
        EnvironmentLacksError: when it has not been built.
    """
    build = "python setup.py build_ext --inplace, or pip install -e ."
    spec = find_spec("marsnet.links._core")
    if spec is None or spec.origin is None:
        raise EnvironmentLacksError("the compiled core of the delay line is missing", fix=build)
    library = c.CDLL(spec.origin, use_errno=True)
    for name, (result, arguments) in _FUNCTIONS.items():
        if not hasattr(library, name):
            raise EnvironmentLacksError(
                f"the compiled core of the delay line is of another version: no {name}", fix=build
            )
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def late_bound(bucket: int) -> int:
    """Upper bound in ns of a bucket of the lateness histogram: 1024 ns, then eight buckets per octave."""
    octave, part = divmod(max(bucket - 1, 0), 8)
    return 1024 if bucket == 0 else (9 + part) << (octave + 7)
