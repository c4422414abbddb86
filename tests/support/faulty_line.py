"""A line to the emulator that misbehaves as no web server would: raw sockets, one thread a connection."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from airflow_provider_eeops.emulator.routes import match
from tests.support.clock import ManualClock

__all__ = ["Arrival", "Exchange", "FaultyLine", "Request", "Way"]

_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() then sends RST


@dataclass(frozen=True)
class Request:
    """One request, as it was read from the line.

    :param method: which call of the API, as in the emulator's log.
    """

    method: str
    verb: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Exchange:
    """One request and what can be done with it.

    :param request: the request.
    :param client: the connection it came on.
    :param line: the line.

    ``instead`` is what answers the next request on the connection.
    """

    def __init__(self, request: Request, client: socket.socket, line: FaultyLine) -> None:
        self.request = request
        self.is_over = False
        self.instead: bytes | None = None
        self._client = client
        self._line = line

    @property
    def clock(self) -> ManualClock:
        """The client's clock."""
        return self._line.clock

    def pass_on(self) -> tuple[int, bytes]:
        """Let the request take effect; return the status and the body of the emulator's answer."""
        connection = http.client.HTTPConnection(self._line.upstream, timeout=30)
        try:
            headers = {name: value for name, value in self.request.headers if name.lower() not in _BETWEEN_TWO}
            connection.request(self.request.verb, self.request.target, self.request.body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def payload(self) -> Any:
        """Let the request take effect; return the JSON of the answer."""
        return json.loads(self.pass_on()[1])

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        with suppress(OSError):  # the client has left
            self._client.sendall(data)

    def close(self) -> None:
        """End the connection after what was sent."""
        self.is_over = True
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break the connection."""
        self.is_over = True
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)

    def hang(self) -> None:
        """Say nothing until the client leaves."""
        _hang(self._client)

    def wait(self, seconds: float) -> bool:
        """Let time pass; return whether the line is still up."""
        return not self._line.stopping.wait(seconds)

    @property
    def client_is_there(self) -> bool:
        """Whether the client has not left."""
        try:
            return self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


_BETWEEN_TWO = frozenset({"host", "connection", "content-length", "accept-encoding"})

Way = Callable[[Exchange], None]
"""What becomes of a request on the line."""

Arrival = Callable[[socket.socket], None]
"""What becomes of a connection before a request is read."""


class FaultyLine:
    """Passes requests on to the emulator, but for those of one method, with which it goes another way.

    :param upstream: the emulator's base URL.
    :param method: the requests that go wrong, a method of the emulator's log.
    :param way: what becomes of them.
    :param arrival: what becomes of every connection, before a request is read.
    :param tls: the certificate to show; plain text without one.
    """

    def __init__(
        self,
        upstream: str,
        *,
        method: str = "",
        way: Way | None = None,
        arrival: Arrival | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.way = way
        self.arrival = arrival
        self.requests: list[Request] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.clock = ManualClock()
        self._method = method
        self._tls = tls
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def count(self, method: str) -> int:
        """How many requests of a method arrived."""
        return sum(request.method == method for request in self.requests)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="faulty-line", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._clients.add(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.arrival is not None:
                self.arrival(client)
            elif self._tls is None:
                self._talk(client)
            else:
                with self._tls.wrap_socket(client, server_side=True) as encrypted:
                    with self._lock:
                        self._clients.add(encrypted)
                    try:
                        self._talk(encrypted)
                    finally:
                        with self._lock:
                            self._clients.discard(encrypted)
        except OSError:  # the client has left, or does not trust the certificate
            pass
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()

    def _talk(self, client: socket.socket) -> None:
        with client.makefile("rb") as stream:
            instead = None
            while (request := _read(stream)) is not None:
                self.requests.append(request)
                exchange = Exchange(request, client, self)
                if instead is not None:
                    exchange.send(instead)
                    instead = None
                elif self.way is not None and request.method == self._method:
                    self.way(exchange)
                    if exchange.is_over:
                        return
                    instead = exchange.instead
                else:
                    status, body = exchange.pass_on()
                    exchange.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def _read(stream: Any) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3 or not first[2].startswith("HTTP/"):
        return None
    headers: list[tuple[str, str]] = []
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    verb, target, _ = first
    return Request(match(verb, urlsplit(target).path).method, verb, target, headers, stream.read(length))


def _hang(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(4096):
            pass
