"""How Google's client sends its requests with a connection's settings. Loaded on first use, as :mod:`.transport` is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httplib2
import requests

from airflow_provider_eeops.api import sessions
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.settings import Settings

__all__ = ["EarthEngineHttp"]

# Earth Engine ends a computation that somebody waits for after five minutes.
_READ_TIMEOUT = 330.0

_CONNECTIONS = 10
"""Kept open."""


class EarthEngineHttp:
    """What ``ee.Initialize`` takes as ``http_transport``: its requests have timeouts, proxies and CA certificates.

    Google's client retries what it knows as transient: built-in errors, which this raises.

    :param settings: the connection's.
    :param on_secret: told each access token that is sent.
    """

    def __init__(self, settings: Settings, *, on_secret: Callable[[str], None] | None = None) -> None:
        self._proxies = settings.proxies
        self._ca_bundle = settings.ca_bundle
        self._timeout = (settings.connect_timeout, max(settings.read_timeout, _READ_TIMEOUT))
        self._on_secret = on_secret
        self._token: str | None = None
        self._session = _made_session()
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _renew(self) -> None:
        """Open connections of its own in a forked process: on a shared one, each would read the other's answers."""
        sessions.abandon(self._session)
        self._session = _made_session()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        **_of_httplib2: Any,
    ) -> tuple[httplib2.Response, bytes]:
        """Send a request as httplib2 does, but follow no redirect.

        :param uri: where to.
        :param method: the verb.
        :param body: what is sent.
        :param headers: headers, the token among them.
        :raises ConnectionError: no answer.
        :raises TimeoutError: no answer in time.
        """
        self._learn(headers or {})
        failed: OSError
        try:
            answer = self._session.request(
                method,
                uri,
                data=body,
                headers=None if headers is None else dict(headers),
                timeout=self._timeout,
                **sessions.route(uri, self._proxies, self._ca_bundle),
            )
        except requests.Timeout as error:
            failed = TimeoutError(_no_answer(uri, error))
        except requests.RequestException as error:
            failed = ConnectionError(_no_answer(uri, error))
        else:
            return httplib2.Response({**answer.headers, "status": answer.status_code}), answer.content
        raise failed  # not above: the error there has the request in it, and would go along as this one's context

    def close(self) -> None:
        """Close the connections."""
        sessions.close(self._session)

    def _learn(self, headers: Mapping[str, Any]) -> None:
        for name, value in headers.items():
            if name.lower() == "authorization":
                text = value.decode() if isinstance(value, bytes) else str(value)
                token = text.rpartition(" ")[2]
                if token != self._token and self._on_secret is not None:
                    self._on_secret(token)
                self._token = token


def _no_answer(uri: str, error: requests.RequestException) -> str:
    """Say which host did not answer: all that Google's client says of a failed request is this."""
    return f"no answer from {urlsplit(uri).netloc.rpartition('@')[2]}: {sessions.reason(error)}"


def _made_session() -> requests.Session:
    session = sessions.made_session(_CONNECTIONS)
    session.mount("http://", sessions.LoopbackAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS))
    return session
