"""The errors of this package.

::

    EarthEngineError
    ├── InvalidInputError (ValueError)      refused before a request was made
    │   ├── InvalidOperationNameError       not an operation name, id, or anything that holds one
    │   ├── InvalidSettingsError            a connection extra or a parameter
    │   └── ProjectNotAllowedError          an operation outside the connection's allowed_projects
    ├── CredentialsError                    no credentials, or no token for them
    ├── ConnectionFailedError               no answer: refused, reset, timed out     (retryable)
    ├── UnexpectedAnswerError               an answer that is not the API's          (retryable on 408, 5xx but 501)
    ├── ApiError                            the API answered with a google.rpc.Status
    │   ├── InvalidArgumentError            400
    │   ├── FailedPreconditionError         400 FAILED_PRECONDITION
    │   ├── UnauthenticatedError            401
    │   ├── PermissionDeniedError           403
    │   ├── NotFoundError                   404
    │   ├── AlreadyExistsError              409 ALREADY_EXISTS
    │   ├── QueueFullError                  the project's queue of exports is full, whatever the status
    │   ├── QuotaExceededError              429                                      (retryable)
    │   ├── UnimplementedError              501
    │   └── UnavailableError                408, 500, 502, 503, 504                  (retryable)
    ├── TaskKilledError                 the task that owns the operations was asked to stop
    └── OperationsError                     carries the report of what became of each operation
        ├── CancellationFailedError         some could not be cancelled
        ├── OperationsFailedError           some ended in a state that was not accepted
        ├── NotStartedError                 some could not be started
        └── NotConfirmedError               some were not confirmed in time

All of them survive pickling, as Airflow passes errors between processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_eeops.api.models import Report

__all__ = [
    "AlreadyExistsError",
    "ApiError",
    "CancellationFailedError",
    "ConnectionFailedError",
    "CredentialsError",
    "EarthEngineError",
    "FailedPreconditionError",
    "InvalidArgumentError",
    "InvalidInputError",
    "InvalidOperationNameError",
    "InvalidSettingsError",
    "NotConfirmedError",
    "NotFoundError",
    "NotStartedError",
    "OperationsError",
    "OperationsFailedError",
    "PermissionDeniedError",
    "ProjectNotAllowedError",
    "QueueFullError",
    "QuotaExceededError",
    "TaskKilledError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnimplementedError",
]

CODES: Mapping[str, int] = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""google.rpc.Code by name."""


class EarthEngineError(Exception):
    """Base of all errors of this package."""

    #: Whether an attempt before the one that met this had no clear answer, and may have taken effect.
    follows_unclear = False

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return False

    @property
    def code(self) -> int:
        """The google.rpc.Code that says the same."""
        return CODES["UNKNOWN"]

    @property
    def reason(self) -> str:
        """What happened, for where the operation is named already."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ would call __init__ with the message alone; keyword-only fields need this.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[EarthEngineError], args: tuple[Any, ...], state: dict[str, Any]) -> EarthEngineError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInputError(EarthEngineError, ValueError):
    """Input that was refused before a request was made."""

    @property
    def code(self) -> int:
        """INVALID_ARGUMENT."""
        return CODES["INVALID_ARGUMENT"]


class InvalidOperationNameError(InvalidInputError):
    """A value that is not an operation name and holds none.

    :param message: what is wrong and what to do.
    :param value: the offending value, shortened, as text.
    """

    def __init__(self, message: str, *, value: str) -> None:
        super().__init__(message)
        #: The offending value, shortened, as text.
        self.value = value


class InvalidSettingsError(InvalidInputError):
    """A connection extra or a parameter that cannot be used."""


class ProjectNotAllowedError(InvalidOperationNameError):
    """An operation in a project outside the connection's ``allowed_projects``."""

    @property
    def code(self) -> int:
        """PERMISSION_DENIED."""
        return CODES["PERMISSION_DENIED"]


class CredentialsError(EarthEngineError):
    """No credentials could be had, or no token for them.

    :param message: what is wrong and what to do.
    :param retryable: whether the token server may answer later.
    :param retry_after: seconds the token server asked to wait, if it did.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self._retryable = retryable
        #: Seconds the token server asked to wait.
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the token server may answer later."""
        return self._retryable

    @property
    def code(self) -> int:
        """UNAUTHENTICATED."""
        return CODES["UNAUTHENTICATED"]


class ConnectionFailedError(EarthEngineError):
    """No answer came: refused, reset, or timed out. The request may have taken effect all the same."""

    @property
    def retryable(self) -> bool:
        """Always."""
        return True

    @property
    def code(self) -> int:
        """UNAVAILABLE."""
        return CODES["UNAVAILABLE"]


class UnexpectedAnswerError(EarthEngineError):
    """An answer that is not the API's: HTML from a proxy, half a body, a redirect.

    :param message: what came instead, with its first characters.
    :param http_status: the HTTP status.
    :param retry_after: seconds the server asked to wait, if it did.
    """

    def __init__(self, message: str, *, http_status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        #: The HTTP status.
        self.http_status = http_status
        #: Seconds the server asked to wait.
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """On 408 and on a 5xx but 501."""
        return self.http_status == HTTPStatus.REQUEST_TIMEOUT or (
            self.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR and self.http_status != HTTPStatus.NOT_IMPLEMENTED
        )


class ApiError(EarthEngineError):
    """The API answered with an error.

    :param message: Google's message.
    :param http_status: the HTTP status.
    :param status: the name of the google.rpc.Code, such as ``NOT_FOUND``.
    :param operation_name: the operation asked for, if one was.
    :param details: Google's ``error.details``.
    :param retry_after: seconds the server asked to wait, if it did.
    :param remedy: what to do about it, in words, if it is known.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int,
        status: str,
        operation_name: str | None = None,
        details: Sequence[Any] = (),
        retry_after: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message)
        #: Google's message.
        self.message = message
        #: The HTTP status.
        self.http_status = http_status
        #: The name of the google.rpc.Code.
        self.status = status
        #: The operation asked for, if one was.
        self.operation_name = operation_name
        #: Google's ``error.details``.
        self.details = list(details)
        #: Seconds the server asked to wait.
        self.retry_after = retry_after
        #: What to do about it, in words.
        self.remedy = remedy

    @property
    def code(self) -> int:
        """The google.rpc.Code of the answer."""
        return CODES.get(self.status, CODES["UNKNOWN"])

    @property
    def reason(self) -> str:
        """What was answered, and what to do, without the operation's name."""
        told = self.explanation
        return f"HTTP {self.http_status} {self.status}: {self.message}" + (f" ({told})" if told else "")

    @property
    def explanation(self) -> str:
        """What the answer does not say itself."""
        return "" if self.remedy in self.message else self.remedy

    def __str__(self) -> str:
        return f"{self.operation_name}: {self.reason}" if self.operation_name else self.reason


class InvalidArgumentError(ApiError):
    """400: the request is wrong."""


class FailedPreconditionError(ApiError):
    """400 FAILED_PRECONDITION: the operation is not in a state for it, for one because it has finished."""


class UnauthenticatedError(ApiError):
    """401: the token was not accepted, also after it was refreshed."""


class PermissionDeniedError(ApiError):
    """403: the principal lacks a permission, or something else does not allow the call.

    :param message: Google's message.
    :param missing: what is missing, in words, if it is known.
    :param permission: the permission that is missing; where the answer names none, the one that the call needs; None
        if something else is missing.
    :param api_error: what any ApiError takes.
    """

    def __init__(self, message: str, *, missing: str = "", permission: str | None = None, **api_error: Any) -> None:
        super().__init__(message, **api_error)
        #: What is missing, in words.
        self.missing = missing
        #: The permission that is missing, or that the call needs; None if something else is missing.
        self.permission = permission

    @property
    def explanation(self) -> str:
        """What is missing, unless the answer names it, and what to do."""
        told = self.permission is not None and self.permission in self.message
        return ": ".join(filter(None, ("" if told else self.missing, super().explanation)))


class NotFoundError(ApiError):
    """404: no such operation, or it has expired, or it is hidden from this principal."""


class AlreadyExistsError(ApiError):
    """409 ALREADY_EXISTS: something was started with this request id before."""


class QueueFullError(ApiError):
    """As many exports wait in the project as may: there is room when some have ended, which takes minutes."""


class QuotaExceededError(ApiError):
    """429: too many requests."""

    @property
    def retryable(self) -> bool:
        """Always."""
        return True


class UnimplementedError(ApiError):
    """501: the server has no such method."""


class UnavailableError(ApiError):
    """408, 500, 502, 503 or 504: the server could not answer now."""

    @property
    def retryable(self) -> bool:
        """Always."""
        return True


class TaskKilledError(EarthEngineError):
    """The task that owns the operations was asked to stop."""

    @property
    def code(self) -> int:
        """ABORTED."""
        return CODES["ABORTED"]


class OperationsError(EarthEngineError):
    """Operations did not end as asked.

    :param message: each operation concerned and what became of it.
    :param report: what became of all of them.
    """

    def __init__(self, message: str, *, report: Report) -> None:
        super().__init__(message)
        #: What became of all operations.
        self.report = report


class CancellationFailedError(OperationsError):
    """Some operations could not be cancelled."""


class OperationsFailedError(OperationsError):
    """Some operations ended in a state that was not accepted."""


class NotStartedError(OperationsError):
    """Some operations could not be started."""


class NotConfirmedError(OperationsError):
    """Some operations were not confirmed in time."""
