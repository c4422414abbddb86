"""A network of our own: a proxy, behind it any host that is asked for, over TLS; it notes what each host was sent."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage, parse_headers
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Answer", "Internet", "Sent"]


@dataclass(frozen=True)
class Sent:
    """A request as a host, or the proxy, received it."""

    host: str
    method: str
    target: str
    headers: HTTPMessage
    body: bytes

    @property
    def everything(self) -> str:
        """All of it as text, to look for what must not be in there."""
        return f"{self.host} {self.method} {self.target}\n{self.headers}\n{self.body.decode('latin-1')}"


@dataclass(frozen=True)
class Answer:
    """What a host answers."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Internet:
    """Hosts by name, each answering as it was told to, and 404 if it was not.

    :param directory: for the certificate to trust.
    """

    def __init__(self, directory: Path) -> None:
        self.answers: dict[str, Callable[[Sent], Answer]] = {}
        self.connects: list[Sent] = []
        """What the proxy itself was told."""
        self.sent: list[Sent] = []
        """What the hosts were sent."""
        self._ca = _Authority(directory)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    @property
    def ca_bundle(self) -> str:
        """Path of the certificate that signed those of all hosts."""
        return str(self._ca.path)

    @property
    def proxy(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def hosts(self) -> set[str]:
        """Every host that was connected to."""
        return {sent.host for sent in [*self.connects, *self.sent]}

    def to(self, host: str) -> list[Sent]:
        """What one host was sent."""
        return [sent for sent in self.sent if sent.host == host]

    def holding(self, secret: str) -> set[str]:
        """Hosts that were sent a secret; the proxy is one if it could read it."""
        readers = {sent.host for sent in self.sent if secret in sent.everything}
        return readers | {"the proxy" for sent in self.connects if secret in sent.everything}

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="internet", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            with connection.makefile("rb") as stream:
                first = _read(stream, host="the proxy")
            if first is None:
                return
            if first.method != "CONNECT":  # in clear: the proxy reads all of it
                self.sent.append(first)
                self.connects.append(first)
                connection.sendall(_bytes(Answer(status=502)))
                return
            host = first.target.rpartition(":")[0]
            self.connects.append(Sent(host, first.method, first.target, first.headers, first.body))
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with closing(self._ca.context(host).wrap_socket(connection, server_side=True)) as inside:
                self._open.add(inside)
                self._be(host, inside)

    def _be(self, host: str, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while (sent := _read(stream, host=host)) is not None:
                self.sent.append(sent)
                connection.sendall(_bytes(self.answers.get(host, _not_found)(sent)))


def _not_found(_sent: Sent) -> Answer:
    return Answer({"error": {"code": 404, "status": "NOT_FOUND", "message": "No such thing."}}, status=404)


def _read(stream: BufferedIOBase, *, host: str) -> Sent | None:
    line = stream.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = parse_headers(stream)
    return Sent(host, line[0], line[1], headers, stream.read(int(headers.get("Content-Length", 0))))


def _bytes(answer: Answer) -> bytes:
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    lines = [f"HTTP/1.1 {answer.status} So", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class _Authority:
    """Signs a certificate for any host.

    :param directory: for its own, and the hosts'.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "authority.pem"
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of the tests")])
        own = self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.path.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, host: str) -> ssl.SSLContext:
        """What a server needs to be that host."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made(host)
            return self._contexts[host]

    def _made(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(
            x509.Name([]), key, x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True
        )
        path = self._directory / f"host-{len(self._contexts)}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        *,
        critical: bool = True,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=critical)
            .sign(self._key, hashes.SHA256())
        )
