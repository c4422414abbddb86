"""Fields beside the sentence of a log line, for who reads logs by machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from airflow_provider_eeops.api.models import OperationResult, Report
from airflow_provider_eeops.api.names import known_project

__all__ = ["log_fields", "report_fields", "result_fields"]


def log_fields(
    *,
    operation: str | None = None,
    project: str | None = None,
    outcome: str | None = None,
    state: str | None = None,
    error_code: int | None = None,
    progress: float | None = None,
    operations: int | None = None,
    counts: Mapping[str, int] | None = None,
    verdict: str | None = None,
    failed_polls: int | None = None,
    http_status: int | None = None,
    seconds: float | None = None,
) -> AbstractContextManager[Any]:
    """Have the lines that are logged within carry these fields, where the log has a place for them.

    Airflow 3 writes its logs by structlog, which adds what is bound in the context to each line, of whatever logger;
    what the standard library calls ``extra`` it leaves out. Elsewhere a line is its sentence alone.

    :param operation: the operation that the line is about.
    :param project: its project, or that of the request.
    :param outcome: what became of the operation, as in the report.
    :param state: its state.
    :param error_code: the google.rpc.Code of its error, or else of the request's.
    :param progress: how far it is, from 0 to 1.
    :param operations: how many operations the line is about.
    :param counts: of these, how many by outcome, or else by state.
    :param verdict: why a wait ended, as in the trigger's event.
    :param failed_polls: polls that failed in a row.
    :param http_status: the HTTP status of an answer.
    :param seconds: how long is waited now.
    """
    known = {
        "operation": operation,
        "project": known_project(operation) if project is None and operation is not None else project,
        "outcome": outcome,
        "state": state,
        "error_code": error_code,
        "progress": progress,
        "operations": operations,
        "counts": None if counts is None else dict(counts),
        "verdict": verdict,
        "failed_polls": failed_polls,
        "http_status": http_status,
        "seconds": seconds,
    }
    return _bound()(**{name: value for name, value in known.items() if value is not None})


def result_fields(result: OperationResult) -> AbstractContextManager[Any]:
    """Have the lines that are logged within carry what became of an operation.

    :param result: what became of it.
    """
    return log_fields(
        operation=result.name,
        outcome=result.outcome.value,
        state=None if result.state is None else str(result.state),
        error_code=result.error_code,
    )


def report_fields(report: Report, *, verdict: str | None = None) -> AbstractContextManager[Any]:
    """Have the lines that are logged within carry what became of several operations.

    :param report: what became of them.
    :param verdict: why the wait for them ended, if there was one.
    """
    told = None if verdict is None else str(verdict)
    return log_fields(operations=len(report.results), counts=report.counts, verdict=told)


@cache
def _bound() -> Callable[..., AbstractContextManager[Any]]:
    try:
        from structlog.contextvars import bound_contextvars
    except ImportError:  # Airflow 2
        return lambda **_fields: nullcontext()
    return bound_contextvars
