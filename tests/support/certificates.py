"""Certificates for TLS on this machine: a good one, and some that are not."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificates"]


class Certificates:
    """An authority, and what it signs.

    :param folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the authority of the tests")
        self._certificate = self._sign(self._key, self._name, self._name, self._key, "127.0.0.1", days=1, ca=True)
        path = folder / "authority.pem"
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self.authority = str(path)
        self.context = cache(self._context)

    def _context(self, kind: str) -> ssl.SSLContext:
        """Make a server's context.

        :param kind: good, self-signed, other host or expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("the server of the tests")
        alone = kind == "self-signed"
        certificate = self._sign(
            key,
            subject,
            subject if alone else self._name,
            key if alone else self._key,
            "127.0.0.2" if kind == "other host" else "127.0.0.1",
            days=-1 if kind == "expired" else 1,
        )
        path = self._folder / f"{kind}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    @staticmethod
    def _sign(
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        issuer: x509.Name,
        issuers_key: ec.EllipticCurvePrivateKey,
        host: str,
        *,
        days: int,
        ca: bool = False,
    ) -> x509.Certificate:
        now = dt.datetime.now(tz=dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=3))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key()), critical=False)
            .sign(issuers_key, hashes.SHA256())
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
