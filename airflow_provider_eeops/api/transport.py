"""One HTTP session: timeouts, retries, Retry-After, pace; an answer becomes a JSON object or an error of ours.

Loaded on first use, so that parsing a DAG file loads neither google.auth nor requests.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qs
from urllib.request import getproxies

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from airflow_provider_eeops import __version__
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.credentials import principal
from airflow_provider_eeops.api.denials import explain_token
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds, wait_before_retry
from airflow_provider_eeops.api.secrecy import (
    ConcealedMapping,
    ConcealedText,
    Redaction,
    is_secret_name,
    proxy_secrets,
    secrets_in,
)
from airflow_provider_eeops.exceptions import (
    CODES,
    AlreadyExistsError,
    ApiError,
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    QueueFullError,
    QuotaExceededError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)

__all__ = ["LoopbackAdapter", "Transport", "close_connections", "reason", "route"]

log = logging.getLogger(__name__)

_LARGEST_ANSWER = 64 * 1024 * 1024
_LARGEST_ERROR = 64 * 1024
_CHUNK = 64 * 1024
_SHOWN = 200
_SIZES = ("Content-Length", "Transfer-Encoding")
_UNAUTHORIZED = 401
_LEAST_TIMEOUT = 0.1  # requests refuses a timeout of nothing
_SHORT_HOLD = 1.0  # seconds, after a 429 that says nothing and is not sent again
_LONGEST_HOLD = 120.0  # seconds
_REFUSAL_HOLDS = 1.0  # seconds in which a refused token is not asked for again

_ERRORS: Mapping[int, type[ApiError]] = {
    400: InvalidArgumentError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: UnavailableError,
    429: QuotaExceededError,
    500: UnavailableError,
    501: UnimplementedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


# What the token server may answer for now; google-auth would wait on a clock of its own.
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_WORDS = re.compile(rb'"error"\s*:\s*"(?:internal_failure|server_error|temporarily_unavailable)"')
# google-auth reads a token server's answer without a check that it is one.
_NO_TOKEN_AT_ALL = (ValueError, TypeError, LookupError, AttributeError)


# No TransportErrors: some of google-auth's credentials would catch these, sleep, and ask again by themselves.
class _NoTokenServerError(google.auth.exceptions.GoogleAuthError):
    """The token server could not be reached."""


class _TokenServerBusyError(google.auth.exceptions.GoogleAuthError):
    """The token server could not answer now."""

    retry_after: float | None = None
    """Seconds it asked to wait, if it did."""


class _Call(NamedTuple):
    """One request, as often as it is sent."""

    method: str
    path: str
    operation_name: str | None
    params: Mapping[str, str] | None
    body: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class _TokenAnswer:
    """What google-auth reads of an answer.

    :param status: the HTTP status.
    :param headers: its headers.
    :param data: its body.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class _TokenRequest(google.auth.transport.Request):
    """Asks a token server. That of google-auth logs the whole request at DEBUG, with what a token is given for.

    :param ask: makes the request.
    """

    def __init__(self, ask: Callable[..., _TokenAnswer]) -> None:
        self._ask = ask

    def __call__(self, *args: Any, **kwargs: Any) -> _TokenAnswer:
        return self._ask(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        # google-auth 2.50 and later would copy it to take the token to iamcredentials.googleapis.com behind our back,
        # past the proxies and the loopback; it does without if it cannot.
        raise TypeError("it is not to be copied")


def _secrets_sent(body: str | bytes | None, headers: Mapping[str, str] | None) -> Iterator[str]:
    """Find what a request for a token has in it that is secret: the grant, and a header that authorizes."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    for sent in (parse_qs(text), dict(headers or {})):
        yield from secrets_in({name: value for name, value in sent.items() if is_secret_name(name)})


def _of_proxies(proxies: Mapping[str, str] | None) -> Iterator[str]:
    for address in (*(proxies or {}).values(), *getproxies().values()):
        yield from proxy_secrets(address)


class Transport:
    """Sends requests to one API host with one set of credentials. Safe to use from several threads.

    :param credentials: google-auth credentials.
    :param base_url: scheme and host; the only place the token goes.
    :param pace: the pace of its requests, which it may share.
    :param proxies: proxies by scheme, as requests takes them.
    :param ca_bundle: path of CA certificates to trust instead of the default.
    :param pool_size: connections kept open.
    :param clock: what to wait on.
    :param on_secret: told each secret that is sent for a token, and the token; from any thread.
    """

    def __init__(
        self,
        credentials: google.auth.credentials.Credentials,
        *,
        base_url: str,
        pace: Pace,
        proxies: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
        pool_size: int = 32,
        clock: Clock = SYSTEM_CLOCK,
        on_secret: Callable[[str], None] | None = None,
    ) -> None:
        self.credentials = credentials
        self._base_url = base_url
        self._clock = clock
        self._proxies = proxies
        self._ca_bundle = ca_bundle
        self._pace = pace
        self._token_lock = threading.Lock()
        self._token_failures = 0
        self._token_failure: CredentialsError | None = None
        self._token_failed_at = 0.0
        self._pool_size = pool_size
        self._on_secret = on_secret
        self._redaction = Redaction(_of_proxies(proxies))
        self._open_sessions()
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _open_sessions(self) -> None:
        # Not google-auth's AuthorizedSession: it sends the token elsewhere too, to ask in which regions it may be used.
        self._session = self._made_session()
        self._session.headers["User-Agent"] = f"airflow-provider-eeops/{__version__}"
        self._session.mount("http://", LoopbackAdapter(pool_connections=1, pool_maxsize=self._pool_size))
        self._token_session = self._made_session()

    def _made_session(self) -> requests.Session:
        session = requests.Session()
        session.auth = _keep_headers
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # what one answer sets, no request sends
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=self._pool_size))
        return session

    def _renew(self) -> None:
        """Open connections of its own in a forked process: on a shared one, each would read the other's answers."""
        # Kept, and not closed: to close a pool takes a lock, which a thread of the parent may have held.
        _of_parents.append((self._session, self._token_session))
        self._token_lock = threading.Lock()
        self._open_sessions()

    @property
    def requests_per_second(self) -> float:
        """The full pace of its requests."""
        return self._pace.requests_per_second

    def close(self) -> None:
        """Close the connections."""
        close_connections(self._session)
        close_connections(self._token_session)

    def request(
        self,
        method: str,
        path: str,
        *,
        budget: Budget,
        operation_name: str | None = None,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send one request, again where that may help, and return the answer's JSON object.

        :param method: HTTP method.
        :param path: path below the base URL, from the version on.
        :param budget: what the call may spend.
        :param operation_name: the operation it is about, for the error.
        :param params: query parameters.
        :param body: JSON body.
        :raises EarthEngineError: :class:`~airflow_provider_eeops.exceptions.ApiError`, ConnectionFailedError,
            CredentialsError or UnexpectedAnswerError, of the last attempt.
        """
        call = _Call(method, path, operation_name, params, None if body is None else json.dumps(body))
        asked = self._clock.monotonic()
        if not self._pace.wait(patience=budget.begun(asked) - asked, until=budget.until):
            raise ConnectionFailedError(f"{call}: not sent, no time was left.")
        began = self._clock.monotonic()
        until = budget.begun(began)
        attempt = 0
        token = refused = None
        while True:
            attempt += 1
            sent_at = self._clock.monotonic()
            try:
                token = self._token(refused, budget, until)
                return self._send(call, token, budget, until)
            except EarthEngineError as error:
                met = error
            if refused is None and token is not None and _refuses_the_token(met):
                refused = token
                attempt -= 1
            else:
                now = self._clock.monotonic()
                wait = wait_before_retry(
                    met,
                    attempt=attempt,
                    elapsed=now - began,
                    budget=budget,
                    retry_after=getattr(met, "retry_after", None),
                    time_left=until - now,
                )
                if isinstance(met, QuotaExceededError):
                    self._slow_down(met, wait or met.retry_after or _SHORT_HOLD, sent_at)
                if wait is None:
                    raise met
                if not isinstance(met, QuotaExceededError):
                    log.info("%s Sending it again in %.1f s.", met, wait)
                self._clock.sleep(wait)
            if not self._pace.wait(patience=until - self._clock.monotonic(), until=budget.until):
                raise met

    def _slow_down(self, error: QuotaExceededError, seconds: float, sent_at: float) -> None:
        """Let one answer slow every thread down, not only the one that got it, and say so once."""
        seconds = min(seconds, _LONGEST_HOLD)
        slower = self._pace.hold(seconds, sent_at=sent_at)
        if slower is not None:
            log.info("%s All requests wait %.1f s, and go on at %.0f a second.", error, seconds, slower)

    def _token(self, refused: str | None, budget: Budget, until: float) -> str | None:
        """Have a token that is valid and not the refused one, fetched once however many threads ask."""
        failures_before = self._token_failures
        if not self._token_lock.acquire(timeout=min(max(until - self._clock.monotonic(), 0), threading.TIMEOUT_MAX)):
            raise CredentialsError(
                f"no token for {principal(self.credentials)}: another call was still fetching one when the time was"
                " over",
                retryable=True,
            )
        try:
            token = self._known_token()
            if not self.credentials.valid or (refused is not None and token == refused):
                self._fetch_token(budget, until, failures_before)
                token = self._known_token()
            return token
        finally:
            self._token_lock.release()

    def _known_token(self) -> str | None:
        token = getattr(self.credentials, "token", None)
        if not isinstance(token, str):
            return None
        self._learn(token)
        return ConcealedText(token)

    def _learn(self, *secrets: str) -> None:
        for secret in self._redaction.learn(*secrets):
            if self._on_secret is not None:
                self._on_secret(secret)

    def _fetch_token(self, budget: Budget, until: float, failures_before: int) -> None:
        failure = self._token_failure
        if failure is not None and self._is_answered_by(failure, failures_before):
            raise _again(failure)
        failed = self._refresh(budget, until)
        if failed is not None:
            self._token_failures += 1
            self._token_failure, self._token_failed_at = _again(failed), self._clock.monotonic()
            raise failed
        self._token_failure = None

    def _is_answered_by(self, failure: CredentialsError, failures_before: int) -> bool:
        """Whether to fetch a token again would ask what was answered while waiting, or refused a moment ago."""
        if self._token_failures != failures_before:
            return True
        return not failure.retryable and self._clock.monotonic() - self._token_failed_at < _REFUSAL_HOLDS

    def _refresh(self, budget: Budget, until: float) -> CredentialsError | None:
        """Return what went wrong; raised here, it would have the error with the request in it as its context."""

        def ask(*args: Any, **kwargs: Any) -> _TokenAnswer:
            # google-auth may send more than one; each has what is left.
            kwargs |= {"timeout": self._timeouts(budget, until), "until": until}
            return self._ask_token_server(*args, **kwargs)

        try:
            self.credentials.refresh(_TokenRequest(ask))
        except google.auth.exceptions.GoogleAuthError as error:
            return self._no_token(error)
        except _NO_TOKEN_AT_ALL as error:
            return self._no_token(error)
        except Exception as error:  # noqa: BLE001 - a source of credentials may be a program of the user's
            return CredentialsError(f"no token for {principal(self.credentials)}: {reason(error)}")
        if not self._has_usable_token():
            self.credentials.token = None
            return CredentialsError(
                f"no token for {principal(self.credentials)}: what the token server sent for one cannot be one"
            )
        return None

    def _has_usable_token(self) -> bool:
        """Whether what credentials have for a token can be sent as one, and found where it must not be shown."""
        token = getattr(self.credentials, "token", None)
        return isinstance(token, str) and re.fullmatch(r"[!-~]+", token) is not None

    def _ask_token_server(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = None,
        *,
        until: float = math.inf,
        **more: Any,
    ) -> _TokenAnswer:
        """Be google-auth's way to a token server: it follows no redirect, and reads no longer than there is time.

        :raises _TokenServerBusyError: the server cannot answer now; :meth:`request` decides on another try.
        """
        self._learn(*_secrets_sent(body, headers))
        more |= {"timeout": timeout, "stream": True, **self._route(url)}
        try:
            with self._token_session.request(method, url, data=body, headers=dict(headers or {}), **more) as response:
                content = b"".join(self._read(response, _LARGEST_ERROR, until))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise _NoTokenServerError(error) from error  # type: ignore[no-untyped-call]
        if response.status_code != requests.codes.ok:
            content = self._redaction.content(content)
        if response.status_code in _BUSY or (response.status_code != requests.codes.ok and _BUSY_WORDS.search(content)):
            told = f"HTTP {response.status_code} from the token server: {_shown(content)}"
            busy = _TokenServerBusyError(told, retryable=True)  # type: ignore[no-untyped-call]
            busy.retry_after = self._retry_after(response)
            raise busy
        return _TokenAnswer(response.status_code, response.headers, content)

    def _no_token(self, error: Exception) -> CredentialsError:
        if not isinstance(error, google.auth.exceptions.GoogleAuthError):  # its text may be the token
            return CredentialsError(
                f"no token for {principal(self.credentials)}: the token server's answer is none"
                f" ({type(error).__name__})"
            )
        broken = isinstance(error, (google.auth.exceptions.TransportError, _NoTokenServerError))
        told = error.args and not broken
        why = " ".join(str(error.args[0]).split()) if told else reason(error)
        missing = explain_token(str(error.args[1:]))
        return CredentialsError(
            f"no token for {principal(self.credentials)}: {self._redaction.text(why)[:_SHOWN]}"
            + (f" ({missing})" if missing else ""),
            retryable=broken or bool(getattr(error, "retryable", False)),
            retry_after=getattr(error, "retry_after", None),
        )

    def _route(self, url: str) -> dict[str, Any]:
        return route(url, proxies=self._proxies, ca_bundle=self._ca_bundle)

    def _timeouts(self, budget: Budget, until: float) -> urllib3.Timeout:
        remaining = max(until - self._clock.monotonic(), _LEAST_TIMEOUT)
        return urllib3.Timeout(total=remaining, connect=budget.connect_timeout, read=budget.read_timeout)

    def _send(self, call: _Call, token: str | None, budget: Budget, until: float) -> dict[str, Any]:
        headers = ConcealedMapping({"Accept": "application/json"})
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        self.credentials.apply(headers, token=token)
        url = f"{self._base_url}/{call.path}"
        failed: EarthEngineError
        try:
            with self._session.request(
                call.method,
                url,
                params=call.params,
                data=call.body,
                headers=headers,
                timeout=self._timeouts(budget, until),  # type: ignore[arg-type] # requests takes urllib3's too
                stream=True,
                **self._route(url),
            ) as response:
                content = b"".join(self._read(response, _LARGEST_ANSWER if response.ok else _LARGEST_ERROR, until))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            failed = ConnectionFailedError(f"{call} at {self._base_url}: no answer ({reason(error)}).")
        else:
            content = self._redaction.content(content)  # a page may repeat the request
            return self._answer(call, response, content)
        raise failed  # not above: the error there has the request in it, and would go along as this one's context

    def _read(self, response: requests.Response, limit: int, until: float) -> Iterator[bytes]:
        """Read as the bytes arrive, so that a body that trickles meets the deadline too."""
        size = 0
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            yield chunk
            size += len(chunk)
            if size >= limit:
                return
            if self._clock.monotonic() > until:
                raise requests.Timeout
        if (
            size == 0
            and response.status_code == requests.codes.ok
            and not any(header in response.headers for header in _SIZES)
        ):
            raise urllib3.exceptions.IncompleteRead(0, -1)  # http.client takes half a header for a whole one

    def _answer(self, call: _Call, response: requests.Response, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if response.status_code == requests.codes.ok and isinstance(answer, dict):
            return answer
        retry_after = self._retry_after(response)
        error = answer.get("error") if isinstance(answer, dict) and isinstance(answer.get("error"), dict) else None
        # A proxy's page with 404 says nothing of the operation; one with 429 still says to slow down.
        if error is not None or response.status_code == requests.codes.too_many_requests:
            raise _api_error(call, response.status_code, error or {}, content, retry_after)
        # Whatever else comes on the connections of who answers so is nobody's answer: they are not used again.
        close_connections(self._session)
        what = f"a redirect to {self._redaction.text(_origin(response))}" if response.is_redirect else _shown(content)
        raise UnexpectedAnswerError(
            f"{call}: HTTP {response.status_code} with an answer that is not the API's: {what}.",
            http_status=response.status_code,
            retry_after=retry_after,
        )

    def _retry_after(self, response: requests.Response) -> float | None:
        """Read a date by the clock that wrote it: this machine's may be an hour off."""
        date = response.headers.get("Date")
        now = None if date is None else retry_after_seconds(date, now=0.0)
        return retry_after_seconds(response.headers.get("Retry-After"), now=now or self._clock.time())


def _refuses_the_token(error: EarthEngineError) -> bool:
    """Whether it is a 401, of the API or of a proxy that says it in words of its own."""
    return isinstance(error, (UnauthenticatedError, UnexpectedAnswerError)) and error.http_status == _UNAUTHORIZED


def _api_error(
    call: _Call, http_status: int, error: Mapping[str, Any], content: bytes, retry_after: float | None
) -> ApiError:
    status = str(error.get("status") or _STATUS_BY_HTTP.get(http_status, "UNKNOWN"))
    message = error.get("message")
    details = error.get("details")
    told = message if isinstance(message, str) else _shown(content)
    cls = _BY_STATUS.get(status) or _ERRORS.get(http_status, ApiError)
    return (QueueFullError if _QUEUE_IS_FULL in told else cls)(
        told,
        http_status=http_status,
        status=status if status in CODES else "UNKNOWN",
        operation_name=call.operation_name,
        details=details if isinstance(details, list) else (),
        retry_after=retry_after,
    )


_BY_STATUS: Mapping[str, type[ApiError]] = {
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": FailedPreconditionError,
}

# Earth Engine's own words: the status that goes with them is not documented.
_QUEUE_IS_FULL = "Too many tasks already in the queue"

_STATUS_BY_HTTP: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _again(error: CredentialsError) -> CredentialsError:
    """Copy an error: one that several threads raise would gather all their tracebacks."""
    return CredentialsError(str(error), retryable=error.retryable, retry_after=error.retry_after)


_of_parents: list[tuple[requests.Session, requests.Session]] = []


def route(url: str, *, proxies: Mapping[str, str] | None, ca_bundle: str | None) -> dict[str, Any]:
    """Give a request its route: the environment's proxies and certificates win over those of a session.

    :param url: where it goes.
    :param proxies: proxies by scheme.
    :param ca_bundle: path of CA certificates to trust instead of the default.
    """
    given: dict[str, Any] = {"allow_redirects": False}
    if url.startswith("http://"):  # to this machine, or its cloud's metadata server: a proxy could read it
        given["proxies"] = dict.fromkeys(("http", "all"))
    elif proxies:
        given["proxies"] = dict(proxies)  # requests adds to it
    if ca_bundle:
        given["verify"] = ca_bundle
    return given


def close_connections(session: requests.Session) -> None:
    """Close the connections too: urllib3 leaves that to the end of the pool, which an error's traceback may hold."""
    for adapter in session.adapters.values():
        if isinstance(adapter, requests.adapters.HTTPAdapter):
            for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
                for key in manager.pools.keys():  # noqa: SIM118 - it is no mapping: to iterate over it is refused
                    pool = manager.pools.get(key)
                    if pool is not None:
                        pool.close()
    session.close()


class _LoopbackConnection(urllib3.connection.HTTPConnection):
    """Sends nothing in clear to another machine, whatever address ``localhost`` has."""

    def connect(self) -> None:
        super().connect()
        address = ipaddress.ip_address(self.sock.getpeername()[0])
        if not address.is_loopback:
            self.close()
            raise OSError(errno.EACCES, f"{self.host} is {address}, not this machine")


class _LoopbackPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _LoopbackConnection


class LoopbackAdapter(requests.adapters.HTTPAdapter):
    """Is for plain http, to this machine alone."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _LoopbackPool}


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Be the session's auth: without one, requests would let a .netrc entry replace the token."""
    return request


def reason(error: BaseException) -> str:
    """Name the innermost cause; the texts around it repeat addresses and may hold a proxy's password."""
    seen: list[BaseException] = [error]
    while True:
        last = seen[-1]
        inner = last.__cause__ or last.__context__ or getattr(last, "reason", None)
        inner = (
            inner
            if isinstance(inner, BaseException)
            else next((arg for arg in last.args if isinstance(arg, BaseException)), None)
        )
        if inner is None or inner in seen:
            break
        seen.append(inner)
    text = getattr(seen[-1], "strerror", None)
    name = type(seen[-1]).__name__
    return f"{name}: {text}" if text else name


def _origin(response: requests.Response) -> str:
    return (response.headers.get("Location") or "nowhere").split("?", 1)[0][:_SHOWN]


def _shown(content: bytes) -> str:
    if not content:
        return "an empty body"
    text = " ".join(content[: 4 * _SHOWN].decode("utf-8", "replace").split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
