"""The hook: an Airflow connection -> a client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.denials import Call
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.names import ParsedNames, check_project_id, parse_operation_names
from airflow_provider_eeops.api.policies import not_confirmed
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, wait
from airflow_provider_eeops.api.secrecy import ConcealedMapping, ConcealedText
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.exceptions import (
    CredentialsError,
    EarthEngineError,
    InvalidArgumentError,
    InvalidSettingsError,
    NotConfirmedError,
    NotFoundError,
    OperationsFailedError,
    PermissionDeniedError,
)
from airflow_provider_eeops.masking import Masking, mask
from airflow_provider_eeops.telemetry import telemetry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_eeops.api.credentials import Identity
    from airflow_provider_eeops.api.models import Operation, Report
    from airflow_provider_eeops.api.selecting import OperationSelector, Selection

__all__ = ["EarthEngineOperationsHook"]

_OF_THIS_PROCESS = frozenset({"_lock", "_settings", "_without_connection", "_identity", "_client", "_masking", "_log"})

_CONN_TYPES = ("earthengine", "google_cloud_platform")

# No operation has this id: asked to cancel it, the API answers by permission alone.
_PROBE_ID = "EEOPSCONNECTIONTEST00000"


class EarthEngineOperationsHook(BaseHook):
    """Gets, lists, cancels, deletes and waits for Earth Engine operations with an Airflow connection.

    The connection is read when it is first needed. If ``earthengine_default`` does not exist, Application Default
    Credentials serve. A connection of type ``google_cloud_platform`` works as it is.

    Wherever ``operations`` are asked for, any shape that holds them will do, see
    :func:`airflow_provider_eeops.api.names.parse_operation_names`.

    :param earthengine_conn_id: id of a connection of type ``earthengine`` or ``google_cloud_platform``.
    :param project_id: project of operation ids given without one. Default: the connection's, else the credentials'.
    :param impersonation_chain: service account to impersonate, or a chain of them, the last one making the
        requests. Default: the connection's.
    """

    conn_name_attr = "earthengine_conn_id"
    default_conn_name = "earthengine_default"
    conn_type = "earthengine"
    hook_name = "Google Earth Engine"

    def __init__(
        self,
        earthengine_conn_id: str = default_conn_name,
        *,
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earthengine_conn_id = earthengine_conn_id
        self._project_id = project_id
        self._impersonation_chain = impersonation_chain
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._without_connection = False
        self._identity: Identity | None = None
        self._client: EarthEngineOperationsClient | None = None
        self._masking: Masking | None = None
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _renew(self) -> None:
        """Have a lock, credentials and a client of its own in a forked process: a key that signs has a lock too."""
        self._lock = threading.RLock()
        self._identity = self._client = None

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle what it was made with: a copy reads the connection itself, and holds nothing secret."""
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client's connections. The next call opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
        self.come_by()

    # What the connection says

    @property
    def settings(self) -> Settings:
        """The connection's parameters, read on first use.

        :raises InvalidSettingsError: an extra cannot be used; the message names it.
        """
        with self._lock:
            if self._settings is None:
                text = None
                with self._default_may_be_missing():
                    text = self._extra_of(self.get_connection(self.earthengine_conn_id))
                self._settings = self._read(text)
                self._masking = Masking()
            return self._settings

    async def load(self) -> None:
        """Read the connection from an event loop, where :attr:`settings` could block it."""
        from airflow.providers.common.compat.connection import get_async_connection
        from asgiref.sync import sync_to_async

        if self._settings is None:
            text = None
            with self._default_may_be_missing():
                text = self._extra_of(await get_async_connection(self.earthengine_conn_id, hook=self))
            # Masking asks the supervisor, which must not be done from the event loop itself. Access tokens are not
            # masked there: a triggerer would gather them for weeks, and nobody's code gets at them.
            self._settings = await sync_to_async(self._read)(text)

    @contextmanager
    def _default_may_be_missing(self) -> Iterator[None]:
        try:
            yield
        except AirflowNotFoundException:
            if self.earthengine_conn_id != self.default_conn_name:
                raise AirflowNotFoundException(
                    f"connection {self.earthengine_conn_id!r} does not exist: add it, of type {self.conn_type}, or pass"
                    " the id of one that does"
                ) from None

    def _extra_of(self, connection: Connection) -> str:
        # Another type's extras are not ours: without the credentials meant, the machine's own would be used.
        if connection.conn_type and connection.conn_type not in _CONN_TYPES:
            raise InvalidSettingsError(
                f"connection {self.earthengine_conn_id} is of type {connection.conn_type!r:.60}: it must be of type"
                f" {' or '.join(map(repr, _CONN_TYPES))}"
            )
        # Of the connection nothing else is kept: its repr shows the extras.
        return ConcealedText(connection.extra or "")

    def _read(self, text: str | None) -> Settings:
        self._without_connection = text is None
        if text is None:
            self.log.info("No connection %s: using Application Default Credentials.", self.earthengine_conn_id)
        extras = _extras(self.earthengine_conn_id, text)
        if self._impersonation_chain:
            extras["impersonation_chain"] = self._impersonation_chain
        settings = Settings.from_extras(extras)
        mask(settings.secrets())
        if settings.unknown:
            self.log.warning(
                "Connection %s has extras that nothing reads: %s. Known are: %s.",
                self.earthengine_conn_id,
                ", ".join(settings.unknown),
                ", ".join(Settings.names()),
            )
        return settings

    @property
    def base_url(self) -> str:
        """Scheme and host of the API."""
        return self.settings.base_url

    @property
    def credentials(self) -> Any:
        """The google-auth credentials, to share with Google's own client: ``ee.Initialize(hook.credentials, ...)``."""
        self.come_by()
        return self._get_identity().credentials

    @property
    def project_id(self) -> str | None:
        """Project of operation ids given without one."""
        return self._project_id or self.settings.project or self._get_identity().project_id

    def _get_identity(self) -> Identity:
        from airflow_provider_eeops.api.credentials import load_credentials  # loads google.auth

        with self._lock:
            if self._identity is None:
                settings = self.settings
                try:
                    self._identity = load_credentials(settings)
                except CredentialsError as error:
                    if self._without_connection:
                        raise CredentialsError(
                            f"connection {self.earthengine_conn_id} does not exist, and there are {error}. If it is in"
                            " Airflow's database, this process does not read that: set"
                            f" AIRFLOW_CONN_{self.earthengine_conn_id.upper()}"
                        ) from None
                    raise
            return self._identity

    def get_conn(self) -> EarthEngineOperationsClient:
        """Return the client, made on first use. It may be used from several threads."""
        self.come_by()
        with self._lock:
            if self._client is None:
                credentials = self.credentials
                on_secret = None if self._masking is None else self._masking.learn
                self._client = connect(self.settings, credentials, on_secret=on_secret, observer=telemetry())
            return self._client

    def come_by(self) -> None:
        """Have masked what other threads learned: the token, if they fetched it."""
        if self._masking is not None:
            self._masking.come_by()

    # What is done with it

    def parse(self, operations: Any, *, accept_ids: bool = True, accept_unstarted: bool = False) -> ParsedNames:
        """Find the operation names in whatever is given. No request is made.

        :param operations: any shape that holds operations.
        :param accept_ids: take operation ids for operations of the hook's project.
        :param accept_unstarted: take an ``ee.batch.Task`` that was not started too, into ``in_order``.
        """
        return parse_operation_names(
            operations,
            project_id=(lambda: self.project_id) if accept_ids else None,
            allowed_projects=self.settings.allowed_projects,
            accept_unstarted=accept_unstarted,
        )

    def _name(self, operation: Any) -> str:
        names = self.parse(operation).require_valid()
        if len(names) != 1:
            raise InvalidSettingsError(f"one operation is needed here, not {len(names)}")
        return names[0]

    def get_operation(self, operation: Any) -> Operation:
        """Get the latest state of an operation.

        :param operation: the operation.
        :raises NotFoundError: there is no such operation, or no longer.
        """
        return self.get_conn().get_operation(self._name(operation))

    def list_operations(self, project_id: str | None = None) -> Iterator[Operation]:
        """List the operations of a project, other people's too.

        :param project_id: project id. Default: the hook's.
        """
        project_id = project_id or self.project_id
        if project_id is None:
            raise InvalidSettingsError("listing needs a project: pass project_id or set 'project' in the connection")
        return self.get_conn().list_operations(check_project_id(project_id))

    def select_operations(
        self, selector: OperationSelector | Mapping[str, Any] | str, *, project_id: str | None = None
    ) -> Selection:
        """List the operations of a project, and take those that a selector matches. None of them is changed.

        :param selector: an OperationSelector, or a mapping of its parameters.
        :param project_id: project id, if the selector names none. Default: the hook's.
        :raises InvalidInputError: the selector cannot be used; the message says why.
        :raises PermissionDeniedError: the principal may not list the operations.
        """
        from airflow_provider_eeops.api.selecting import OperationSelector, select

        criteria = OperationSelector.of(selector).criteria()
        criteria = replace(criteria, project_id=criteria.project_id or project_id or self.project_id)
        try:
            return select(self.list_operations(criteria.project_id), criteria, now=self.get_conn().clock.time())
        except PermissionDeniedError as error:
            raise PermissionDeniedError(
                self._refusal("list", criteria.project_id, error),
                permission=error.permission,
                remedy=error.remedy,
                http_status=error.http_status,
                status=error.status,
                details=error.details,
                retry_after=error.retry_after,
            ) from error

    def cancel_operation(self, operation: Any) -> None:
        """Request cancellation of one operation. It is not cancelled yet when this returns.

        :param operation: the operation.
        :raises FailedPreconditionError: it has finished.
        :raises NotFoundError: there is no such operation, or no longer.
        """
        self.get_conn().cancel_operation(self._name(operation))

    def cancel_operations(self, operations: Any, *, max_concurrency: int = DEFAULT_CONCURRENCY) -> Report:
        """Request cancellation of every operation, and say what became of each. No operation's error stops another.

        :param operations: the operations.
        :param max_concurrency: requests at once.
        """
        parsed = self.parse(operations)
        try:
            return cancel_operations(
                self.get_conn(), parsed.names, invalid=parsed.invalid, max_concurrency=max_concurrency
            )
        finally:
            self.come_by()

    def delete_operation(self, operation: Any) -> None:
        """Delete the record of an operation. It does not cancel it.

        :param operation: the operation.
        """
        self.get_conn().delete_operation(self._name(operation))

    def wait_for_operations(
        self,
        operations: Any,
        *,
        timeout: float | None = None,
        poll_interval: float = 10.0,
        accepted_states: Sequence[str] | None = None,
        max_concurrency: int = DEFAULT_CONCURRENCY,
    ) -> Report:
        """Wait until every operation is confirmed.

        :param operations: the operations.
        :param timeout: seconds; None for no limit.
        :param poll_interval: seconds between polls.
        :param accepted_states: terminal states that are not a failure. Default: all.
        :param max_concurrency: requests at once.
        :raises NotConfirmedError: some were not confirmed in time, or could not be asked for.
        :raises OperationsFailedError: one ended in a state that was not accepted.
        """
        client = self.get_conn()
        watch = Watch(
            tuple(self.parse(operations).require_valid()),
            deadline=None if timeout is None else client.clock.time() + timeout,
            accepted_states=parse_states(accepted_states),
        )
        verdict = wait(
            client,
            watch,
            poll_interval=poll_interval,
            max_concurrency=max_concurrency,
            on_poll=lambda _changed: self.come_by(),
        )
        report = watch.report()
        if verdict is Verdict.NOT_ACCEPTED:
            raise OperationsFailedError(watch.message(verdict), report=report)
        if verdict is not Verdict.SETTLED or not_confirmed(report, if_not_found="fail"):
            raise NotConfirmedError(watch.message(verdict), report=report)
        return report

    # The connection's form

    def test_connection(self) -> tuple[bool, str]:
        """Make three requests that change nothing; name the principal and the project, or what is missing.

        To get and to cancel are tried on an operation that does not exist: who may is answered "not found".
        """
        try:
            return self._test_connection()
        except (EarthEngineError, AirflowNotFoundException) as error:
            return False, str(error)
        finally:
            self.close()  # Airflow's form drops the hook after it

    def _test_connection(self) -> tuple[bool, str]:
        from airflow_provider_eeops.api.credentials import principal

        project_id = self.project_id
        who = principal(self.credentials)
        unread = self.settings.unknown
        note = f" Extras that nothing reads: {', '.join(unread)}." if unread else ""
        if project_id is None:
            return False, f"{who}: no project to test with. Set 'project' in the connection.{note}"
        what = self._operations_of(check_project_id(project_id))
        client = self.get_conn()
        probe = f"projects/{project_id}/operations/{_PROBE_ID}"
        tries: tuple[tuple[Call, Callable[[], object]], ...] = (
            ("list", lambda: next(client.list_pages(project_id, page_size=1))),
            ("get", lambda: client.get_operation(probe)),
            ("cancel", lambda: client.cancel_operation(probe)),
        )
        for call, attempt in tries:
            try:
                attempt()
            except PermissionDeniedError as error:
                return False, self._refusal(call, project_id, error) + note
            except (NotFoundError, InvalidArgumentError):
                if call == "list":
                    raise
        return True, f"{who} may list {what}; to get and to cancel was not refused.{note}"

    def _operations_of(self, project_id: str | None) -> str:
        return f"operations of project {project_id} ({self.settings.api_version} at {self.base_url})"

    def _refusal(self, call: Call, project_id: str | None, error: PermissionDeniedError) -> str:
        from airflow_provider_eeops.api.credentials import principal

        why = ": ".join(filter(None, (error.missing, error.remedy)))
        return f"{principal(self.credentials)} may not {call} {self._operations_of(project_id)}: {why}. {error.message}"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the form, for Airflow before 3.2; later ones are in the provider's metadata."""
        from airflow_provider_eeops.forms import connection_form_widgets

        return connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form hides and relabels, for Airflow before 3.2."""
        from airflow_provider_eeops.forms import ui_field_behaviour

        return ui_field_behaviour()


def _extras(conn_id: str, text: str | None) -> dict[str, Any]:
    """Read the extras; text that is not JSON is refused, as without its credentials others would be used."""
    if not text:
        return {}
    extras = None
    with suppress(ValueError):
        extras = json.loads(text)
    if not isinstance(extras, Mapping):
        raise InvalidSettingsError(f"the extras of connection {conn_id} are not a JSON object")
    return ConcealedMapping(extras)
