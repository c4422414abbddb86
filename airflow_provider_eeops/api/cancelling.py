"""Many names -> one report: requests cancellation of each, some at a time, and loses none on the way."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.logfields import log_fields, result_fields
from airflow_provider_eeops.api.models import Operation, OperationResult, Outcome, Report, counted
from airflow_provider_eeops.api.observing import CANCEL, tell_confirmed, tell_outcomes
from airflow_provider_eeops.api.pace import shortfall
from airflow_provider_eeops.api.policies import SETTLED
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, in_parallel, observe
from airflow_provider_eeops.api.progress import Progress
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidOperationNameError,
    NotFoundError,
    UnavailableError,
    UnexpectedAnswerError,
)

__all__ = ["KILL_BUDGET", "cancel_in_haste", "cancel_operations", "invalid_results"]

KILL_BUDGET = Budget(retries=1, deadline=4.0, connect_timeout=2.0, read_timeout=3.0)
"""What one call may spend when the task is dying: Airflow kills it 5 s after it asked it to stop."""

KILL_CONCURRENCY = 32

_log = logging.getLogger(__name__)


class _Logger(Protocol):
    """What the standard library's and Airflow's loggers have in common."""

    def info(self, message: str, /, *args: Any) -> Any: ...

    def warning(self, message: str, /, *args: Any) -> Any: ...

    def error(self, message: str, /, *args: Any) -> Any: ...


# After these the request may have taken effect, or had none left to take: only a GET tells.
_UNCLEAR = (FailedPreconditionError, ConnectionFailedError, UnavailableError, UnexpectedAnswerError)


def cancel_operations(
    client: EarthEngineOperationsClient,
    names: Sequence[str],
    *,
    invalid: Sequence[InvalidOperationNameError] = (),
    max_concurrency: int = DEFAULT_CONCURRENCY,
    look_after: bool = True,
    on_result: Callable[[OperationResult], None] = lambda _result: None,
    until: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    log: _Logger = _log,
) -> Report:
    """Request cancellation of every operation, whatever happens to the others.

    :param client: whom to ask.
    :param names: operation names.
    :param invalid: values that were no operations; they are in the report as errors.
    :param max_concurrency: requests at once.
    :param look_after: ask once for the state of the operations whose cancellation was requested, as the server
        accepts the request for operations that have finished too. Without it those are "cancel requested".
    :param on_result: told the result of each request as it comes.
    :param until: seconds of the clock's ``monotonic()`` at which it ends; what is not done then is an error.
    :param stopped: asked before each request; once it says yes, what is not asked yet is not, and is "not requested".
    :param log: where to say how far it is.
    """
    names = list(dict.fromkeys(names))
    if until is not None:
        client = client.ending(until)
    with client.observer.span(CANCEL, names, now=client.clock.time) as span:
        report = _cancel_each(
            client,
            names,
            max_concurrency=max_concurrency,
            look_after=look_after,
            on_result=on_result,
            until=until,
            stopped=stopped,
            log=log,
        )
        tell_outcomes(client.observer, report)
        unsettled = [result.outcome.value for result in report.results if result.outcome not in SETTLED]
        span.conclude(report, error=next(iter(unsettled), None))
    return Report((*report.results, *invalid_results(invalid)))


def _cancel_each(
    client: EarthEngineOperationsClient,
    names: Sequence[str],
    *,
    max_concurrency: int,
    look_after: bool,
    on_result: Callable[[OperationResult], None],
    until: float | None,
    stopped: Callable[[], bool],
    log: _Logger,
) -> Report:
    requested_at: dict[str, float] = {}

    def cancel(name: str) -> OperationResult:
        if stopped():
            return OperationResult(name, Outcome.NOT_REQUESTED, error_message="not asked: interrupted")
        # Without a look afterwards there is no time for a second request but the one that replaces a guess.
        result = _cancel(client, name, unclear=_UNCLEAR if look_after else (FailedPreconditionError,))
        requested_at[name] = client.clock.time()
        return result

    if until is not None:
        seconds = until - client.clock.monotonic()
        if told := shortfall(len(names), requests_per_second=client.requests_per_second, seconds=seconds):
            log.warning("%s", told)
    progress = Progress(len(names), now=client.clock.monotonic())
    results: dict[str, OperationResult] = {}
    for name, seen in in_parallel(names, cancel, max_concurrency=max_concurrency, until=until, clock=client.clock):
        result = OperationResult.from_error(name, seen) if isinstance(seen, EarthEngineError) else seen
        results[name] = result
        on_result(result)
        if told := progress.count(now=client.clock.monotonic()):
            with log_fields(operations=len(names)):
                log.info("Cancel requests answered: %s.", told)
    if look_after and not stopped():
        requested = [name for name, result in results.items() if result.outcome is Outcome.CANCEL_REQUESTED]
        seen_after = observe(client, requested, max_concurrency=max_concurrency, until=until)
        _warn_of(seen_after.errors)
        now = client.clock.time()
        for name, operation in seen_after.operations.items():
            results[name] = _result(operation)
            tell_confirmed(client.observer, [operation], requested_at=requested_at.get(name), now=now)
    return Report(tuple(results[name] for name in names))


def cancel_in_haste(
    client: EarthEngineOperationsClient,
    names: Sequence[str],
    *,
    log: _Logger,
    because: str,
    invalid: Sequence[InvalidOperationNameError] = (),
    on_result: Callable[[OperationResult], None] = lambda _result: None,
    seconds: float = KILL_BUDGET.deadline,
) -> Report:
    """Request cancellation of the operations of a task that is dying, and log what became of each as it comes.

    Waits for nothing but the answers: who waits for confirmation is the cleanup that runs after. Whatever the
    requests meet is in the report and in the log, and is not raised.

    :param client: whom to ask.
    :param names: operation names.
    :param log: where to say what became of each.
    :param because: what happened to the task, to begin the log with.
    :param invalid: values that were no operations; they are logged.
    :param on_result: told the result of each request as it comes.
    :param seconds: what all requests together may take; what could not be asked then is an error.
    """

    def tell(result: OperationResult) -> None:
        on_result(result)
        with result_fields(result):
            (log.info if result.outcome in SETTLED else log.error)("%s", result)

    until = client.clock.monotonic() + seconds
    with log_fields(operations=len(names)):
        log.info("%s Requesting cancellation of %s.", because, counted(len(names)))
    report = cancel_operations(
        client.within(replace(KILL_BUDGET, deadline=seconds)),
        names,
        invalid=invalid,
        max_concurrency=KILL_CONCURRENCY,
        look_after=False,
        on_result=tell,
        until=until,
        log=log,
    )
    for result in invalid_results(invalid):
        tell(result)
    return report


def invalid_results(invalid: Collection[InvalidOperationNameError]) -> list[OperationResult]:
    """Results for values that were no operations: no request was made for them."""
    return [OperationResult.from_error(error.value, error) for error in invalid]


def _cancel(
    client: EarthEngineOperationsClient, name: str, *, unclear: tuple[type[EarthEngineError], ...]
) -> OperationResult:
    try:
        client.cancel_operation(name)
    except unclear as error:
        return _truth(client, name, error)
    return OperationResult(name, Outcome.CANCEL_REQUESTED)


def _warn_of(errors: Mapping[str, EarthEngineError]) -> None:
    """Log what the look afterwards met, a line for each kind of it, however many operations met it."""
    met: defaultdict[str, list[str]] = defaultdict(list)
    for name, error in errors.items():
        met[error.reason].append(name)
    for reason, names in met.items():
        others = f" and of {counted(len(names) - 1)} more" if len(names) > 1 else ""
        with log_fields(operation=names[0], operations=len(names)):
            _log.warning("Cancellation of %s%s was requested; asked for the state: %s", names[0], others, reason)


def _truth(client: EarthEngineOperationsClient, name: str, error: EarthEngineError) -> OperationResult:
    """Ask what the operation is in, after an answer to ``:cancel`` that does not say."""
    try:
        operation = client.get_operation(name)
    except NotFoundError as gone:
        return OperationResult.from_error(name, gone)
    except EarthEngineError:
        return OperationResult.from_error(name, error)
    if operation.confirmed or operation.state == "CANCELLING":
        return _result(operation)
    return OperationResult.from_error(name, error, state=operation.state)


def _result(operation: Operation) -> OperationResult:
    return OperationResult.from_operation(operation, otherwise=Outcome.CANCEL_REQUESTED)
