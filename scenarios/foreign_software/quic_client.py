"""Sends octets over QUIC (aioquic) and waits for their number to come back. It knows nothing of marsnet."""

import argparse
import asyncio
import ssl
import sys
import time

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--initial-rtt", type=float, default=0.1)
    parser.add_argument("--idle-timeout", type=float, default=60.0)
    parser.add_argument("host")
    parser.add_argument("octets", type=int)
    options = parser.parse_args()
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=["count"],
        verify_mode=ssl.CERT_NONE,
        idle_timeout=options.idle_timeout,
        initial_rtt=options.initial_rtt,
    )
    began = time.monotonic()
    async with connect(options.host, 4433, configuration=configuration) as connection:
        print(f"connected after {time.monotonic() - began:.3f} s", flush=True)
        reader, writer = await connection.create_stream()
        writer.write(bytes(options.octets))
        writer.write_eof()
        counted = int(await reader.read())
        if counted != options.octets:
            sys.exit(f"only {counted} octets have arrived")
        print(f"sent {counted} octets in {time.monotonic() - began:.3f} s", flush=True)


asyncio.run(main())
