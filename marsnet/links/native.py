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


class CSegment(c.Structure):
    _fields_ = [(n, c.c_int64) for n in ("t0", "ref", "delay", "slope")] + [
        (n, c.c_uint64) for n in ("byte_time", "loss", "ber", "to_bad", "to_good", "bad_loss", "flags")
    ]


class CSpan(c.Structure):
    _fields_ = [("start", c.c_int64), ("end", c.c_int64)]


class CRecord(c.Structure):
    _fields_ = [("t", c.c_int64), ("sent", c.c_int64), ("id", c.c_uint64), ("len", c.c_uint32)] + [
        (n, c.c_uint8) for n in ("cls", "reason", "corrupt", "quiet")
    ]


class CPipeConfig(c.Structure):
    _fields_ = (
        [(n, c.c_uint32) for n in ("classes", "weighted", "max_frame", "carry", "report", "spare")]
        + [("seed", c.c_uint64)]
        + [(n, c.c_uint64 * MAX_CLASSES) for n in ("limit_bytes", "limit_frames", "quantum")]
    )


class CCount(c.Structure):
    _fields_ = [("frames", c.c_uint64), ("bytes", c.c_uint64)]


class CPipeStats(c.Structure):
    _fields_ = (
        [(n, CCount) for n in ("entered", "out", "wait", "fly", "drop")]
        + [("reason", CCount * len(REASONS))]
        + [(n, CCount * MAX_CLASSES) for n in ("cls_in", "cls_out", "cls_wait", "cls_drop")]
        + [(n, c.c_uint64) for n in ("corrupted", "stalls", "broken")]
        + [(n, c.c_int64) for n in ("last_tx_start", "last_tx_end", "last_rx")]
    )


class CWireConfig(c.Structure):
    _fields_ = [
        ("in_if", c.c_int32),
        ("out_if", c.c_int32),
        ("slot_bytes", c.c_uint32),
        ("slots", c.c_uint32),
        ("class_of", c.c_uint8 * 64),
        ("class_default", c.c_uint32),
    ]


class CWireStats(c.Structure):
    _fields_ = (
        [("pipe", CPipeStats)]
        + [("late", c.c_uint64 * LATE_BUCKETS)]
        + [(n, c.c_uint64) for n in ("late_frames", "late_sum", "late_max", "early")]
        + [(n, c.c_uint64) for n in ("ring_drops", "bad_stamps", "clock_steps", "unfinished_sums", "capture_lost")]
        + [(n, c.c_int64) for n in ("now", "offset", "delay")]
        + [("seg", CSegment)]
        + [(n, c.c_int32) for n in ("known", "paused", "gone", "egress_errno", "capture_errno", "spare")]
    )


class CStoreStats(c.Structure):
    _fields_ = [
        (n, c.c_uint64)
        for n in ("ram_chunks", "disk_chunks", "peak_ram_chunks", "written", "read", "write_errors", "read_errors")
    ] + [("last_errno", c.c_int32), ("writing", c.c_int32)]


class CEngineStats(c.Structure):
    _fields_ = [
        ("store", CStoreStats),
        ("wakes", c.c_uint64),
        ("realtime", c.c_int32),
    ]


_P, _I, _T = c.c_void_p, c.c_int, c.c_int64
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "solo_new": (_P, [c.POINTER(CPipeConfig)]),
    "solo_free": (None, [_P]),
    "pipe_replace": (_I, [_P, _T, c.POINTER(CSegment), c.c_size_t, _T]),
    "pipe_deaf": (_I, [_P, _T, c.POINTER(CSpan), c.c_size_t]),
    "pipe_push": (None, [_P, _P, c.c_uint32, c.c_uint32, _T, c.c_uint64]),
    "pipe_pop": (c.c_size_t, [_P, _T, c.POINTER(CRecord), c.c_size_t]),
    "pipe_next": (_T, [_P]),
    "pipe_push_many": (c.c_size_t, [_P, c.c_size_t, _P, c.c_char_p, c.c_char_p, _T, c.c_uint64]),
    "pipe_take": (c.c_size_t, [_P, _T, _P, c.c_size_t]),
    "pipe_alarm": (_T, [_P]),
    "pipe_stats": (None, [_P, c.POINTER(CPipeStats)]),
    "pipe_at": (_I, [_P, _T, c.POINTER(CSegment), c.POINTER(_T)]),
    "engine_open": (_P, [_I, c.c_uint64, c.c_char_p, c.POINTER(_I)]),
    "engine_close": (None, [_P]),
    "engine_event_fd": (_I, [_P]),
    "engine_add": (_I, [_P, c.POINTER(CWireConfig), c.POINTER(CPipeConfig)]),
    "engine_remove": (_I, [_P, _I]),
    "engine_fail": (_I, [_P, _I]),
    "engine_timeline": (_I, [_P, _I, _T, c.POINTER(CSegment), c.c_size_t, _T]),
    "engine_deaf": (_I, [_P, _I, _T, c.POINTER(CSpan), c.c_size_t]),
    "engine_set_now": (_I, [_P, _I, _T]),
    "engine_pause": (_I, [_P, _I, _I]),
    "engine_stats": (_I, [_P, c.POINTER(c.c_int32), c.c_size_t, c.POINTER(CWireStats), c.POINTER(CEngineStats)]),
    "engine_capture": (_I, [_P, _I, _I, _T, c.c_char_p, c.c_char_p]),
    "engine_capture_stop": (_I, [_P, _I]),
}


@cache
def core() -> c.CDLL:
    """The compiled core.

    Raises:
        EnvironmentLacksError: when it has not been built.
    """
    spec = find_spec("marsnet.links._core")
    if spec is None or spec.origin is None:
        raise EnvironmentLacksError("the compiled core of the delay line is missing", fix="pip install -e .")
    library = c.CDLL(spec.origin)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise EnvironmentLacksError(
                "the compiled core of the delay line is older than this source", fix="pip install -e ."
            )
        function.restype, function.argtypes = result, arguments
    return library


def late_bound(bucket: int) -> int:
    """Upper bound in ns of a bucket of the lateness histogram: 1024 ns, then eight buckets per octave."""
    octave, part = divmod(max(bucket - 1, 0), 8)
    return 1024 if bucket == 0 else (9 + part) << (octave + 7)
