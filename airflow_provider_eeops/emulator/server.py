"""HTTP: requests in, answers out, connections broken on request."""

import asyncio
import ipaddress
import json
import math
import socket
import struct
import threading
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from airflow_provider_eeops.emulator import api, control
from airflow_provider_eeops.emulator.answers import Answer, with_fault
from airflow_provider_eeops.emulator.faults import Fault
from airflow_provider_eeops.emulator.identity import DEFAULT_EMAIL, DEFAULT_USER
from airflow_provider_eeops.emulator.requests_log import RequestRecord, without_secrets
from airflow_provider_eeops.emulator.routes import CONTROL_PREFIX, match
from airflow_provider_eeops.emulator.service import Emulator

__all__ = ["EmulatorServer"]

_WAIT_STEP_SECONDS = 0.02
_TRICKLE_STEP_SECONDS = 0.05
_SHUTDOWN_SECONDS = 0.5
_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() then sends RST
_AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/emulator"
_FORMS = frozenset({"token", "sts"})


class EmulatorServer:
    """Serves an emulator over HTTP from a thread of its own, on a loopback address.

    :param port: 0 for a free one
    :raises ValueError: if the host is not a loopback address
    """

    def __init__(self, emulator: Emulator, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.emulator = emulator
        self._host = _loopback(host)
        self._port = port
        self._address: tuple[str, int] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    @property
    def base_url(self) -> str:
        """Address of the server, without a slash at the end."""
        if self._address is None:
            raise RuntimeError("the emulator's server has not been started")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Serve until `stop`.

        :raises OSError: if the port is taken
        """
        if self._thread is not None:
            raise RuntimeError("the emulator's server has been started already")
        listener = _listen(self._host, self._port)
        self._address = listener.getsockname()[:2]
        self._stopping = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)), name="earthengine-emulator", daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Stop serving and break what connections are left."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Credentials that lead here

    def service_account_info(self, email: str = DEFAULT_EMAIL) -> dict[str, Any]:
        """Service-account key, as the JSON file that Google hands out."""
        return self.emulator.service_account_info(email, token_uri=f"{self.base_url}/token")

    def authorized_user_info(self, user: str = DEFAULT_USER) -> dict[str, Any]:
        """User credentials, as gcloud writes them.

        google.oauth2's `from_authorized_user_info` ignores the `token_uri`; set it with `with_token_uri`.
        """
        return {
            "type": "authorized_user",
            "client_id": "emulator.apps.googleusercontent.com",
            "client_secret": "emulator",
            "refresh_token": self.emulator.issue_refresh_token(user),
            "token_uri": f"{self.base_url}/token",
        }

    def external_account_info(self, subject_token_file: str, *, impersonate: str | None = None) -> dict[str, Any]:
        """Workload identity configuration.

        :param subject_token_file: file that holds a token from `Emulator.issue_subject_token`
        :param impersonate: email of a service account to impersonate
        """
        info: dict[str, Any] = {
            "type": "external_account",
            "audience": _AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.base_url}/v1/token",
            "credential_source": {"file": subject_token_file},
        }
        if impersonate is not None:
            info["service_account_impersonation_url"] = self.impersonation_url(impersonate)
        return info

    def impersonation_url(self, email: str) -> str:
        """Where a token of a service account is asked for."""
        return f"{self.base_url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"

    # The thread

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        # handler_cancellation: a client that leaves ends the hang or the wait it left.
        runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True, access_log=None),
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        body = await request.content.read(-1)
        query = dict(request.query)
        if path.startswith(CONTROL_PREFIX):
            verb, rest = request.method, path.removeprefix(CONTROL_PREFIX)
            return self._response(control.respond(self.emulator, verb, rest, query, body))
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = api.Request(
            call=match(request.method, path),
            query=query,
            headers=headers,
            body=body,
            identity=self.emulator.identify(headers),
            base_url=self.base_url,
        )
        record = _log(self.emulator, asked, request.method, path)
        fault = self.emulator.take_fault(asked.call.method, asked.call.name)
        if fault is None:
            answer = await self._answer(asked, record)
            record.status = answer.status
            return self._response(answer)
        return await self._go_wrong(fault, request, asked, record)

    async def _answer(self, asked: api.Request, record: RequestRecord) -> Answer:
        answer = api.respond(self.emulator, asked)
        record.name = answer.name or record.name
        await self._pause(self.emulator.latency)  # the effect comes first: a client that gives up does not undo it
        if asked.call.method == "wait" and answer.status == 200:  # noqa: PLR2004
            await self._until_done(asked.call.name or "", api.wait_seconds(asked.body))
            return api.latest(self.emulator, asked.call)
        return answer

    async def _until_done(self, name: str, seconds: float) -> None:
        # The emulator's clock may stand still, so the time to wait is measured with the loop's.
        deadline = asyncio.get_running_loop().time() + seconds
        while self.emulator.has(name) and not self.emulator.operation(name).get("done"):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or self._stopping.is_set():
                return
            await self._pause(min(left, _WAIT_STEP_SECONDS))

    async def _go_wrong(
        self, fault: Fault, request: web.BaseRequest, asked: api.Request, record: RequestRecord
    ) -> web.StreamResponse:
        answer = await self._answer(asked, record) if fault.lets_through else None
        if fault.action == "hang":
            await self._pause(fault.seconds or math.inf)
        elif fault.action != "trickle":
            await self._pause(fault.seconds)
        if fault.action in {"reset_before", "reset_after", "hang"}:
            return _reset(request)
        answer = with_fault(fault, asked.call.method, answer)
        if fault.action == "half_body":
            return await self._send_half(request, answer)
        record.status = answer.status
        if fault.action == "trickle":
            return await self._trickle(request, answer, fault.seconds)
        return self._response(answer)

    def _headers(self, answer: Answer) -> dict[str, str]:
        """Headers of an answer, dated by the emulator's clock."""
        date = formatdate(self.emulator.clock(), usegmt=True)
        return {"Content-Type": answer.content_type, "Date": date, **answer.headers}

    def _response(self, answer: Answer) -> web.Response:
        return web.Response(body=answer.body, status=answer.status, headers=self._headers(answer))

    async def _begin(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        headers = {**self._headers(answer), "Content-Length": str(len(answer.body))}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        return response

    async def _send_half(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = await self._begin(request, answer)
        await response.write(answer.body[: len(answer.body) // 2])
        if request.transport is not None:
            request.transport.close()  # sends what is written, then FIN
        return response

    async def _trickle(self, request: web.BaseRequest, answer: Answer, seconds: float) -> web.StreamResponse:
        response = await self._begin(request, answer)
        pieces = max(1, min(len(answer.body), math.ceil(seconds / _TRICKLE_STEP_SECONDS)))
        size = math.ceil(len(answer.body) / pieces)
        for start in range(0, len(answer.body), size or 1):
            await self._pause(seconds / pieces)
            await response.write(answer.body[start : start + size])
        await response.write_eof()
        return response

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _loopback(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the emulator serves on a loopback address only, not on {host!r}")
    return host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener


def _log(emulator: Emulator, asked: api.Request, verb: str, path: str) -> RequestRecord:
    identity = asked.identity
    principal = None if identity is None else identity.principal
    headers = dict(asked.headers)
    if "authorization" in headers:
        headers["authorization"] = principal or "<refused>"
    return emulator.record(
        method=asked.call.method,
        verb=verb,
        path=path,
        query=dict(asked.query),
        name=asked.call.name,
        principal=principal,
        scopes=() if identity is None or identity.scopes is None else identity.scopes,
        headers=headers,
        body=_readable(asked.call.method, asked.body),
    )


def _readable(method: str, body: bytes) -> Any:
    if not body:
        return None
    if method in _FORMS:
        return without_secrets(api.form_of(body))
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    return web.Response()
