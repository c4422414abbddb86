from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_eeops import exceptions
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report
from airflow_provider_eeops.exceptions import (
    CODES,
    AlreadyExistsError,
    ApiError,
    CancellationFailedError,
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidArgumentError,
    InvalidInputError,
    InvalidOperationNameError,
    InvalidSettingsError,
    NotConfirmedError,
    NotFoundError,
    NotStartedError,
    OperationsError,
    OperationsFailedError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    QueueFullError,
    QuotaExceededError,
    TaskKilledError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)

A = "projects/one/operations/A"
REPORT = Report((OperationResult(A, Outcome.ERROR, "RUNNING", 14, "x"),))


def api_error(cls: type[ApiError], http_status: int, status: str) -> ApiError:
    return cls(
        "Why.",
        http_status=http_status,
        status=status,
        operation_name=A,
        details=[{"reason": "R"}],
        retry_after=3.0,
    )


CASES: list[tuple[EarthEngineError, bool, str]] = [
    (EarthEngineError("x"), False, "UNKNOWN"),
    (InvalidInputError("x"), False, "INVALID_ARGUMENT"),
    (InvalidOperationNameError("x", value="v"), False, "INVALID_ARGUMENT"),
    (InvalidSettingsError("x"), False, "INVALID_ARGUMENT"),
    (ProjectNotAllowedError("x", value="v"), False, "PERMISSION_DENIED"),
    (CredentialsError("x"), False, "UNAUTHENTICATED"),
    (CredentialsError("x", retryable=True), True, "UNAUTHENTICATED"),
    (ConnectionFailedError("x"), True, "UNAVAILABLE"),
    (UnexpectedAnswerError("x", http_status=200), False, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=302), False, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=404), False, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=408, retry_after=1.0), True, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=500), True, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=501), False, "UNKNOWN"),
    (UnexpectedAnswerError("x", http_status=502), True, "UNKNOWN"),
    (api_error(ApiError, 409, "ABORTED"), False, "ABORTED"),
    (api_error(ApiError, 418, "TEAPOT"), False, "UNKNOWN"),
    (api_error(InvalidArgumentError, 400, "INVALID_ARGUMENT"), False, "INVALID_ARGUMENT"),
    (api_error(FailedPreconditionError, 400, "FAILED_PRECONDITION"), False, "FAILED_PRECONDITION"),
    (api_error(UnauthenticatedError, 401, "UNAUTHENTICATED"), False, "UNAUTHENTICATED"),
    (api_error(PermissionDeniedError, 403, "PERMISSION_DENIED"), False, "PERMISSION_DENIED"),
    (api_error(NotFoundError, 404, "NOT_FOUND"), False, "NOT_FOUND"),
    (api_error(AlreadyExistsError, 409, "ALREADY_EXISTS"), False, "ALREADY_EXISTS"),
    (api_error(QueueFullError, 429, "RESOURCE_EXHAUSTED"), False, "RESOURCE_EXHAUSTED"),
    (api_error(QuotaExceededError, 429, "RESOURCE_EXHAUSTED"), True, "RESOURCE_EXHAUSTED"),
    (api_error(UnimplementedError, 501, "UNIMPLEMENTED"), False, "UNIMPLEMENTED"),
    (api_error(UnavailableError, 503, "UNAVAILABLE"), True, "UNAVAILABLE"),
    (OperationsError("x", report=REPORT), False, "UNKNOWN"),
    (CancellationFailedError("x", report=REPORT), False, "UNKNOWN"),
    (OperationsFailedError("x", report=REPORT), False, "UNKNOWN"),
    (NotStartedError("x", report=REPORT), False, "UNKNOWN"),
    (NotConfirmedError("x", report=REPORT), False, "UNKNOWN"),
    (TaskKilledError("x"), False, "ABORTED"),
]


def classes(base: type[EarthEngineError]) -> Iterator[type[EarthEngineError]]:
    yield base
    for cls in base.__subclasses__():
        yield from classes(cls)


def test_no_error_is_left_out_here() -> None:
    ours = {cls for cls in classes(EarthEngineError) if cls.__module__ == exceptions.__name__}
    assert {type(error) for error, _, _ in CASES} == ours
    assert {cls.__name__ for cls in ours} == set(exceptions.__all__)


def shown(error: EarthEngineError) -> dict[str, Any]:
    return {
        "type": type(error),
        "str": str(error),
        "repr": repr(error),
        "args": error.args,
        "fields": error.__dict__,
        "retryable": error.retryable,
        "code": error.code,
        "reason": error.reason,
    }


@pytest.mark.parametrize(("error", "retryable", "code"), CASES)
def test_retryable_and_code(error: EarthEngineError, retryable: bool, code: str) -> None:
    assert error.retryable is retryable
    assert error.code == CODES[code]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", [error for error, _, _ in CASES])
def test_pickling_loses_nothing(error: EarthEngineError, protocol: int) -> None:
    assert shown(pickle.loads(pickle.dumps(error, protocol))) == shown(error)
    assert shown(copy.copy(error)) == shown(error)


def test_notes_survive_pickling() -> None:
    error = ConnectionFailedError("x")
    error.add_note("while it rained")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while it rained"]


def test_an_api_error_in_words() -> None:
    error = api_error(NotFoundError, 404, "NOT_FOUND")
    assert str(error) == f"{A}: HTTP 404 NOT_FOUND: Why."
    assert error.reason == "HTTP 404 NOT_FOUND: Why."
    assert error.details == [{"reason": "R"}]
    nameless = ApiError("Why.", http_status=409, status="ABORTED")
    assert str(nameless) == nameless.reason == "HTTP 409 ABORTED: Why."
    assert nameless.details == []


def test_the_reason_of_others_is_their_text() -> None:
    assert ConnectionFailedError("No answer.").reason == "No answer."


def test_a_report_is_carried() -> None:
    restored = pickle.loads(pickle.dumps(NotConfirmedError("x", report=REPORT)))
    assert restored.report == REPORT
