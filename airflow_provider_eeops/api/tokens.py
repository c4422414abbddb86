"""Access tokens: had once however many threads ask, and only as long as a call has time.

Loaded on first use, as :mod:`.transport` is.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.credentials
import google.auth.exceptions
import requests
import urllib3.exceptions

from airflow_provider_eeops.api import sessions
from airflow_provider_eeops.api.asking import Answer, Asking
from airflow_provider_eeops.api.clock import Clock
from airflow_provider_eeops.api.credentials import principal
from airflow_provider_eeops.api.denials import explain_token
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.secrecy import ConcealedText, Redaction, forget_passage, is_secret_name, secrets_in
from airflow_provider_eeops.exceptions import CredentialsError

__all__ = ["Tokens"]

_REFUSAL_HOLDS = 1.0  # seconds in which a refused token is not asked for again

# What the token server may answer for now; google-auth would wait on a clock of its own.
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_WORDS = re.compile(rb'"error(?:_description)?"\s*:\s*"(?:internal_failure|server_error|temporarily_unavailable)"')
# What a program wrote that failed may be the token it was asked for.
_SAID_BY_A_PROGRAM = re.compile(r"(?<=\d)\. Error: .*")
# google-auth reads a token server's answer without a check that it is one.
_NO_TOKEN_AT_ALL = (ValueError, TypeError, LookupError, AttributeError)


# No TransportErrors: some of google-auth's credentials would catch these, sleep, and ask again by themselves.
class _NoTokenServerError(google.auth.exceptions.GoogleAuthError):
    """The token server could not be reached."""

    host: str | None = None
    """Which one."""


class _TokenServerBusyError(google.auth.exceptions.GoogleAuthError):
    """The token server could not answer now."""

    retry_after: float | None = None
    """Seconds it asked to wait, if it did."""


def _secrets_sent(body: str | bytes | None, headers: Mapping[str, str] | None) -> Iterator[str]:
    """Find what a request for a token has in it that is secret: the grant, and a header that authorizes."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    for sent in (parse_qs(text), dict(headers or {})):
        yield from secrets_in({name: value for name, value in sent.items() if is_secret_name(name)})


class Tokens:
    """Has the access tokens of one set of credentials. Safe to use from several threads.

    :param credentials: google-auth credentials.
    :param redaction: what takes out of texts the secrets that are learned here.
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
        redaction: Redaction,
        proxies: Mapping[str, str] | None,
        ca_bundle: str | None,
        pool_size: int,
        clock: Clock,
        on_secret: Callable[[str], None] | None,
    ) -> None:
        self.credentials = credentials
        self._redaction = redaction
        self._proxies = proxies
        self._ca_bundle = ca_bundle
        self._pool_size = pool_size
        self._clock = clock
        self._on_secret = on_secret
        self._lock = threading.Lock()
        self._failures = 0
        self._failure: CredentialsError | None = None
        self._failed_at = 0.0
        self._session = sessions.made_session(pool_size)
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _renew(self) -> None:
        """Have a lock and open connections of its own in a forked process."""
        sessions.abandon(self._session)
        self._lock = threading.Lock()
        self._session = sessions.made_session(self._pool_size)

    def close(self) -> None:
        """Close the connections."""
        sessions.close(self._session)

    def have(self, refused: str | None, budget: Budget, until: float) -> str | None:
        """Have a token that is valid and not the refused one, fetched once however many threads ask.

        :param refused: a token that the API did not take.
        :param budget: what the call may spend.
        :param until: seconds of the clock's ``monotonic()`` at which the call ends.
        :raises CredentialsError: there is none.
        """
        failures_before = self._failures
        if not self._lock.acquire(timeout=min(max(until - self._clock.monotonic(), 0), threading.TIMEOUT_MAX)):
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
            self._lock.release()

    def _known_token(self) -> str | None:
        token = getattr(self.credentials, "token", None)
        if not isinstance(token, str):
            return None
        token = ConcealedText(token)
        self._learn(token)
        return token

    def _learn(self, *secrets: str) -> None:
        for secret in self._redaction.learn(*secrets):
            if self._on_secret is not None:
                self._on_secret(secret)

    def _fetch_token(self, budget: Budget, until: float, failures_before: int) -> None:
        failure = self._failure
        if failure is not None and self._is_answered_by(failure, failures_before):
            raise _again(failure)
        failed = self._refresh(budget, until)
        if failed is not None:
            self._failures += 1
            self._failure, self._failed_at = _again(failed), self._clock.monotonic()
            raise failed
        self._failure = None

    def _is_answered_by(self, failure: CredentialsError, failures_before: int) -> bool:
        """Whether to fetch a token again would ask what was answered while waiting, or refused a moment ago."""
        if self._failures != failures_before:
            return True
        return not failure.retryable and self._clock.monotonic() - self._failed_at < _REFUSAL_HOLDS

    def _refresh(self, budget: Budget, until: float) -> CredentialsError | None:
        """Return what went wrong; raised here, it would have the error with the request in it as its context."""

        def ask(*args: Any, **kwargs: Any) -> Answer:
            # google-auth may send more than one; each has what is left.
            kwargs |= {"timeout": sessions.timeouts(budget, until - self._clock.monotonic()), "until": until}
            return self._ask_token_server(*args, **kwargs)

        try:
            self.credentials.refresh(Asking(ask))
        except google.auth.exceptions.GoogleAuthError as error:
            return self._no_token(error)
        except _NO_TOKEN_AT_ALL as error:
            return self._no_token(error)
        except Exception as error:  # noqa: BLE001 - a source of credentials may be a program of the user's
            return CredentialsError(f"no token for {principal(self.credentials)}: {sessions.reason(error)}")
        except BaseException as error:
            forget_passage(error)
            raise
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
    ) -> Answer:
        """Be google-auth's way to a token server: it follows no redirect, and reads no longer than there is time.

        :raises _TokenServerBusyError: the server cannot answer now; :mod:`.transport` decides on another try.
        """
        self._learn(*_secrets_sent(body, headers))
        more |= {"timeout": timeout, "stream": True, **sessions.route(url, self._proxies, self._ca_bundle)}
        try:
            with self._session.request(method, url, data=body, headers=dict(headers or {}), **more) as response:
                content = b"".join(sessions.read(response, sessions.LARGEST_ERROR, until, self._clock))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            unreached = _NoTokenServerError(error)  # type: ignore[no-untyped-call]
            unreached.host = urlsplit(url).hostname
            raise unreached from error
        if response.status_code != requests.codes.ok:
            content = self._redaction.content(content)
        if response.status_code in _BUSY or (response.status_code != requests.codes.ok and _BUSY_WORDS.search(content)):
            told = f"HTTP {response.status_code} from the token server: {sessions.shown(content)}"
            busy = _TokenServerBusyError(told, retryable=True)  # type: ignore[no-untyped-call]
            busy.retry_after = sessions.retry_after(response, self._clock)
            raise busy
        return Answer(response.status_code, response.headers, content)

    def _no_token(self, error: Exception) -> CredentialsError:
        if not isinstance(error, google.auth.exceptions.GoogleAuthError):  # its text may be the token
            return CredentialsError(
                f"no token for {principal(self.credentials)}: the token server's answer is none"
                f" ({type(error).__name__})"
            )
        broken = isinstance(error, (google.auth.exceptions.TransportError, _NoTokenServerError))
        told = error.args and not broken
        reason = " ".join(str(error.args[0]).split()) if told else sessions.reason(error)
        reason = _SAID_BY_A_PROGRAM.sub("", reason)
        missing = explain_token(f"{reason} {error.args[1:]}")
        if host := getattr(error, "host", None):
            reason = f"no answer from {host}: {reason}"
            missing = "it must be reachable from here, if need be through the connection's proxies"
        return CredentialsError(
            f"no token for {principal(self.credentials)}: {self._redaction.text(reason)[: sessions.SHOWN]}"
            + (f" ({missing})" if missing else ""),
            retryable=broken or bool(getattr(error, "retryable", False)),
            retry_after=getattr(error, "retry_after", None),
        )


def _again(error: CredentialsError) -> CredentialsError:
    """Copy an error: one that several threads raise would gather all their tracebacks."""
    return CredentialsError(str(error), retryable=error.retryable, retry_after=error.retry_after)
