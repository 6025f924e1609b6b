"""Sends or receives bundles of pyD3TN, one in a datagram (RFC 7122). It knows nothing of marsnet."""

import hashlib
import socket
import sys
import time

from pyd3tn.bundle7 import EID, Bundle, CRCType, CreationTimestamp, PayloadBlock, PrimaryBlock

PORT = 24556
"""The usual one, 4556, is marsnet's own."""


def send(count, host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for sequence in range(count):
            data = f"bundle {sequence} ".encode() * 50
            primary = PrimaryBlock(
                crc_type=CRCType.CRC32,
                destination=EID("ipn:1.7"),
                source=EID("ipn:2.7"),
                creation_time=CreationTimestamp(time.time(), sequence),
                lifetime=86_400_000,
            )
            bundle = Bundle([primary, PayloadBlock(hashlib.blake2b(data, digest_size=16).digest() + data)])
            out.sendto(bytes(bundle), (host, PORT))


def receive(count):
    intact = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.bind(("", PORT))
        for _ in range(count):
            bundle = Bundle.parse(into.recv(65536))
            data = bundle.payload_block.data
            intact += hashlib.blake2b(data[16:], digest_size=16).digest() == data[:16]
            stamp = bundle.primary_block.creation_time
            print(f"{bundle.primary_block.source} {stamp[0]}-{stamp[1]}: {len(data)} octets", flush=True)
    print(f"{count} bundles, {'all' if intact == count else intact} intact", flush=True)


if sys.argv[1] == "send":
    send(int(sys.argv[2]), sys.argv[3])
else:
    receive(int(sys.argv[2]))
