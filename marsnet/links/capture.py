"""A direction's frames as a pcapng file (IETF draft-ietf-opsawg-pcapng).

The packet path writes the blocks of frames into a ring; a thread writes the ring to the file. When the file cannot keep
up, frames are missing from it, and counted; the link itself never waits.
"""

from __future__ import annotations

import ctypes as c
import mmap
import os
import struct
import threading
from pathlib import Path

from marsnet.errors import InputError
from marsnet.links.native import CAPTURE_BYTES, CCapture, core

_LINKTYPE_ETHERNET, _IF_NAME, _IF_TSRESOL, _NANOSECONDS = 1, 2, 9, b"\x09"


class Capture:
    """A capture that is running.

    Args:
        path: of the file, overwritten.
        offset_ns: from line time to the time written.
        interfaces: names of interface 0, where frames leave, and of interface 1, where they arrive.

    Raises:
        InputError: when the file cannot be written.
    """

    def __init__(self, path: Path, offset_ns: int, interfaces: tuple[str, str]) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"capture file {path}: {error.strerror}", remedy="name a writable file") from error
        self.error: OSError | None = None
        self._pages = mmap.mmap(-1, CAPTURE_BYTES)
        self._anchor = c.c_char.from_buffer(self._pages)
        self._event = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopped = False
        self.raw = CCapture(ring=c.addressof(self._anchor), offset=offset_ns, event=self._event)
        self._head = _block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1))  # version 1.0, length not stated
        self._head += b"".join(_interface(name) for name in interfaces)
        self._thread = threading.Thread(target=self._run, name="marsnet-capture", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left; for after the packet path has let go of it."""
        self._stopped = True
        os.eventfd_write(self._event, 1)
        self._thread.join()
        os.close(self._event)
        os.close(self._file)

    def _run(self) -> None:
        drained, more = 0, core().capture_drained
        self._write(self._head)
        with memoryview(self._pages) as ring:
            while True:
                last = self._stopped
                while (written := more(c.byref(self.raw), drained)) > drained:
                    start = drained % CAPTURE_BYTES
                    end = min(start + written - drained, CAPTURE_BYTES)
                    self._write(ring[start:end])
                    drained += end - start
                if last:
                    return
                os.eventfd_read(self._event)

    def _write(self, data: bytes | memoryview) -> None:
        while len(data) and self.error is None:
            try:
                data = data[os.write(self._file, data) :]
            except OSError as error:
                self.error = error


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _interface(name: str) -> bytes:
    options = _option(_IF_NAME, name.encode()) + _option(_IF_TSRESOL, _NANOSECONDS) + bytes(4)
    return _block(1, struct.pack("=HHI", _LINKTYPE_ETHERNET, 0, 0) + options)
