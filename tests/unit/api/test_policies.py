from __future__ import annotations

import pytest

from airflow_provider_eeops.api.models import OperationResult, Outcome, Report
from airflow_provider_eeops.api.policies import failed_to_cancel, not_confirmed, nothing_was_left

EVERY = Report(tuple(OperationResult(outcome.value, outcome) for outcome in Outcome))
ALWAYS = {"permission_denied", "unsupported", "not_confirmed_in_time", "not_requested", "error"}


def names(results: tuple[OperationResult, ...]) -> set[str]:
    return {result.name for result in results}


@pytest.mark.parametrize(
    ("if_finished", "if_not_found", "more"),
    [
        ("ignore", "ignore", set()),
        ("skip", "ignore", set()),
        ("fail", "ignore", {"finished_first"}),
        ("ignore", "fail", {"not_found"}),
        ("fail", "fail", {"finished_first", "not_found"}),
    ],
)
def test_failed_to_cancel(if_finished: str, if_not_found: str, more: set[str]) -> None:
    assert names(failed_to_cancel(EVERY, if_finished=if_finished, if_not_found=if_not_found)) == ALWAYS | more


@pytest.mark.parametrize(("if_not_found", "more"), [("ignore", set()), ("fail", {"not_found"})])
def test_not_confirmed(if_not_found: str, more: set[str]) -> None:
    assert names(not_confirmed(EVERY, if_not_found=if_not_found)) == ALWAYS | {"cancel_requested"} | more


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ([], False),
        ([Outcome.FINISHED_FIRST], True),
        ([Outcome.FINISHED_FIRST, Outcome.NOT_FOUND], True),
        ([Outcome.NOT_FOUND], False),
        ([Outcome.FINISHED_FIRST, Outcome.CANCELLED], False),
        ([Outcome.FINISHED_FIRST, Outcome.CANCEL_REQUESTED], False),
    ],
)
def test_nothing_was_left(outcomes: list[Outcome], left: bool) -> None:
    assert nothing_was_left(Report(tuple(OperationResult(o.value, o) for o in outcomes))) is left
