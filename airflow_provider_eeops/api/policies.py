"""What a report means for who asked: which results are failures, and whether anything was left to do."""

from __future__ import annotations

from airflow_provider_eeops.api.models import OperationResult, Outcome, Report

__all__ = ["SETTLED", "failed_to_cancel", "not_confirmed", "nothing_was_left"]

SETTLED = frozenset({Outcome.CANCELLED, Outcome.CANCEL_REQUESTED, Outcome.FINISHED_FIRST, Outcome.NOT_FOUND})
"""Outcomes after which there is nothing left to ask for."""


def failed_to_cancel(report: Report, *, if_finished: str, if_not_found: str) -> tuple[OperationResult, ...]:
    """Results that are failures for who wanted to cancel.

    :param report: what became of the operations.
    :param if_finished: ``fail`` makes failures of those that finished first.
    :param if_not_found: ``fail`` makes failures of those that were not found.
    """
    accepted = set(SETTLED)
    if if_finished == "fail":
        accepted.remove(Outcome.FINISHED_FIRST)
    if if_not_found == "fail":
        accepted.remove(Outcome.NOT_FOUND)
    return tuple(result for result in report.results if result.outcome not in accepted)


def nothing_was_left(report: Report) -> bool:
    """Whether all that was found had finished first.

    :param report: what became of the operations.
    """
    cancelled = report.having(Outcome.CANCELLED, Outcome.CANCEL_REQUESTED)
    return not cancelled and bool(report.having(Outcome.FINISHED_FIRST))


def not_confirmed(report: Report, *, if_not_found: str) -> tuple[OperationResult, ...]:
    """Results that are failures for who wanted to see every operation end.

    :param report: what became of the operations.
    :param if_not_found: ``fail`` makes failures of those that were not found.
    """
    accepted = {Outcome.CANCELLED, Outcome.FINISHED_FIRST}
    if if_not_found == "ignore":
        accepted.add(Outcome.NOT_FOUND)
    return tuple(result for result in report.results if result.outcome not in accepted)
