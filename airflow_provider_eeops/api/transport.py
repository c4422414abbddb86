"""Requests to the API: timeouts, retries, Retry-After, pace; an answer becomes a JSON object or an error of ours.

Loaded on first use, so that parsing a DAG file loads neither google.auth nor requests.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.request import getproxies

import google.auth.credentials
import requests
import urllib3.exceptions

from airflow_provider_eeops import __version__
from airflow_provider_eeops.api import sessions
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.observing import PACE_WAITS, RATE_LIMIT_WAITS, RETRIES, UNOBSERVED, Observer
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.retrying import Budget, wait_before_retry
from airflow_provider_eeops.api.secrecy import ConcealedMapping, Redaction, forget_passage, proxy_secrets
from airflow_provider_eeops.api.tokens import Tokens
from airflow_provider_eeops.exceptions import (
    CODES,
    AlreadyExistsError,
    ApiError,
    ConnectionFailedError,
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

__all__ = ["Transport"]

log = logging.getLogger(__name__)

_LARGEST_ANSWER = 64 * 1024 * 1024
_UNAUTHORIZED = 401
_SHORT_HOLD = 1.0  # seconds, after a 429 that says nothing and is not sent again
_LONGEST_HOLD = 120.0  # seconds
_SHORTEST_WAIT = 0.001  # seconds; what takes less is no wait for one's turn

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


class _Call(NamedTuple):
    """One request, as often as it is sent."""

    method: str
    path: str
    operation_name: str | None
    params: Mapping[str, str] | None
    body: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def project(self) -> str:
        """The project it is about, as the path has it after the version."""
        return self.path.partition("/projects/")[2].partition("/")[0]

    @property
    def about(self) -> dict[str, Any]:
        """The fields that say so in the log."""
        return {"operation": self.operation_name, "project": self.project}


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
    :param observer: told of waits and of what is sent again; from any thread.
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
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.credentials = credentials
        self._base_url = base_url
        self._clock = clock
        self._proxies = proxies
        self._ca_bundle = ca_bundle
        self._pace = pace
        self._pool_size = pool_size
        self._observer = observer
        self._redaction = Redaction(_of_proxies(proxies))
        self._session = self._open_session()
        self._tokens = Tokens(
            credentials,
            redaction=self._redaction,
            proxies=proxies,
            ca_bundle=ca_bundle,
            pool_size=pool_size,
            clock=clock,
            on_secret=on_secret,
        )
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _open_session(self) -> requests.Session:
        # Not google-auth's AuthorizedSession: it sends the token elsewhere too, to ask in which regions it may be used.
        session = sessions.made_session(self._pool_size)
        session.headers["User-Agent"] = f"airflow-provider-eeops/{__version__}"
        session.mount("http://", sessions.LoopbackAdapter(pool_connections=1, pool_maxsize=self._pool_size))
        return session

    def _renew(self) -> None:
        """Open connections of its own in a forked process: on a shared one, each would read the other's answers."""
        sessions.abandon(self._session)
        self._session = self._open_session()

    @property
    def requests_per_second(self) -> float:
        """The full pace of its requests."""
        return self._pace.requests_per_second

    def close(self) -> None:
        """Close the connections."""
        sessions.close(self._session)
        self._tokens.close()

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
        if not self._wait_for_turn(call, patience=budget.begun(asked) - asked, until=budget.until):
            raise ConnectionFailedError(f"{call}: not sent, no time was left.")
        began = self._clock.monotonic()
        until = budget.begun(began)
        attempt = 0
        token = refused = None
        is_unclear = False
        while True:
            attempt += 1
            sent_at = self._clock.monotonic()
            try:
                token = self._tokens.have(refused, budget, until)
                return self._send(call, token, budget, until)
            except EarthEngineError as error:
                met = error
            met.follows_unclear = is_unclear
            is_unclear = is_unclear or isinstance(met, _UNCLEAR)
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
                    self._slow_down(call, met, wait or met.retry_after or _SHORT_HOLD, sent_at)
                if wait is None:
                    raise met
                http_status = getattr(met, "http_status", None)
                self._observer.count(RETRIES, http_status=str(http_status or "none"), project=call.project)
                if not isinstance(met, QuotaExceededError):
                    with log_fields(**call.about, http_status=http_status, seconds=wait):
                        log.info("%s Sending it again in %.1f s.", met, wait)
                self._clock.sleep(wait)
            if not self._wait_for_turn(call, patience=until - self._clock.monotonic(), until=budget.until):
                raise met

    def _wait_for_turn(self, call: _Call, *, patience: float, until: float | None) -> bool:
        began = self._clock.monotonic()
        is_free = self._pace.wait(patience=patience, until=until)
        waited = self._clock.monotonic() - began
        if waited >= _SHORTEST_WAIT:
            self._observer.time(PACE_WAITS, waited, project=call.project)
        return is_free

    def _slow_down(self, call: _Call, error: QuotaExceededError, seconds: float, sent_at: float) -> None:
        """Let one answer slow every thread down, not only the one that got it, and say so once."""
        seconds = min(seconds, _LONGEST_HOLD)
        self._observer.time(RATE_LIMIT_WAITS, seconds, project=call.project)
        slower = self._pace.hold(seconds, sent_at=sent_at)
        if slower is not None:
            with log_fields(**call.about, http_status=error.http_status, seconds=seconds):
                log.info("%s All requests wait %.1f s, and go on at %.0f a second.", error, seconds, slower)

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
                timeout=sessions.timeouts(budget, until - self._clock.monotonic()),  # type: ignore[arg-type] # requests takes urllib3's too
                stream=True,
                **sessions.route(url, self._proxies, self._ca_bundle),
            ) as response:
                limit = _LARGEST_ANSWER if response.ok else sessions.LARGEST_ERROR
                content = b"".join(sessions.read(response, limit, until, self._clock))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            failed = ConnectionFailedError(f"{call} at {self._base_url}: no answer ({sessions.reason(error)}).")
        except BaseException as error:
            forget_passage(error)
            raise
        else:
            content = self._redaction.content(content)  # a page may repeat the request
            return self._answer(call, response, content)
        raise failed  # not above: the error there has the request in it, and would go along as this one's context

    def _answer(self, call: _Call, response: requests.Response, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if response.status_code == requests.codes.ok and isinstance(answer, dict):
            return answer
        retry_after = sessions.retry_after(response, self._clock)
        error = answer.get("error") if isinstance(answer, dict) and isinstance(answer.get("error"), dict) else None
        # A proxy's page with 404 says nothing of the operation; one with 429 still says to slow down.
        if error is not None or response.status_code == requests.codes.too_many_requests:
            raise _api_error(call, response.status_code, error or {}, content, retry_after)
        # Whatever else comes on the connections of who answers so is nobody's answer: they are not used again.
        sessions.close(self._session)
        what = (
            f"a redirect to {self._redaction.text(_origin(response))[: sessions.SHOWN]}"
            if response.is_redirect
            else sessions.shown(content)
        )
        raise UnexpectedAnswerError(
            f"{call}: HTTP {response.status_code} with an answer that is not the API's: {what}.",
            http_status=response.status_code,
            retry_after=retry_after,
        )


_UNCLEAR = (ConnectionFailedError, UnavailableError, UnexpectedAnswerError)
"""After these the request may have taken effect."""


def _refuses_the_token(error: EarthEngineError) -> bool:
    """Whether it is a 401, of the API or of a proxy that says it in words of its own."""
    return isinstance(error, (UnauthenticatedError, UnexpectedAnswerError)) and error.http_status == _UNAUTHORIZED


def _api_error(
    call: _Call, http_status: int, error: Mapping[str, Any], content: bytes, retry_after: float | None
) -> ApiError:
    status = str(error.get("status") or _STATUS_BY_HTTP.get(http_status, "UNKNOWN"))
    message = error.get("message")
    details = error.get("details")
    told = message if isinstance(message, str) else sessions.shown(content)
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


def _origin(response: requests.Response) -> str:
    return (response.headers.get("Location") or "nowhere").split("?", 1)[0]
