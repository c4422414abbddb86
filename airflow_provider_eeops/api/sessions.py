"""HTTP sessions that keep no cookies, follow no redirect, and read no longer than there is time.

Loaded on first use, as :mod:`.transport` is.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
from collections.abc import Iterator, Mapping
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from airflow_provider_eeops.api.clock import Clock
from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds

__all__ = [
    "LARGEST_ERROR",
    "SHOWN",
    "LoopbackAdapter",
    "abandon",
    "close",
    "made_session",
    "read",
    "reason",
    "retry_after",
    "route",
    "shown",
    "timeouts",
]

LARGEST_ERROR = 64 * 1024
"""Bytes of an error's body that are read."""

SHOWN = 200
"""Characters of what others say that a message shows."""

_CHUNK = 64 * 1024
_SIZES = ("Content-Length", "Transfer-Encoding")
_LEAST_TIMEOUT = 0.1  # requests refuses a timeout of nothing


def made_session(pool_size: int) -> requests.Session:
    """Make a session that sends what it is given: no cookie, and no .netrc entry instead of the token.

    :param pool_size: connections kept open.
    """
    session = _Session()
    session.auth = _keep_headers
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # what one answer sets, no request sends
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(pool_connections=1, pool_maxsize=pool_size))
    return session


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Be the session's auth: without one, requests would let a .netrc entry replace the token."""
    return request


class _Session(requests.Session):
    """Looks at no address of a redirect: to see where it leads requests would read its body to the end."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Say that there is none."""


class _Response(http.client.HTTPResponse):
    """Forgets what was no header: urllib3 would warn of it in full, and it may be our request."""

    def begin(self) -> None:
        super().begin()
        self.msg.defects = []
        self.msg.set_payload("")


@cache
def _forgetting(pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
    """Give a kind of pool, a proxy's too, connections that read so."""
    connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": _Response})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools; as requests does."""
        super().init_poolmanager(*args, **kwargs)
        self._have_forget(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        """Make those of a proxy; as requests does."""
        known = proxy in self.proxy_manager
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            self._have_forget(manager)
        return manager

    def _have_forget(self, manager: urllib3.PoolManager) -> None:
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: _forgetting(pool) for scheme, pool in classes.items()}


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


class LoopbackAdapter(_Adapter):
    """Sends to this machine alone."""

    def _have_forget(self, manager: urllib3.PoolManager) -> None:
        manager.pool_classes_by_scheme = {"http": _forgetting(_LoopbackPool)}


def close(session: requests.Session) -> None:
    """Close the connections too: urllib3 leaves that to the end of the pool, which an error's traceback may hold.

    :param session: the session.
    """
    for adapter in session.adapters.values():
        if isinstance(adapter, requests.adapters.HTTPAdapter):
            for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
                for key in manager.pools.keys():  # noqa: SIM118 - it is no mapping: to iterate over it is refused
                    pool = manager.pools.get(key)
                    if pool is not None:
                        pool.close()
    session.close()


_of_parents: list[requests.Session] = []


def abandon(session: requests.Session) -> None:
    """Keep the session of a process that forked this one: to close a pool takes a lock, which a thread of it may hold.

    :param session: the session.
    """
    _of_parents.append(session)


def route(url: str, proxies: Mapping[str, str] | None, ca_bundle: str | None) -> dict[str, Any]:
    """Give each request its route: the environment's proxies and certificates win over those of a session.

    :param url: where it goes.
    :param proxies: proxies by scheme, as requests takes them.
    :param ca_bundle: path of CA certificates to trust instead of the default.
    """
    found: dict[str, Any] = {"allow_redirects": False}
    if url.startswith("http://"):  # to this machine, or its cloud's metadata server: a proxy could read it
        found["proxies"] = dict.fromkeys(("http", "all"))
    elif proxies:
        found["proxies"] = dict(proxies)  # requests adds to it
    if ca_bundle:
        found["verify"] = ca_bundle
    return found


def timeouts(budget: Budget, time_left: float) -> urllib3.Timeout:
    """Give a request what time there is.

    :param budget: what the call may spend.
    :param time_left: seconds until the call ends.
    """
    return urllib3.Timeout(
        total=max(time_left, _LEAST_TIMEOUT), connect=budget.connect_timeout, read=budget.read_timeout
    )


def read(response: requests.Response, limit: int, until: float, clock: Clock) -> Iterator[bytes]:
    """Read as the bytes arrive, so that a body that trickles meets the deadline too.

    :param response: an answer that was asked for with ``stream``.
    :param limit: bytes after which nothing more is read.
    :param until: seconds of the clock's ``monotonic()`` at which reading ends.
    :param clock: the clock.
    :raises requests.Timeout: there is no time left.
    """
    size = 0
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        yield chunk
        size += len(chunk)
        if size >= limit:
            return
        if clock.monotonic() > until:
            raise requests.Timeout
    if (
        size == 0
        and response.status_code == requests.codes.ok
        and not any(header in response.headers for header in _SIZES)
    ):
        raise urllib3.exceptions.IncompleteRead(0, -1)  # http.client takes half a header for a whole one


def retry_after(response: requests.Response, clock: Clock) -> float | None:
    """Read a date by the clock that wrote it: this machine's may be an hour off.

    :param response: an answer.
    :param clock: this machine's, if the answer has no date.
    """
    date = response.headers.get("Date")
    now = None if date is None else retry_after_seconds(date, now=0.0)
    return retry_after_seconds(response.headers.get("Retry-After"), now=now or clock.time())


def reason(error: BaseException) -> str:
    """Name the innermost cause; the texts around it repeat addresses and may hold a proxy's password.

    :param error: what went wrong.
    """
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
    at = "at the proxy: " if any(isinstance(each, requests.exceptions.ProxyError) for each in seen) else ""
    return f"{at}{name}: {text}" if text else f"{at}{name}"


def shown(content: bytes) -> str:
    """Return the first characters of a body, for a message.

    :param content: the body.
    """
    if not content:
        return "an empty body"
    text = " ".join(content[: 4 * SHOWN].decode("utf-8", "replace").split())
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
