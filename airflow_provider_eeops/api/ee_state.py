"""Google's own client, ``ee``, initialised for one project at a time: what it holds is the whole process's.

It is the user's dependency, and loaded on first use.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.names import check_project_allowed, check_project_id
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.exceptions import CredentialsError, InvalidInputError, InvalidSettingsError

if TYPE_CHECKING:
    from airflow_provider_eeops.api.ee_http import EarthEngineHttp

__all__ = ["initialized", "initialized_project", "load_ee"]


def load_ee() -> Any:
    """Import ``ee``.

    :raises InvalidInputError: it is not installed.
    """
    try:
        import ee
    except ModuleNotFoundError as error:
        if error.name != "ee":
            raise
        raise InvalidInputError(
            "Google's client for Earth Engine is not installed where this task runs: pip install earthengine-api"
        ) from None
    return ee


class _Place(NamedTuple):
    """Where what ``ee`` is asked goes."""

    project_id: str
    base_url: str

    def __str__(self) -> str:
        return f"project {self.project_id} at {self.base_url}"


@dataclass(frozen=True)
class _Wanted:
    """What ``ee`` is to be initialised with.

    :param place: where it asks.
    :param settings: as what; two connections with the same are one.
    :param credentials: the credentials that these describe.
    :param on_secret: told each access token that is sent.
    """

    place: _Place
    settings: Settings
    credentials: Any = field(repr=False)
    on_secret: Callable[[str], None] | None

    def __str__(self) -> str:
        return f"{self.place} as {self.who}"

    @property
    def who(self) -> str:
        from airflow_provider_eeops.api.credentials import principal

        return principal(self.credentials)


@dataclass
class _Open:
    """A session.

    :param wanted: what began it.
    :param http: its connections, if it initialised ``ee``; None if the user did.
    :param count: blocks that use it.
    """

    wanted: _Wanted
    http: EarthEngineHttp | None
    count: int = 1


class _Client:
    """Knows for what ``ee`` is initialised in this process."""

    def __init__(self) -> None:
        self._open: _Open | None = None
        self._inherited = False
        self._lock = threading.RLock()
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _renew(self) -> None:
        """Take what the parent initialised for nobody's: its connections are the parent's too."""
        self._lock = threading.RLock()
        self._inherited = self._inherited or (self._open is not None and self._open.http is not None)
        self._open = None

    def enter(self, wanted: _Wanted) -> _Open:
        """Initialise ``ee``, or find that it is."""
        with self._lock:
            ee = load_ee()
            at = _place_of(ee)
            if self._open is not None:
                _check_same(self._open.wanted, at, wanted)
                self._open.count += 1
                return self._open
            if at is not None and self._inherited:
                ee.Reset()
                at = None
            self._inherited = False
            if at is not None and at != wanted.place:
                raise InvalidSettingsError(
                    f"ee is initialised for {at} by a call of ee.Initialize, and cannot be for {wanted.place} in the"
                    " same process: call ee.Reset() before, or leave out ee.Initialize"
                )
            self._open = _Open(wanted, _initialize(ee, wanted) if at is None else None)
            return self._open

    def leave(self, opened: _Open) -> None:
        """Reset ``ee`` if this is the last block that uses it."""
        with self._lock:
            if opened is not self._open:  # of the process that this one was forked from
                return
            opened.count -= 1
            if opened.count:
                return
            self._open = None
            if opened.http is not None:
                load_ee().Reset()
                opened.http.close()


_client = _Client()


@contextmanager
def initialized(
    settings: Settings,
    credentials: Any,
    project_id: str | None,
    *,
    on_secret: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Have ``ee`` initialised in a block, and reset after it.

    In the block another one may begin for the same project with the same settings. For another project, host or
    identity it is refused, as ``ee`` has one of each in a process; so it is if ``ee.Initialize`` was called for another
    before. If it was called for the same project and host, it stays as it is, and is not reset. A forked process may
    begin any.

    :param settings: the connection's parameters.
    :param credentials: google-auth credentials.
    :param project_id: the project that is asked.
    :param on_secret: told each access token that is sent.
    :raises InvalidInputError: ``ee`` is not installed, there is no project, or ``ee`` is in use for another one.
    :raises CredentialsError: there is no token for the credentials.
    """
    if project_id is None:
        raise InvalidSettingsError(
            "a session of ee needs a project: pass project_id or set 'project' in the connection"
        )
    check_project_allowed(check_project_id(project_id), settings.allowed_projects, project_id)
    opened = _client.enter(_Wanted(_Place(project_id, settings.base_url), settings, credentials, on_secret))
    try:
        yield
    finally:
        _client.leave(opened)


def initialized_project() -> str | None:
    """Project that ``ee`` is initialised for in this process; None if it is for none, or not loaded."""
    ee = sys.modules.get("ee")
    place = None if ee is None else _place_of(ee)
    return None if place is None else place.project_id


def _place_of(ee: Any) -> _Place | None:
    """Tell for what ``ee`` is initialised; it says so in no public way."""
    if not ee.data.is_initialized():
        return None
    state = ee.data._get_state()  # noqa: SLF001
    return _Place(state.cloud_api_user_project, state.cloud_api_base_url)


def _check_same(opened: _Wanted, at: _Place | None, wanted: _Wanted) -> None:
    if at != opened.place:
        raise InvalidSettingsError(
            f"a session of ee for {opened} is open, but ee is initialised for {at or 'nothing'}: call neither"
            " ee.Initialize nor ee.Reset in it"
        )
    if str(wanted) == str(opened) and wanted.settings == opened.settings:
        return
    other = " with other settings of the connection" if str(wanted) == str(opened) else ""
    raise InvalidSettingsError(
        f"a session of ee for {opened} is open in this process, and none can begin for {wanted}{other}: leave the first"
        " one before, as ee has one project and one identity in a process"
    )


def _initialize(ee: Any, wanted: _Wanted) -> EarthEngineHttp:
    from google.auth.exceptions import GoogleAuthError

    from airflow_provider_eeops.api.ee_http import EarthEngineHttp
    from airflow_provider_eeops.api.secrecy import Redaction

    http = EarthEngineHttp(wanted.settings, on_secret=wanted.on_secret)
    place = wanted.place
    try:
        ee.Initialize(wanted.credentials, url=place.base_url, project=place.project_id, http_transport=http)
    except BaseException as error:
        ee.Reset()
        http.close()
        if not isinstance(error, GoogleAuthError):
            raise
        told = str(error.args[0]) if error.args else type(error).__name__
        failed = CredentialsError(
            f"no token for {wanted.who}: {Redaction(wanted.settings.secrets()).text(told)}",
            retryable=bool(getattr(error, "retryable", False)),
        )
    else:
        return http
    raise failed  # not above: the error there may have the token server's whole answer in it
