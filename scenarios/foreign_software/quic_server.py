"""Takes streams over QUIC (aioquic) and answers each with the number of its octets. It knows nothing of marsnet."""

import argparse
import asyncio
import datetime

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate():
    """A key, and a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "earth")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + 30 * day)
    return made.sign(key, hashes.SHA256()), key


async def answer(reader, writer):
    data = await reader.read()
    print(f"{len(data)} octets", flush=True)
    writer.write(str(len(data)).encode())
    writer.write_eof()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--initial-rtt", type=float, default=0.1)
    parser.add_argument("--idle-timeout", type=float, default=60.0)
    options = parser.parse_args()
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=["count"],
        idle_timeout=options.idle_timeout,
        initial_rtt=options.initial_rtt,
    )
    configuration.certificate, configuration.private_key = certificate()
    await serve(
        "0.0.0.0",  # noqa: S104
        4433,
        configuration=configuration,
        stream_handler=lambda reader, writer: asyncio.ensure_future(answer(reader, writer)),
    )
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
