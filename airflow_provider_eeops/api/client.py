"""The operations methods of the API, one method a call.

See https://developers.google.com/earth-engine/reference/rest/v1alpha/projects.operations.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.denials import Call, explain, remedy_for
from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import Operation, counted
from airflow_provider_eeops.api.names import (
    check_operation_name,
    check_project_allowed,
    check_project_id,
    operation_id,
    project_of,
)
from airflow_provider_eeops.api.observing import CANCELS_REQUESTED, POLLS, UNOBSERVED, Observer
from airflow_provider_eeops.api.pace import Pace, shared_pace
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.exceptions import (
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    from airflow_provider_eeops.api.exports import Export

__all__ = ["PAGE_SIZE", "EarthEngineOperationsClient", "connect"]

log = logging.getLogger(__name__)

PAGE_SIZE = 500
"""Operations a page; what Google's own clients ask for."""


_MOST_PAGES = 1000
"""Of one listing: half a million operations."""

_METHODS: Mapping[Call, str] = {
    "cancel": "POST",
    "delete": "DELETE",
    "export": "POST",
    "get": "GET",
    "list": "GET",
    "wait": "POST",
}
_SHOWN = 80


class _Transport(Protocol):
    @property
    def requests_per_second(self) -> float: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        budget: Budget,
        operation_name: str | None = None,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]: ...

    def close(self) -> None: ...


class EarthEngineOperationsClient:
    """Gets, lists, cancels, deletes and waits for operations. Safe to use from several threads.

    Every name is checked before a request is made: what is not an operation name, or lies in a project that is not
    allowed, never becomes part of a path.

    :param transport: what sends the requests.
    :param api_version: ``v1alpha``, ``v1beta`` or ``v1``.
    :param allowed_projects: if any, operations of other projects are refused.
    :param budget: what each call may spend.
    :param clock: the clock.
    :param observer: told what is asked for, and what came of it.
    """

    def __init__(
        self,
        transport: _Transport,
        *,
        api_version: str = "v1alpha",
        allowed_projects: Collection[str] = (),
        budget: Budget | None = None,
        clock: Clock = SYSTEM_CLOCK,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._transport = transport
        self._api_version = api_version
        self._allowed_projects = frozenset(allowed_projects)
        self._budget = budget or Budget()
        self.clock = clock
        self.observer = observer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds connections and a token, and is not copied: copy the hook, or connect again")

    def close(self) -> None:
        """Close the connections. Calls under way end by themselves; a later one opens new connections."""
        self._transport.close()

    @property
    def requests_per_second(self) -> float:
        """The pace of its requests."""
        return self._transport.requests_per_second

    def within(self, budget: Budget) -> EarthEngineOperationsClient:
        """Make a client on the same connections with another budget.

        :param budget: what each of its calls may spend.
        """
        return EarthEngineOperationsClient(
            self._transport,
            api_version=self._api_version,
            allowed_projects=self._allowed_projects,
            budget=budget,
            clock=self.clock,
            observer=self.observer,
        )

    def ending(self, until: float) -> EarthEngineOperationsClient:
        """Make a client on the same connections whose calls all end at one moment.

        :param until: seconds of the clock's ``monotonic()``.
        """
        return self.within(replace(self._budget, until=until))

    def get_operation(self, name: str) -> Operation:
        """Get the latest state of an operation.

        :param name: operation name.
        :raises NotFoundError: there is no such operation, or no longer.
        :raises UnexpectedAnswerError: the answer is about another operation, or about none.
        """
        name = self._checked(name)
        self.observer.count(POLLS, method="get", project=project_of(name))
        return _operation(self._request("get", name), name)

    def cancel_operation(self, name: str) -> None:
        """Request cancellation. The operation is not cancelled yet when this returns, and may finish all the same.

        Earth Engine cancels asynchronously and by best effort. Safe to repeat.

        :param name: operation name.
        :raises FailedPreconditionError: the operation has finished.
        :raises UnimplementedError: the server cannot cancel.
        :raises UnexpectedAnswerError: the answer is not the empty object that means yes.
        """
        name = self._checked(name)
        _check_empty(self._request("cancel", name, body={}), f":cancel of {name}")
        self.observer.count(CANCELS_REQUESTED, project=project_of(name))

    def start_export(self, project_id: str, export: Export, request_id: str) -> Operation:
        """Start an export. With the request id it is safe to repeat: one operation comes of it.

        :param project_id: project whose quota it uses.
        :param export: what to export.
        :param request_id: at most 60 letters, digits and hyphens.
        :raises QueueFullError: as many exports wait in the project as may.
        :raises AlreadyExistsError: the request id was used before, and the server does not say by which operation.
        :raises InvalidArgumentError: the server refuses the export.
        """
        project_id = check_project_id(project_id)
        check_project_allowed(project_id, self._allowed_projects, project_id)
        path = f"{self._api_version}/projects/{project_id}/{export.method}"
        answer = self._send("export", path, body={**export.body(), "requestId": request_id})
        started = _listed([answer], project_id)
        if not started:
            raise UnexpectedAnswerError(f"POST {path}: HTTP 200 with an answer that is no operation.", http_status=200)
        check_operation_name(started[0].name)
        return started[0]

    def delete_operation(self, name: str) -> None:
        """Delete the record of an operation. It does not cancel it.

        :param name: operation name.
        """
        name = self._checked(name)
        _check_empty(self._request("delete", name), f"DELETE of {name}")

    def wait_operation(self, name: str, *, timeout: float) -> Operation:
        """Ask the server to answer when the operation is done, or after ``timeout``, or earlier as it likes.

        :param name: operation name.
        :param timeout: seconds; at most half the read timeout of the budget, so that the answer can arrive in time.
        :raises UnimplementedError: the server cannot wait.
        """
        name = self._checked(name)
        seconds = max(0.0, min(timeout, self._budget.read_timeout / 2))
        return _operation(self._request("wait", name, body={"timeout": f"{seconds:.3f}s"}), name)

    def list_operations(self, project_id: str, *, page_size: int = PAGE_SIZE) -> Iterator[Operation]:
        """List the operations of a project, other people's too, page by page as they are read.

        :param project_id: project id.
        :param page_size: operations a page.
        :raises UnexpectedAnswerError: the server repeats a page.
        """
        for page in self.list_pages(project_id, page_size=page_size):
            yield from page

    def list_pages(self, project_id: str, *, page_size: int = PAGE_SIZE) -> Iterator[list[Operation]]:
        """List the operations of a project, a page at a time; each page is one request.

        :param project_id: project id.
        :param page_size: operations a page.
        :raises UnexpectedAnswerError: the server repeats a page, or the listing does not end.
        """
        project_id = check_project_id(project_id)
        check_project_allowed(project_id, self._allowed_projects, project_id)
        path = f"{self._api_version}/projects/{project_id}/operations"
        params = {"pageSize": str(page_size)}
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            self.observer.count(POLLS, method="list", project=project_id)
            answer = self._send("list", path, params=params)
            found, token = answer.get("operations") or [], answer.get("nextPageToken") or ""
            # To read on without these would pass over operations in silence.
            if "error" in answer or not isinstance(found, list) or not isinstance(token, str):
                raise UnexpectedAnswerError(f"GET {path}: HTTP 200 with an answer that is no listing.", http_status=200)
            yield _listed(found, project_id)
            if not token:
                return
            if not _is_writable(token):
                raise UnexpectedAnswerError(f"GET {path}: the page token is no Unicode text.", http_status=200)
            if token in seen:
                raise UnexpectedAnswerError(f"GET {path}: the server repeats a page.", http_status=200)
            seen.add(token)
            params["pageToken"] = token
        raise UnexpectedAnswerError(f"GET {path}: no end after {_MOST_PAGES} pages.", http_status=200)

    def _checked(self, name: str) -> str:
        name = check_operation_name(name)
        check_project_allowed(project_of(name), self._allowed_projects, name)
        return name

    def _request(self, call: Call, name: str, *, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        verb = f":{call}" if call in {"cancel", "wait"} else ""
        return self._send(call, f"{self._api_version}/{name}{verb}", operation_name=name, body=body)

    def _send(self, call: Call, path: str, **request: Any) -> dict[str, Any]:
        try:
            return self._transport.request(_METHODS[call], path, budget=self._budget, **request)
        except PermissionDeniedError as error:
            error.missing, error.permission, error.remedy = explain(call, error.message, error.details)
            error.remedy = remedy_for(error.operation_name, ()) or error.remedy
            raise
        except (NotFoundError, UnauthenticatedError) as error:
            error.remedy = remedy_for(error.operation_name, error.details)
            raise


def _listed(items: list[Any], project_id: str) -> list[Operation]:
    """Read a page. Its operations get the name under which they were asked for: what is done next is done there."""
    operations, others = [], 0
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            continue
        parent, _, operation_id = item["name"].partition("/operations/")
        listed_in = parent.removeprefix("projects/")
        # A listing may name the project by its number.
        if listed_in == project_id or _is_number(listed_in) or _is_number(project_id):
            operations.append(Operation.from_payload(item, name=f"projects/{project_id}/operations/{operation_id}"))
        else:
            others += 1
    if others:
        with log_fields(project=project_id, operations=others):
            log.warning("The listing of project %s names %s of another: passed over.", project_id, counted(others))
    return operations


def _is_number(project_id: str) -> bool:
    return project_id.isascii() and project_id.isdecimal()


def _is_writable(text: str) -> bool:
    """Whether a URL can hold it: JSON can hold one half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _operation(payload: Mapping[str, Any], name: str) -> Operation:
    """Read the operation that was asked for: by its id, as the answer may name the project by its number."""
    named = payload.get("name")
    if not isinstance(named, str) or named.partition("/operations/")[2] != operation_id(name):
        about = f"about {named[:_SHOWN]!r}" if isinstance(named, str) else "that names no operation"
        raise UnexpectedAnswerError(f"{name}: HTTP 200 with an answer {about}.", http_status=200)
    return Operation.from_payload(payload, name=name)


def _check_empty(answer: Mapping[str, Any], what: str) -> None:
    """Take nothing for a yes but what the API says it is."""
    if answer:
        names = ", ".join(sorted(answer))[:_SHOWN]
        raise UnexpectedAnswerError(f"{what}: HTTP 200 with an answer that is not empty: {names}.", http_status=200)


def connect(
    settings: Settings,
    credentials: Any,
    *,
    budget: Budget | None = None,
    pace: Pace | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_secret: Callable[[str], None] | None = None,
    observer: Observer = UNOBSERVED,
) -> EarthEngineOperationsClient:
    """Make a client from the parameters of a connection. No request is made.

    :param settings: the connection's parameters.
    :param credentials: google-auth credentials, as :func:`.credentials.load_credentials` makes them.
    :param budget: what each call may spend, if not what the settings say.
    :param pace: the pace of its requests. Default: one with all clients of this process that make requests as the same
        principal to the same host.
    :param clock: what waits wait on.
    :param on_secret: told each access token, and what it was had for; from any thread.
    :param observer: told what is asked for, and what came of it; from any thread.
    """
    from airflow_provider_eeops.api.credentials import principal
    from airflow_provider_eeops.api.transport import Transport  # loads google.auth and requests

    return EarthEngineOperationsClient(
        Transport(
            credentials,
            base_url=settings.base_url,
            pace=pace
            or shared_pace(settings.requests_per_second, settings.base_url, principal(credentials), clock=clock),
            proxies=settings.proxies,
            ca_bundle=settings.ca_bundle,
            clock=clock,
            on_secret=on_secret,
            observer=observer,
        ),
        api_version=settings.api_version,
        allowed_projects=settings.allowed_projects,
        budget=budget or settings.budget,
        clock=clock,
        observer=observer,
    )
