"""What a task says of its exports: a row for each, and why it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from airflow_provider_eeops.api.models import Operation, OperationResult, OperationState, Outcome, Report, listing
from airflow_provider_eeops.exceptions import (
    EarthEngineError,
    NotConfirmedError,
    NotStartedError,
    OperationsError,
    OperationsFailedError,
)

__all__ = ["NotStarted", "failure_of", "row_of", "rows_of"]


@dataclass(frozen=True)
class NotStarted:
    """An export that has no operation.

    :param position: its position.
    :param description: its description.
    :param error_message: why.
    """

    position: int
    description: str
    error_message: str

    @classmethod
    def of(cls, position: int, description: str, error: EarthEngineError) -> Self:
        """Say why an export has no operation.

        :param position: its position.
        :param description: its description.
        :param error: what its start met.
        """
        return cls(position, description, error.reason)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return asdict(self)

    @property
    def result(self) -> OperationResult:
        """The same for a report; its name is the description."""
        return OperationResult(
            f"export {self.position} {self.description!r}", Outcome.ERROR, error_message=self.error_message
        )


def row_of(
    name: str | None, operation: Operation | None, *, description: str | None = None, error_message: str | None = None
) -> dict[str, Any]:
    """Say of one export what a task returns of it.

    :param name: operation name; None if it has none.
    :param operation: the operation as it was last seen, if it was.
    :param description: of the export, where no operation shows it.
    :param error_message: why there is no operation, or why it was not seen.
    """
    if operation is None:
        operation = Operation(name or "", state="", description=description, error_message=error_message)
    return {
        "name": name,
        "description": operation.description or description,
        "state": str(operation.state) or None,
        "destination_uris": list(operation.destination_uris),
        "eecu_seconds": operation.eecu_seconds,
        "start_time": _iso(operation.start_time),
        "end_time": _iso(operation.end_time),
        "error_message": operation.error_message,
    }


def rows_of(
    names: Sequence[str],
    not_started: Sequence[NotStarted],
    operations: Mapping[str, Operation],
    errors: Mapping[str, EarthEngineError],
) -> list[dict[str, Any]]:
    """Make the rows of a task, in the order of the positions.

    :param names: operations, in order.
    :param not_started: exports without one.
    :param operations: what was seen, by name.
    :param errors: what was met instead, by name.
    """
    rows = [
        row_of(name, operations.get(name), error_message=errors[name].reason if name in errors else None)
        for name in names
    ]
    for each in sorted(not_started, key=lambda each: each.position):
        row = row_of(None, None, description=each.description, error_message=each.error_message)
        rows.insert(each.position, row)
    return rows


def failure_of(report: Report, not_started: Sequence[NotStarted]) -> OperationsError | None:
    """Make the error of a task whose wait is over; None if every export succeeded.

    :param report: what became of the operations.
    :param not_started: exports without one.
    """
    failed = [result for result in report.results if result.state != OperationState.SUCCEEDED]
    everything = Report((*report.results, *(each.result for each in not_started)))
    if not failed and not not_started:
        return None
    # First what the others were cancelled for.
    failed.sort(key=lambda result: result.state != OperationState.FAILED)
    bad = [*(each.result for each in not_started), *failed]
    ended = [result for result in failed if result.outcome in (Outcome.FINISHED_FIRST, Outcome.CANCELLED)]
    if not_started:
        cls: type[OperationsError] = NotStartedError
        what = "were not started" if not failed else "were not started, or did not succeed"
    elif ended:
        cls, what = OperationsFailedError, "did not succeed"
    else:
        cls, what = NotConfirmedError, "are not known to have succeeded"
    verb = what if len(bad) > 1 else what.replace("were", "was").replace("are not", "is not")
    return cls(f"{len(bad)} of {everything.total} {verb}:\n{listing(bad)}", report=everything)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
