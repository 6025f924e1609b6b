"""TLS 1.3 for TCPCL sessions: contexts, node ids in certificates, and certificates for a laboratory.

A certificate names its node by a subject alternative name of the form bundleEID, and may be limited to bundle security
by its extended key usage (RFC 9174 section 4.4.2).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from marsnet.errors import InputError

BUNDLE_EID = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")
"""id-on-bundleEID: a subject alternative name that holds an EID."""
BUNDLE_SECURITY = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")
"""id-kp-bundleSecurity: an extended key usage."""
_IA5_STRING = 0x16


def _der_ia5(text: str) -> bytes:
    octets = text.encode("ascii")
    if len(octets) < 0x80:
        return bytes((_IA5_STRING, len(octets))) + octets
    size = len(octets).to_bytes((len(octets).bit_length() + 7) // 8, "big")
    return bytes((_IA5_STRING, 0x80 | len(size))) + size + octets


def _from_der_ia5(value: bytes) -> str | None:
    if len(value) < 2 or value[0] != _IA5_STRING:
        return None
    head = 2 + (value[1] & 0x7F if value[1] & 0x80 else 0)
    size = int.from_bytes(value[2:head], "big") if value[1] & 0x80 else value[1]
    text = value[head:]
    return text.decode("ascii", "replace") if len(text) == size else None


def node_ids(certificate: bytes) -> tuple[str, ...]:
    """The node ids that a certificate (DER) names, empty when it is no certificate or names none."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    others = names.get_values_for_type(x509.OtherName)
    found = (_from_der_ia5(name.value) for name in others if name.type_id == BUNDLE_EID)
    return tuple(text for text in found if text is not None)


def tls_context(*, server: bool, certificate: Path, key: Path, authorities: Path) -> ssl.SSLContext:
    """A context for one end: TLS 1.3, both ends show a certificate of the authorities. Host names are not compared,
    because node ids are.

    Raises:
        InputError: when a file is missing or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    for what, path in (("certificate", certificate), ("key", key), ("authorities", authorities)):
        if not path.is_file():
            raise InputError(f"TLS {what} {str(path)!r} is no file", remedy="name a PEM file")
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:
        raise InputError(f"TLS files for {certificate}: {error.reason or error}", remedy="name PEM files") from error
    return context


@dataclass(frozen=True, slots=True)
class LabAuthority:
    """A certificate authority for a laboratory; its key is meant to live as long as a run.

    Attributes:
        certificate: of the authority.
        key: of the authority.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def create(days: int = 30) -> LabAuthority:
        """A new authority that is valid for some days, from a day before now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "marsnet laboratory")])
        builder = _builder(name, name, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        return LabAuthority(builder.sign(key, hashes.SHA256()), key)

    def issue(self, folder: Path, node_id: str, *, days: int = 30) -> tuple[Path, Path, Path]:
        """Write a key, a certificate for a node id, and the authority's certificate into a folder.

        Returns:
            The paths of the certificate, the key and the authority's certificate (PEM).

        Raises:
            InputError: when the node id is not ASCII.
        """
        if not node_id.isascii():
            raise InputError(f"node id {node_id!r} is not ASCII", remedy="write an EID, like ipn:2.0")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id[:64])])
        eid = x509.OtherName(BUNDLE_EID, _der_ia5(node_id))
        usages = [BUNDLE_SECURITY, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(subject, self.certificate.subject, key.public_key(), days)
        builder = builder.add_extension(x509.SubjectAlternativeName([eid]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self.key, hashes.SHA256())
        paths = folder / "node.crt", folder / "node.key", folder / "authority.crt"
        encoding = serialization.Encoding.PEM
        paths[0].write_bytes(certificate.public_bytes(encoding))
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        paths[2].write_bytes(self.certificate.public_bytes(encoding))
        return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=days + 1))
