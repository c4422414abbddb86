"""A server before the emulator that repeats what it was sent: pages, errors, redirects and proxies do."""

from __future__ import annotations

import html
import http.client
import json
import threading
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["EchoingServer", "Weather"]


class Weather(StrEnum):
    """What goes wrong."""

    FINE = "nothing goes wrong"
    TOKEN_REFUSED = "the token server refuses, repeating the request"
    TOKEN_PAGE = "the token server answers 403 with a page that repeats the request"
    TOKEN_BROKEN = "the token server answers 500 with a page that repeats the request"
    API_REFUSES = "the API answers 400, repeating the request in message and details"
    API_DENIES = "the API answers 403, repeating the request in message and details"
    API_BROKEN = "a page with 502 repeats the request"
    API_BUSY = "a page with 429 repeats the request"
    API_REDIRECTS = "a redirect has the token in its address"
    API_REPEATS = "a listing has the token for its next page and in every operation"
    PROXY_REFUSES = "a proxy answers 407, repeating the request"
    PROXY_FAILS = "the proxy is not there"
    HANGS_UP = "the line breaks"


class EchoingServer:
    """Stands before an emulator, passes on what it is not told to answer itself, and notes every URL.

    :param upstream: address of the emulator.
    """

    def __init__(self, upstream: str) -> None:
        self.weather = Weather.FINE
        self.urls: list[str] = []
        self._upstream = urlsplit(upstream).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        echoing = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                echoing.urls.append(self.path)
                # What is secret comes first, as errors show a beginning.
                first = f"{self.headers['Proxy-Authorization']}\n{self.headers['Authorization']}"
                echo = f"{first}\n{body.decode('utf-8', 'replace')}\n{self.headers}"
                told = echoing._answer(self.path, echo, self.headers.get("Authorization") or "")
                if told is None:
                    self.close_connection = True
                    return
                status, headers, content = (
                    echoing._pass_on(self.command, self.path, dict(self.headers), body)
                    if isinstance(told, _PassOn)
                    else told
                )
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do_CONNECT = _answer  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, {"Content-Type": answer.getheader("Content-Type") or "text/plain"}, answer.read()
        finally:
            connection.close()

    def _answer(self, path: str, echo: str, authorization: str) -> _Answer | _PassOn | None:
        """Status, headers and body; None to hang up."""
        if path.startswith("http://") or path.endswith(":443"):  # it is asked as a proxy
            return 407, {"Proxy-Authenticate": "Basic"}, _page(echo)
        of_token = path.endswith(("/token", ":generateAccessToken"))
        if self.weather is Weather.HANGS_UP and not of_token:
            return None
        answer = (_TOKEN_ANSWERS if of_token else _API_ANSWERS).get(self.weather)
        return answer(path, echo, authorization.removeprefix("Bearer ")) if answer else _PassOn()


class _PassOn:
    """Says to let the emulator answer."""


_Answer = tuple[int, dict[str, str], bytes]
_JSON = {"Content-Type": "application/json"}
_HTML = {"Content-Type": "text/html"}


def _page(echo: str) -> bytes:
    return f"<html><body>{html.escape(echo)}</body></html>".encode()


def _invalid_grant(_path: str, echo: str, _token: str) -> _Answer:
    return 400, _JSON, json.dumps({"error": "invalid_grant", "error_description": echo}).encode()


def _error(status: int) -> Callable[[str, str, str], _Answer]:
    def answer(_path: str, echo: str, token: str) -> _Answer:
        error = {"code": status, "message": f"Token {token} in {echo}", "details": [{"request": echo}]}
        return status, _JSON, json.dumps({"error": error}).replace("/", "\\/").encode()

    return answer


def _page_with(status: int) -> Callable[[str, str, str], _Answer]:
    return lambda _path, echo, token: (status, _HTML, _page(token + echo))


def _redirect(_path: str, _echo: str, token: str) -> _Answer:
    return 302, {"Location": f"https://elsewhere.example/{token}?token={token}"}, b""


def _repeat(path: str, echo: str, token: str) -> _Answer:
    metadata = {"state": "RUNNING", "description": token}
    if path.partition("?")[0].endswith("/operations"):
        page = {
            "operations": [{"name": "projects/one/operations/ECHO", "metadata": metadata}],
            "nextPageToken": token,
        }
        return 200, _JSON, json.dumps(page).encode()
    return 200, _JSON, json.dumps({"metadata": metadata, "done": True, "error": {"code": 3, "message": echo}}).encode()


_TOKEN_ANSWERS: dict[Weather, Callable[[str, str, str], _Answer]] = {
    Weather.TOKEN_REFUSED: _invalid_grant,
    Weather.TOKEN_PAGE: _page_with(403),
    Weather.TOKEN_BROKEN: _page_with(500),
}
_API_ANSWERS: dict[Weather, Callable[[str, str, str], _Answer]] = {
    Weather.API_REFUSES: _error(400),
    Weather.API_DENIES: _error(403),
    Weather.API_BROKEN: _page_with(502),
    Weather.API_BUSY: _page_with(429),
    Weather.API_REDIRECTS: _redirect,
    Weather.API_REPEATS: _repeat,
}
