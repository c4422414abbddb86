"""Ways for a request to go wrong on a line to the emulator."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.faulty_line import Arrival, Exchange, Way

__all__ = [
    "answered",
    "bare",
    "edited",
    "hanging",
    "http",
    "lost",
    "on_arrival",
    "second_answer",
    "sending",
    "trickling",
    "zipped",
]


def http(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer as it is sent.

    :param length: what Content-Length says, if not the truth; negative for none.
    """
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {size}"] if size >= 0 else [])]
    return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape") + body


def lost(*, takes_effect: bool, how: str) -> Way:
    """The request is read, and then the connection ends."""

    def go(exchange: Exchange) -> None:
        if takes_effect:
            exchange.pass_on()
        exchange.reset() if how == "reset" else exchange.close()

    return go


def hanging(*, takes_effect: bool, after: bytes = b"") -> Way:
    """Some bytes at most are answered, and then nothing more."""

    def go(exchange: Exchange) -> None:
        if takes_effect:
            exchange.pass_on()
        exchange.send(after)
        exchange.hang()

    return go


def answered(make: Callable[[bytes], bytes], *, keeps: bool = False) -> Way:
    """The request takes effect, and its answer's body is sent in another form."""

    def go(exchange: Exchange) -> None:
        exchange.send(make(exchange.pass_on()[1]))
        if not keeps:
            exchange.close()

    return go


def sending(data: bytes, *, keeps: bool = False) -> Way:
    """These bytes are the answer, and the request has no effect."""

    def go(exchange: Exchange) -> None:
        exchange.send(data)
        if not keeps:
            exchange.close()

    return go


def bare(body: Any, *headers: str, status: str = "200 OK") -> Way:
    """This JSON is the answer, and the request has no effect."""
    return sending(http(json.dumps(body).encode(), *headers, status=status), keeps=True)


def edited(edit: Callable[[dict[str, Any]], Any]) -> Way:
    """The request takes effect, and its answer is changed: of a listing, the operation A in it."""

    def go(exchange: Exchange) -> None:
        payload = exchange.payload()
        if exchange.request.method == "list":
            payload["operations"] = [
                edit(each) if each["name"].endswith("/A") else each for each in payload["operations"]
            ]
        else:
            payload = edit(payload)
        exchange.send(http(json.dumps(payload).encode()))

    return go


def zipped(body: bytes, status: str) -> Way:
    """This body is the answer, compressed, and the request has no effect."""
    return sending(http(gzip.compress(body), "Content-Encoding: gzip", status=status), keeps=True)


def trickling(*, step: float, steps: int) -> Way:
    """The answer comes byte by byte, and the client's clock goes on with each of the first; then it is sent whole.

    :param step: seconds of the clock.
    :param steps: how many.
    """

    def go(exchange: Exchange) -> None:
        data = http(exchange.pass_on()[1])
        head = data.index(b"\r\n\r\n") + 4
        exchange.send(data[:head])
        rest = data[head:]
        for position in range(steps):
            exchange.clock.advance(step)
            exchange.send(rest[position : position + 1])
            if not exchange.wait(0.01) or not exchange.client_is_there:
                return
        exchange.send(rest[steps:])

    return go


def second_answer(answer: bytes, *, later: bool) -> Way:
    """The true answer is followed by one that nobody asked for."""

    def go(exchange: Exchange) -> None:
        first = http(exchange.pass_on()[1])
        if not later:
            exchange.send(first + answer)
            return
        exchange.send(first)
        exchange.instead = answer

    return go


def on_arrival(how: str) -> Arrival:
    """What becomes of a connection before a request is read."""

    def go(client: socket.socket) -> None:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.recv(1, socket.MSG_PEEK)
        elif how == "closed":
            client.recv(1, socket.MSG_PEEK)
            client.shutdown(socket.SHUT_RDWR)
        elif how == "plain":
            client.recv(4096)
            client.sendall(http(b"This port speaks HTTP.", status="400 Bad Request"))
        elif how == "silent":
            with suppress(OSError):
                while client.recv(4096):
                    pass
        elif how != "left":
            raise ValueError(how)

    return go
