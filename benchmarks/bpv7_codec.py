"""How fast bundles are encoded, decoded, forwarded, secured and stored in one process.

    python benchmarks/bpv7_codec.py [--seconds 0.5] [--folder FOLDER]

Prints, for each payload size, operations/s: encoding a new bundle, decoding it with its checksums verified, decoding
it and encoding it as it is forwarded, signing and encrypting it, and storing it (in memory, and on the disk under
FOLDER with a commit every 100 bundles). The best of five rounds is shown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from marsnet.dtn.bpsec import Key, SecurityPolicy, SecurityRule
from marsnet.dtn.bpv7 import Bundle, CrcType, CreationTimestamp, Eid, ServiceClass, decode, encode
from marsnet.dtn.store import BundleStore

SIZES = (100, 1_000, 10_000, 100_000)
BATCH = 100
ROUNDS = 5
NODE = Eid.ipn(5, 0)
POLICY = SecurityPolicy([SecurityRule(integrity=Key("k", bytes(32)), confidentiality=Key("s", bytes(32)))])


def rate(operation: Callable[[], object], seconds: float) -> float:
    """Calls a second, the best of several rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        calls, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds / ROUNDS:
            for _ in range(20):
                operation()
            calls += 20
        best = max(best, calls / elapsed)
    return best


def make(size: int, crc_type: CrcType = CrcType.CRC32C) -> Bundle:
    """A bundle with a Hop Count and a class of service block."""
    stamp = CreationTimestamp(812_000_000_000, 1)
    return Bundle.create(
        Eid.ipn(977, 1),
        Eid.ipn(12, 3),
        bytes(size),
        stamp,
        86_400_000,
        crc_type=crc_type,
        service_class=ServiceClass.BULK,
    )


def forward(data: bytes) -> bytes:
    """What a node does to a bundle that it passes on."""
    return encode(decode(data).forwarded(NODE))


def storing(folder: Path | None, data: bytes) -> Callable[[], object]:
    """An operation that adds a bundle, with a commit for every hundredth, and deletes it after the next commit."""
    store = BundleStore(folder)
    numbers, stored = count(), list[int]()

    def add() -> None:
        number = next(numbers)
        added = store.add(
            data,
            bundle_id=number.to_bytes(8, "big"),
            source="ipn:977.1",
            destination="ipn:12.3",
            service_class=2,
            expiry=1e9,
            now=0.0,
        )
        assert added.key is not None
        stored.append(added.key)
        if len(stored) == BATCH:
            store.commit()
            for key in stored:
                store.delete(key)
            stored.clear()

    return add


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    options = parser.parse_args()
    names = ("encode", "decode", "decode CRC-16", "decode+forward", "protect", "accept", "store memory", "store disk")
    print(f"{'payload':>8}" + "".join(f"{name:>16}" for name in names))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for size in SIZES:
            bundle = make(size)
            data, short = encode(bundle), encode(make(size, CrcType.CRC16))
            secured = decode(encode(POLICY.protect(bundle, NODE)))
            assert POLICY.accept(secured).bundle.payload == bytes(size)
            operations = (
                partial(encode, bundle),
                partial(decode, data),
                partial(decode, short),
                partial(forward, data),
                partial(POLICY.protect, bundle, NODE),
                partial(POLICY.accept, secured),
                storing(None, data),
                storing(Path(folder) / str(size), data),
            )
            figures = [rate(operation, options.seconds) for operation in operations]
            print(f"{size:>8}" + "".join(f"{figure:>14.0f}/s" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
