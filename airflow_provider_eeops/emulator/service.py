"""The emulator's state: projects, operations, faults, identities and the request log."""

import fnmatch
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.faults import Fault, FaultQueue, Quota
from airflow_provider_eeops.emulator.identity import ANONYMOUS, DEFAULT_EMAIL, Identities, Identity, Issued
from airflow_provider_eeops.emulator.operations import Operation, State, payload_of, state_of
from airflow_provider_eeops.emulator.requests_log import RequestRecord
from airflow_provider_eeops.emulator.store import OperationStore, new_operation_id

__all__ = ["Emulator"]

_FINISHED_AGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Denial:
    permission: str
    project: str | None
    name: str | None

    def covers(self, permission: str, project: str | None, name: str | None) -> bool:
        return (
            permission == self.permission
            and self.project in {None, project}
            and (self.name is None or (name is not None and fnmatch.fnmatchcase(name, self.name)))
        )


class Emulator:
    """An Earth Engine operations service without sockets. Safe to use from any thread.

    The parameters are attributes of the same names and may be changed at any time.

    :param projects: projects that exist; the first is the default
    :param clock: seconds, as time.time; the state of every operation follows it
    :param pending_seconds: how long an operation waits in the queue
    :param run_seconds: how long an operation runs; may be infinite
    :param run_seconds_of: the same by description: for those that match a glob, the first that does
    :param cancel_seconds: how long an operation is CANCELLING
    :param require_token: refuse requests without an access token
    :param token_lifetime: seconds an access token is good for
    :param cancel_finished: answer to a cancel of a finished operation
    :param cancel_supported: whether `:cancel` exists; otherwise 501
    :param wait_supported: whether `:wait` exists; otherwise 501
    :param latency: seconds from the effect of a request to its answer
    :param requests_per_second: quota of each project; None for none
    :param page_size_limit: most operations on one page of a listing
    :param page_size_default: operations on a page if the request does not say
    :param queue_limit: most operations PENDING in one project
    :param queue_full_status: status of the answer to an export when the queue is full
    :param request_id_repeat: answer to an export whose request id started one before: that operation, as AIP-155 has
        it, or 409, which names none
    :param sparse_payloads: leave out what Earth Engine was seen to leave out on fresh operations
    :param log_limit: most requests kept in the log; the older half goes when there are more
    """

    def __init__(
        self,
        *,
        projects: Iterable[str] = ("emulator-project",),
        clock: Callable[[], float] = time.time,
        pending_seconds: float = 0.2,
        run_seconds: float = 5.0,
        run_seconds_of: Mapping[str, float] | None = None,
        cancel_seconds: float = 0.3,
        require_token: bool = True,
        token_lifetime: float = 3600.0,
        cancel_finished: Literal["ok", "failed_precondition"] = "ok",
        cancel_supported: bool = True,
        wait_supported: bool = True,
        latency: float = 0.0,
        requests_per_second: float | None = None,
        page_size_limit: int = 500,
        page_size_default: int = 100,
        queue_limit: int = 3000,
        queue_full_status: Literal[400, 429] = 429,
        request_id_repeat: Literal["same", "already_exists"] = "same",
        sparse_payloads: bool = False,
        log_limit: int = 200_000,
    ) -> None:
        self.clock = clock
        self.pending_seconds = pending_seconds
        self.run_seconds = run_seconds
        self.run_seconds_of = dict(run_seconds_of or {})
        self.cancel_seconds = cancel_seconds
        self.require_token = require_token
        self.cancel_finished = cancel_finished
        self.cancel_supported = cancel_supported
        self.wait_supported = wait_supported
        self.latency = latency
        self.requests_per_second = requests_per_second
        self.page_size_limit = page_size_limit
        self.page_size_default = page_size_default
        self.queue_limit = queue_limit
        self.queue_full_status = queue_full_status
        self.request_id_repeat = request_id_repeat
        self.sparse_payloads = sparse_payloads
        self.log_limit = log_limit
        self.requests: list[RequestRecord] = []
        self._lock = threading.RLock()
        self._store = OperationStore(projects)
        if not self._store.projects:
            raise ValueError("an emulator needs at least one project")
        self._faults = FaultQueue()
        self._quota = Quota(clock)
        self._identities = Identities(clock, token_lifetime)
        self._denials: list[_Denial] = []
        self._started_by_request: dict[tuple[str, str], str] = {}
        self._sequence = itertools.count(1)
        self._next_request_number = 0

    # Operations

    @property
    def projects(self) -> tuple[str, ...]:
        """Projects that exist; the first is the default."""
        return self._store.projects

    def add_operation(
        self,
        operation_id: str | None = None,
        *,
        project: str | None = None,
        description: str = "operation of the emulator",
        type: str = "EXPORT_IMAGE",  # noqa: A002 - Earth Engine's word
        pending_seconds: float | None = None,
        run_seconds: float | None = None,
        cancel_seconds: float | None = None,
        ends: Literal["SUCCEEDED", "FAILED"] = "SUCCEEDED",
        error_code: int = 3,
        error_message: str = "The operation failed, as the emulator was told.",
        ignores_cancel: bool = False,
        cancelled: bool = False,
        finished: bool = False,
        destination_uris: Iterable[str] = (),
    ) -> str:
        """Start an operation.

        :param operation_id: what follows `operations/` in the name; made up if absent
        :param project: the first project if absent
        :param pending_seconds: as the emulator's parameter, for this operation; so the next two
        :param ends: the state it comes to when nothing stops it
        :param error_code: google.rpc.Code of the error if it ends FAILED
        :param error_message: message of the error if it ends FAILED
        :param ignores_cancel: comes to its own end though a cancel was requested
        :param cancelled: is already cancelled
        :param finished: has already come to its own end
        :param destination_uris: where its outputs are, once it succeeded
        :return: the operation name
        """
        if State(ends) not in {State.SUCCEEDED, State.FAILED}:
            raise ValueError(f"an operation ends SUCCEEDED or FAILED of itself, not {ends}")
        project = project or self.projects[0]
        if project not in self.projects:
            raise ValueError(f"no such project: {project}; the emulator has {', '.join(self.projects)}")
        now = self.clock()
        operation_id = operation_id or new_operation_id()
        with self._lock:
            operation = Operation(
                name=f"projects/{project}/operations/{operation_id}",
                project=project,
                sequence=next(self._sequence),
                description=description,
                type=type,
                created=now,
                pending_seconds=self.pending_seconds if pending_seconds is None else pending_seconds,
                run_seconds=self._run_seconds(description) if run_seconds is None else run_seconds,
                cancel_seconds=self.cancel_seconds if cancel_seconds is None else cancel_seconds,
                ends=State(ends),
                error_code=error_code,
                error_message=error_message,
                ignores_cancel=ignores_cancel,
                destination_uris=tuple(destination_uris),
            )
            if finished or cancelled:
                _put_in_the_past(operation, now, cancelled=cancelled)
            self._store.add(operation)
        return operation.name

    def _run_seconds(self, description: str) -> float:
        matching = (seconds for glob, seconds in self.run_seconds_of.items() if fnmatch.fnmatchcase(description, glob))
        return next(matching, self.run_seconds)

    def state(self, name: str) -> str:
        """State of an operation: PENDING, RUNNING, CANCELLING, SUCCEEDED, CANCELLED or FAILED."""
        return state_of(self._known(name), self.clock()).value

    def operation(self, name: str, *, version: str = "v1alpha") -> dict[str, Any]:
        """Operation as the REST API shows it."""
        return self._payload(self._known(name), version)

    def names(self, project: str | None = None) -> list[str]:
        """Operation names, of one project or of all, in the order of creation."""
        with self._lock:
            wanted = self.projects if project is None else (project,)
            operations = [operation for each in wanted for operation in self._store.newest_first(each)]
        return [operation.name for operation in sorted(operations, key=lambda operation: operation.sequence)]

    def remove_operation(self, name: str) -> None:
        """Forget an operation, as Earth Engine does with old ones."""
        with self._lock:
            self._known(name)
            self._store.remove(name)

    def remove_operations(self) -> None:
        """Forget all operations."""
        with self._lock:
            self._store.clear()

    def request_cancel(self, name: str) -> bool:
        """Request that an operation be cancelled.

        :return: False if it had come to an end before
        """
        with self._lock:
            operation = self._known(name)
            if state_of(operation, self.clock()).terminal:
                return False
            if operation.cancel_requested_at is None:
                operation.cancel_requested_at = self.clock()
            return True

    def cancel_requested(self, name: str) -> bool:
        """Whether a cancel of the operation was accepted."""
        return self._known(name).cancel_requested_at is not None

    def has(self, name: str) -> bool:
        """Whether the operation exists."""
        return self._store.get(name) is not None

    def start_once(self, principal: str, request_id: str, project: str, **parameters: Any) -> str:
        """Start an operation, or name the one that this principal started with the same request id.

        :raises ApiError: if the project's queue is full, or the emulator is to refuse a request id that was used
        """
        with self._lock:
            key = (principal, request_id)
            earlier = self._started_by_request.get(key) if request_id else None
            if earlier is not None and self.has(earlier):
                if self.request_id_repeat == "already_exists":
                    raise ApiError(409, "The request id was used before.", rpc_status="ALREADY_EXISTS")
                return earlier
            self._check_queue(project)
            name = self.add_operation(project=project, **parameters)
            if request_id:
                self._started_by_request[key] = name
            return name

    def page(self, project: str, size: int, token: str, version: str) -> tuple[list[dict[str, Any]], str | None]:
        """One page of a listing, newest first, and the token of the next page if there is one.

        :param size: 0 for the default
        :raises ApiError: if the token is bad
        """
        with self._lock:
            size = min(size or self.page_size_default, self.page_size_limit)
            operations, next_token = self._store.page(project, size, token)
        return [self._payload(operation, version) for operation in operations], next_token

    def _known(self, name: str) -> Operation:
        operation = self._store.get(name)
        if operation is None:
            raise KeyError(name)
        return operation

    def _payload(self, operation: Operation, version: str) -> dict[str, Any]:
        with self._lock:
            return payload_of(operation, self.clock(), version=version, sparse=self.sparse_payloads)

    def _check_queue(self, project: str) -> None:
        if self._store.count(project) < self.queue_limit:
            return
        now = self.clock()
        queued = sum(state_of(each, now) is State.PENDING for each in self._store.newest_first(project))
        if queued >= self.queue_limit:
            raise ApiError(
                self.queue_full_status,
                f"Too many tasks already in the queue ({self.queue_limit}). Please wait for some of them to complete.",
            )

    # What goes wrong

    def add_fault(self, fault: Fault) -> None:
        """Let something go wrong with the next requests that match."""
        with self._lock:
            self._faults.add(fault)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def take_fault(self, method: str, name: str | None) -> Fault | None:
        """Fault that hits this request, if any, counted down."""
        with self._lock:
            return self._faults.take(method, name)

    def deny(self, permission: str, *, project: str | None = None, name: str | None = None) -> None:
        """Refuse what needs a permission, from now on.

        :param permission: e.g. `earthengine.operations.update`
        :param project: only in this project
        :param name: only on this operation, or service account; a glob
        """
        with self._lock:
            self._denials.append(_Denial(permission, project, name))

    def allow_all(self) -> None:
        """Take back all that was denied."""
        with self._lock:
            self._denials.clear()

    def denies(self, permission: str, *, project: str | None = None, name: str | None = None) -> bool:
        """Whether a permission was denied."""
        with self._lock:
            return any(denial.covers(permission, project, name) for denial in self._denials)

    def spend_quota(self, project: str) -> None:
        """Count a request to a project.

        :raises ApiError: 429 if it is one too many
        """
        with self._lock:
            self._quota.spend(project, self.requests_per_second)

    # Who is asking

    def service_account_info(self, email: str = DEFAULT_EMAIL, *, token_uri: str) -> dict[str, Any]:
        """Service-account key, as the JSON file that Google hands out."""
        return self._identities.service_account_info(email, token_uri)

    def issue_token(
        self, principal: str, lifetime: float | None = None, *, scopes: tuple[str, ...] | None = None
    ) -> str:
        """Access token for a principal.

        :param scopes: None: good for anything
        """
        return self.grant(lambda identities: identities.issue(principal, lifetime, scopes)).token

    def issue_refresh_token(self, user: str) -> str:
        """Refresh token for a user."""
        with self._lock:
            return self._identities.refresh_token(user)

    def issue_subject_token(self, subject: str = "subject@example.com") -> str:
        """Token of a foreign identity provider, to be put into the file of an external account."""
        with self._lock:
            return self._identities.subject_token(subject)

    def revoke_tokens(self) -> None:
        """Make all access tokens worthless; refresh tokens and keys stay good."""
        with self._lock:
            self._identities.revoke_all()

    def identify(self, headers: Mapping[str, str]) -> Identity | None:
        """Who a request comes from; None if its token is missing or not good.

        :param headers: names in lower case
        """
        authorization = headers.get("authorization")
        if authorization is None:
            return None if self.require_token else ANONYMOUS
        with self._lock:
            return self._identities.identify(authorization)

    def grant(self, way: Callable[[Identities], Issued]) -> Issued:
        """Access token, got in one of the ways that Identities knows.

        :raises ApiError: if what was offered for it is not good
        """
        with self._lock:
            return way(self._identities)

    # The request log

    def record(self, **fields: Any) -> RequestRecord:
        """Put a request into the log."""
        with self._lock:
            record = RequestRecord(number=self._next_request_number, time=self.clock(), **fields)
            self._next_request_number += 1
            self.requests.append(record)
            if len(self.requests) > self.log_limit:
                del self.requests[: self.log_limit // 2]
            return record

    def count(self, method: str | None = None, name: str | None = None) -> int:
        """How many requests the log has.

        :param method: only these
        :param name: only on this operation
        """
        with self._lock:
            return sum(method in {None, record.method} and name in {None, record.name} for record in self.requests)

    @property
    def next_request_number(self) -> int:
        """Number that the next request gets in the log."""
        return self._next_request_number

    def requests_since(self, number: int) -> list[RequestRecord]:
        """Requests from this number on."""
        with self._lock:
            return [record for record in self.requests if record.number >= number]


def _put_in_the_past(operation: Operation, now: float, *, cancelled: bool) -> None:
    operation.created = now - _FINISHED_AGE_SECONDS
    operation.pending_seconds = min(operation.pending_seconds, 1.0)
    operation.run_seconds = _FINISHED_AGE_SECONDS / 2
    if cancelled:
        operation.cancel_seconds = min(operation.cancel_seconds, 1.0)
        operation.cancel_requested_at = operation.start + operation.run_seconds / 2
        operation.ignores_cancel = False
