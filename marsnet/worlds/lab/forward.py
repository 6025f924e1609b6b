"""Makes a port inside a lab reachable from outside: `python -m marsnet.worlds.lab.forward LAB --to 127.0.0.1:9090`.

The listening socket is made where the program starts; then the program moves into the lab's namespace and makes its
connections there. Sockets stay in the namespace they were made in. Being inside, it ends with the lab.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from contextlib import suppress

from marsnet.errors import InputError
from marsnet.worlds.lab import namespace, spec

_CHUNK = 65536


def endpoint(text: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
        InputError: when the text is no such pair.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"{text!r} is no address", remedy="write host and port, as in 127.0.0.1:9090")
    return host, int(port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def serve(listener: socket.socket, target: tuple[str, int]) -> None:
    """Join every connection that the listener accepts to a new one to the target, in both directions."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    server = await asyncio.start_server(join, sock=listener)
    host, port = listener.getsockname()[:2]
    print(f"forwarding {host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Forward until the process is ended."""
    parser = argparse.ArgumentParser(description="Make a port inside a lab reachable from outside.")
    parser.add_argument("lab")
    parser.add_argument("--to", required=True, type=endpoint, help="address inside the lab")
    parser.add_argument("--listen", default=("127.0.0.1", 0), type=endpoint, help="address outside; port 0 is any")
    parser.add_argument("--home-fd", type=int, help="descriptor of the namespace to listen in")
    arguments = parser.parse_args()
    if arguments.home_fd is not None:
        namespace.enter_fd(arguments.home_fd)
    listener = socket.create_server(arguments.listen)
    inside = os.open(namespace.path(spec.namespace_name(arguments.lab)), os.O_RDONLY)
    namespace.enter_fd(inside)
    asyncio.run(serve(listener, arguments.to))


if __name__ == "__main__":
    main()
