from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskInstanceState

from airflow_provider_eeops.callbacks import (
    Caller,
    caller_of,
    find_instances,
    is_about_run,
    may_cancel,
    run_of,
)
from airflow_provider_eeops.instances import Instance, Run

# Who may cancel in which state: E in the ending process, R in the one to be retried, P in the DAG processor, D at a
# missed deadline.
TABLE = {
    "failed": "ERPD",
    "skipped": "ERPD",
    "upstream_failed": "ERPD",
    "removed": "ERPD",
    "up_for_retry": "ERPD",
    "restarting": "ERPD",
    None: "ERPD",
    "success": "ER",
    "scheduled": "ERD",
    "queued": "ERD",
    "running": "ED",
    "deferred": "D",
    "up_for_reschedule": "D",
    "awaiting_input": "D",
    "shutdown": "ERD",  # Airflow 2's
    "unknown": "ERD",
}
LETTERS = {"E": Caller.ENDING, "R": Caller.RETRYING, "P": Caller.ELSEWHERE, "D": Caller.DEADLINE}


@pytest.mark.parametrize(("state", "letters"), TABLE.items())
def test_who_may_cancel_in_which_state(state: str | None, letters: str) -> None:
    assert "".join(letter for letter, caller in LETTERS.items() if may_cancel(state, caller)) == letters


def test_the_table_has_every_state_of_airflow() -> None:
    assert {str(state.value) for state in TaskInstanceState} <= set(TABLE)


class Thing:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


TI = Thing(dag_id="d", run_id="r", state=None)
RETRIED = Thing(dag_id="d", run_id="r", state=TaskInstanceState.UP_FOR_RETRY)
MISSED = {"dag_run": {"dag_id": "d", "dag_run_id": "r"}, "deadline": {}}


@pytest.mark.parametrize(
    ("context", "about_run", "caller"),
    [
        ({"ti": TI, "run_id": "r"}, False, Caller.ELSEWHERE),
        ({"ti": TI, "exception": None}, False, Caller.ENDING),
        ({"ti": RETRIED, "exception": ValueError()}, False, Caller.RETRYING),
        ({"ti": RETRIED, "exception": ValueError(), "reason": "another notifier's"}, False, Caller.RETRYING),
        ({"dag": Thing(dag_id="d"), "run_id": "r", "reason": "timed_out"}, True, Caller.ELSEWHERE),
        ({"ti": TI, "dag": Thing(dag_id="d"), "run_id": "r", "reason": "task_failure"}, True, Caller.ELSEWHERE),
        (MISSED, True, Caller.DEADLINE),
    ],
)
def test_who_calls(
    context: Mapping[str, Any], *, about_run: bool, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_eeops.callbacks.STATE_FOLLOWS_CALLBACK", False)
    assert (run_of(context), is_about_run(context), caller_of(context)) == (Run("d", "r"), about_run, caller)


def test_airflow_2_stores_a_retry_after_its_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_eeops.callbacks.STATE_FOLLOWS_CALLBACK", True)
    caller = caller_of({"ti": RETRIED, "exception": ValueError()})
    assert caller is Caller.ENDING
    assert may_cancel("running", caller)


@pytest.mark.parametrize("context", [{}, {"dag": Thing(dag_id="d")}, {"dag_run": {"dag_id": "d"}}, {"dag_run": TI}])
def test_no_run(context: Mapping[str, Any]) -> None:
    assert run_of(context) is None


def answering(states: Mapping[Instance, str | None], asked: list[Sequence[str] | None]) -> Any:
    def ask(task_ids: Sequence[str] | None) -> dict[str, str | None]:
        asked.append(task_ids)
        return {
            instance.key: state
            for instance, state in states.items()
            if task_ids is None or instance.task_id in task_ids
        }

    return ask


@pytest.mark.parametrize(
    "states",
    [
        {},
        {Instance("export"): "failed"},
        {Instance("export_1"): "failed", Instance("export"): "success"},
        {Instance("export", 0): "failed", Instance("export", 1): "success"},
        {Instance("export", 1): "failed", Instance("export_1"): "success"},
        {
            Instance("group.export_2", 0): None,
            Instance("group.export_2_0"): "running",
            Instance("group.export", 2): "x",
        },
        {Instance("export", n): str(n) for n in range(250)} | {Instance("export_7"): "failed"},
    ],
)
def test_instances_are_found_whatever_their_keys(states: dict[Instance, str | None]) -> None:
    assert find_instances(answering(states, [])) == states


def test_few_questions_for_many_instances() -> None:
    asked: list[Sequence[str] | None] = []
    find_instances(answering({Instance("export", n): "failed" for n in range(250)}, asked))
    assert [None if some is None else len(some) for some in asked] == [None, 1, 100, 100, 50]


def test_how_an_instance_is_named() -> None:
    assert [str(Instance("export")), str(Instance("export", 2))] == ["export", "export[2]"]
