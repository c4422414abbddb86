"""One HTTP session: timeouts, retries, Retry-After, pace; an answer becomes a JSON object or an error of ours.

Loaded on first use, so that parsing a DAG file loads neither google.auth nor requests.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qs, quote_plus

import google.auth.credentials
import google.auth.exceptions
import requests
import requests.adapters
import urllib3
import urllib3.exceptions
from google.auth.transport.requests import AuthorizedSession

from airflow_provider_eeops import __version__
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.credentials import principal
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds, wait_before_retry
from airflow_provider_eeops.exceptions import (
    CODES,
    ApiError,
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)

__all__ = ["Transport"]

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
# Of a request for a token: what a page that repeats it must not show.
_SECRET_FIELDS = ("assertion", "client_secret", "refresh_token", "subject_token", "actor_token")


class _TokenServerBusyError(google.auth.exceptions.TransportError):
    """The token server could not answer now."""

    retry_after: float | None = None
    """Seconds it asked to wait, if it did."""


class _TokenAnswer(NamedTuple):
    """An answer of the token server, as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _TokenRequest:
    """What google-auth asks a token server with. It cannot be copied: google-auth would go on in a thread of its own.

    :param ask: makes the request.
    """

    def __init__(self, ask: Callable[..., _TokenAnswer]) -> None:
        self._ask = ask

    def __call__(self, *args: Any, **kwargs: Any) -> _TokenAnswer:
        return self._ask(*args, **kwargs)

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a way to a token server is not copied")


class _Call(NamedTuple):
    """One request, as often as it is sent."""

    method: str
    path: str
    operation_name: str | None
    params: Mapping[str, str] | None
    body: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """Sends requests to one API host with one set of credentials. Safe to use from several threads.

    :param credentials: google-auth credentials.
    :param base_url: scheme and host; the only place the token goes.
    :param pace: the pace of its requests, which it may share.
    :param proxies: proxies by scheme, as requests takes them.
    :param ca_bundle: path of CA certificates to trust instead of the default.
    :param pool_size: connections kept open.
    :param clock: what to wait on.
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
        self._token_session = requests.Session()
        # A refused token is refreshed here, once and under a lock, not by every thread on its own.
        self._session = AuthorizedSession(
            credentials, refresh_status_codes=(), auth_request=_TokenRequest(self._ask_token_server)
        )
        self._session.headers["User-Agent"] = f"airflow-provider-eeops/{__version__}"
        for session in (self._session, self._token_session):
            session.auth = _keep_headers
            adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=pool_size)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
        # Plain http goes to this machine; the environment's HTTP_PROXY would read the token.
        self._session.trust_env = not base_url.startswith("http://")

    @property
    def requests_per_second(self) -> float:
        """The full pace of its requests."""
        return self._pace.requests_per_second

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._token_session.close()

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
            token: str | None = getattr(self.credentials, "token", None)
            if not self.credentials.valid or (refused is not None and token == refused):
                self._fetch_token(budget, until, failures_before)
                token = getattr(self.credentials, "token", None)
            return token
        finally:
            self._token_lock.release()

    def _fetch_token(self, budget: Budget, until: float, failures_before: int) -> None:
        failure = self._token_failure
        if failure is not None and self._is_answered_by(failure, failures_before):
            raise _again(failure)
        try:
            self._refresh(budget, until)
        except CredentialsError as error:
            self._token_failures += 1
            self._token_failure, self._token_failed_at = _again(error), self._clock.monotonic()
            raise
        self._token_failure = None

    def _is_answered_by(self, failure: CredentialsError, failures_before: int) -> bool:
        """Whether to fetch a token again would ask what was answered while waiting, or refused a moment ago."""
        if self._token_failures != failures_before:
            return True
        return not failure.retryable and self._clock.monotonic() - self._token_failed_at < _REFUSAL_HOLDS

    def _refresh(self, budget: Budget, until: float) -> None:
        def request(*args: Any, **kwargs: Any) -> _TokenAnswer:
            # google-auth may send more than one; each has what is left.
            kwargs |= {"timeout": self._timeouts(budget, until), "until": until}
            return self._ask_token_server(*args, **kwargs)

        try:
            self.credentials.refresh(request)
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._no_token(error) from None
        except _NO_TOKEN_AT_ALL as error:
            raise self._no_token(error) from None
        except Exception as error:  # noqa: BLE001 - a source of credentials may be a program of the user's
            raise CredentialsError(f"no token for {principal(self.credentials)}: {_reason(error)}") from None
        if not _is_usable(getattr(self.credentials, "token", None)):
            self.credentials.token = None
            raise CredentialsError(
                f"no token for {principal(self.credentials)}: what the token server sent for one cannot be one"
            )

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
        more |= {"timeout": timeout, "stream": True, **self._route()}
        try:
            with self._token_session.request(method, url, data=body, headers=headers, **more) as response:
                content = b"".join(self._read(response, _LARGEST_ERROR, until))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise google.auth.exceptions.TransportError(error) from error
        if response.status_code != requests.codes.ok:
            content = _without_secrets(content, body)
        if response.status_code in _BUSY or (response.status_code != requests.codes.ok and _BUSY_WORDS.search(content)):
            told = f"HTTP {response.status_code} from the token server: {_shown(content)}"
            busy = _TokenServerBusyError(told)  # type: ignore[no-untyped-call]
            busy.retry_after = self._retry_after(response)
            raise busy
        return _TokenAnswer(response.status_code, response.headers, content)

    def _no_token(self, error: Exception) -> CredentialsError:
        if isinstance(error, _NO_TOKEN_AT_ALL):  # its text may be the token
            return CredentialsError(
                f"no token for {principal(self.credentials)}: the token server's answer is none"
                f" ({type(error).__name__})"
            )
        broken = isinstance(error, google.auth.exceptions.TransportError)
        told = error.args and (not broken or isinstance(error, _TokenServerBusyError))
        reason = " ".join(str(error.args[0]).split())[:_SHOWN] if told else _reason(error)
        return CredentialsError(
            f"no token for {principal(self.credentials)}: {reason}",
            retryable=broken or bool(getattr(error, "retryable", False)),
            retry_after=getattr(error, "retry_after", None),
        )

    def _route(self) -> dict[str, Any]:
        """Give each request its route: the environment's proxies and certificates win over those of a session."""
        route: dict[str, Any] = {"allow_redirects": False}
        if self._proxies:
            route["proxies"] = dict(self._proxies)  # requests adds to it
        if self._ca_bundle:
            route["verify"] = self._ca_bundle
        return route

    def _timeouts(self, budget: Budget, until: float) -> urllib3.Timeout:
        remaining = max(until - self._clock.monotonic(), _LEAST_TIMEOUT)
        return urllib3.Timeout(total=remaining, connect=budget.connect_timeout, read=budget.read_timeout)

    def _send(self, call: _Call, token: str | None, budget: Budget, until: float) -> dict[str, Any]:
        content_type = {} if call.body is None else {"Content-Type": "application/json"}
        try:
            with self._session.request(
                call.method,
                f"{self._base_url}/{call.path}",
                params=call.params,
                data=call.body,
                headers={"Accept": "application/json", **content_type},
                timeout=self._timeouts(budget, until),
                stream=True,
                **self._route(),
            ) as response:
                content = b"".join(self._read(response, _LARGEST_ANSWER if response.ok else _LARGEST_ERROR, until))
        except google.auth.exceptions.GoogleAuthError as error:  # the session renews a token that expires just now
            raise self._no_token(error) from None
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise ConnectionFailedError(f"{call} at {self._base_url}: no answer ({_reason(error)}).") from None
        except _NO_TOKEN_AT_ALL as error:  # so may that
            raise self._no_token(error) from None
        if token:  # a proxy's page may repeat the request
            content = content.replace(token.encode(), b"[token]")
        return self._answer(call, response, content)

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
        self._session.close()
        what = f"a redirect to {_origin(response)}" if response.is_redirect else _shown(content)
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


def _is_usable(token: object) -> bool:
    """Whether it can be sent as a token, and found again where it must not be shown."""
    return isinstance(token, str) and re.fullmatch(r"[!-~]+", token) is not None


def _without_secrets(content: bytes, sent: bytes | str | None) -> bytes:
    """Take out of a page what it repeats of the request for a token."""
    text = sent.decode("utf-8", "replace") if isinstance(sent, bytes) else sent or ""
    fields = parse_qs(text)
    for secret in (value for name in _SECRET_FIELDS for value in fields.get(name, ())):
        for form in (secret, quote_plus(secret)):
            content = content.replace(form.encode(), b"[secret]")
    return content


def _api_error(
    call: _Call, http_status: int, error: Mapping[str, Any], content: bytes, retry_after: float | None
) -> ApiError:
    status = str(error.get("status") or _STATUS_BY_HTTP.get(http_status, "UNKNOWN"))
    message = error.get("message")
    details = error.get("details")
    cls = FailedPreconditionError if status == "FAILED_PRECONDITION" else _ERRORS.get(http_status, ApiError)
    return cls(
        message if isinstance(message, str) else _shown(content),
        http_status=http_status,
        status=status if status in CODES else "UNKNOWN",
        operation_name=call.operation_name,
        details=details if isinstance(details, list) else (),
        retry_after=retry_after,
    )


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


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Be the session's auth: without one, requests would let a .netrc entry replace the token."""
    return request


def _reason(error: BaseException) -> str:
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
