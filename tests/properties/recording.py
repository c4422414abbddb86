"""A server that keeps each request as it came over the socket, before anything could tidy it up."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["DONE", "RecordingServer"]

DONE: dict[str, Any] = {"done": True, "response": {}, "operations": []}
"""An answer that ends every call: an operation that succeeded, and a listing with nothing in it."""


class RecordingServer:
    """Answers each request with what it was told to, the last answer for ever.

    :param answers: JSON values, or bytes that are sent as they are.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [DONE]
        self.lines: list[bytes] = []
        self._lock = threading.Lock()
        recorder = self

        class _Handler(BaseHTTPRequestHandler):
            raw_requestline: bytes
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1
            timeout = 30

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                content = recorder._next(self.raw_requestline)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = _answer  # noqa: N815

            def log_message(self, *_args: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def _next(self, line: bytes) -> bytes:
        with self._lock:
            self.lines.append(line)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def take(self) -> list[bytes]:
        """The request lines since it was last asked."""
        with self._lock:
            lines, self.lines = self.lines, []
        return lines

    @property
    def base_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
