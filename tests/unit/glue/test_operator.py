from __future__ import annotations

import copy
import json
import pickle
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    Context,
    TaskDeferred,
    task_group,
)

from airflow_provider_eeops.api.names import packed
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import CancellationFailedError, InvalidOperationNameError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.signals import killed_when, timed_out_after
from tests.support.task_instance import FakeTaskInstance
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection")

GONE = "projects/one/operations/GONE"


def operator(**parameters: Any) -> EarthEngineCancelOperationsOperator:
    return EarthEngineCancelOperationsOperator(task_id="task", **({"poll_interval": 0.02} | parameters))


# What is wrong with the parameters is said when the DAG file is parsed


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "give operations, or xcom_task_ids"),
        ({"operations": "A", "xcom_task_ids": "export"}, "both given: remove one"),
        ({"operations": "A", "xcom_key": "names"}, "xcom_key"),
        ({"operations": "A", "timeout": -1}, "timeout is -1"),
        ({"operations": "A", "timeout": timedelta(0)}, "timeout is 0"),
        ({"operations": "A", "poll_interval": 0}, "poll_interval is 0"),
        ({"operations": "A", "poll_interval": float("nan")}, "poll_interval is nan"),
        ({"operations": "A", "max_concurrency": 0}, "max_concurrency is 0"),
        ({"operations": "A", "max_concurrency": "many"}, "max_concurrency is 'many'"),
        ({"operations": "A", "if_finished": "panic"}, "if_finished is 'panic'"),
        ({"operations": "A", "if_not_found": "skip"}, "if_not_found is 'skip'"),
        ({"operations": "A", "if_empty": "?"}, "if_empty is '?'"),
    ],
)
def test_a_wrong_parameter_is_named_at_parse_time(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        operator(**parameters)


def test_template_fields_are_attributes() -> None:
    made = operator(operations="A")
    assert [hasattr(made, name) for name in made.template_fields] == [True] * len(made.template_fields)


def test_a_site_wide_default_of_deferring_does_not_make_a_task_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert (operator(operations="A").wait_for_completion, operator(operations="A").deferrable) == (False, True)
    assert operator(operations="A", deferrable=True).wait_for_completion


# Cancelling


def test_cancels_by_name_and_returns_a_json_safe_report(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(cancel_seconds=1000)
    report = operator(operations=name).execute(context)
    assert json.loads(json.dumps(report)) == {
        "counts": {"cancel_requested": 1},
        "operations": [
            {
                "name": name,
                "outcome": "cancel_requested",
                "state": "CANCELLING",
                "error_code": None,
                "error_message": None,
            }
        ],
    }
    assert emulator.state(name) == "CANCELLING"


def test_operation_ids_take_the_project_of_the_task(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(project="two")
    operator(operations=[name.rsplit("/", 1)[1]], project_id="two").execute(context)
    assert emulator.count("cancel", name) == 1


def test_every_operation_is_tried_before_the_task_fails(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    denied, name = emulator.add_operation(), emulator.add_operation(cancel_seconds=1000)
    emulator.deny("earthengine.operations.update", name=denied)
    with pytest.raises(CancellationFailedError) as caught:
        operator(operations=[GONE, denied, "not a name", name]).execute(context)
    text = str(caught.value)
    assert text.startswith("3 of 4 operations failed (1 cancel requested, 1 not found, 1 permission denied, 1 error):")
    assert all(each in text for each in (GONE, denied, "'not a name'"))
    assert f"- {name}" not in text
    assert ti.returned == caught.value.report.to_dict()
    assert emulator.count("cancel", name) == 1
    assert pickle.loads(pickle.dumps(caught.value)).report == caught.value.report


def test_without_one_valid_name_no_request_is_made(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    with pytest.raises(InvalidOperationNameError, match="2 values"):
        operator(operations=["a b", "{{ nonsense"]).execute(context)
    assert emulator.requests == []
    assert ti.returned["counts"] == {"error": 2}


def test_a_template_that_rendered_to_nonsense_is_quoted(emulator: Emulator, context: Context) -> None:
    with pytest.raises(InvalidOperationNameError, match=r"<Undefined>"):
        operator(operations="['<Undefined>'").execute(context)
    assert emulator.requests == []


def test_validate_only_sends_nothing(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    report = operator(operations=[name, GONE], validate_only=True).execute(context)
    assert report["counts"] == {"not_requested": 2}
    assert emulator.requests == []


def test_validate_only_names_what_is_no_operation(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    with pytest.raises(InvalidOperationNameError, match="a b"):
        operator(operations=[GONE, "a b"], validate_only=True).execute(context)
    assert ti.returned["counts"] == {"not_requested": 1, "error": 1}
    assert emulator.requests == []


# What to do about operations that need no cancelling


def test_finished_operations_are_reported_as_such(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    report = operator(operations=name).execute(context)
    assert (report["counts"], report["operations"][0]["state"]) == ({"finished_first": 1}, "SUCCEEDED")


def test_if_finished_fail(emulator: Emulator, context: Context) -> None:
    names = [emulator.add_operation(finished=True), emulator.add_operation()]
    with pytest.raises(CancellationFailedError, match=f"1 of 2(.|\n)*{names[0]}: finished first"):
        operator(operations=names, if_finished="fail").execute(context)


def test_if_finished_skip_skips_when_nothing_was_left(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    finished = emulator.add_operation(finished=True)
    with pytest.raises(AirflowSkipException, match=r"No operation was left to cancel\. 1 operation: 1 finished first"):
        operator(operations=finished, if_finished="skip").execute(context)
    assert ti.returned["counts"] == {"finished_first": 1}
    report = operator(operations=[finished, emulator.add_operation()], if_finished="skip").execute(context)
    assert report["counts"]["finished_first"] == 1


def test_if_not_found_ignore(emulator: Emulator, context: Context) -> None:
    assert operator(operations=GONE, if_not_found="ignore").execute(context)["counts"] == {"not_found": 1}
    assert emulator.count("cancel", GONE) == 1


@pytest.mark.parametrize("empty", [[], "", "None", "[]", [None, []]])
def test_nothing_to_cancel_is_a_success(empty: Any, emulator: Emulator, context: Context) -> None:
    assert operator(operations=empty).execute(context) == {"counts": {}, "operations": []}
    assert emulator.requests == []


def test_if_empty_skip_and_fail(context: Context, ti: FakeTaskInstance) -> None:
    with pytest.raises(AirflowSkipException, match="operations is empty"):
        operator(operations=[], if_empty="skip").execute(context)
    assert ti.returned == {"counts": {}, "operations": []}
    ti.sibling("export")
    with pytest.raises(CancellationFailedError, match="export pushed none"):
        operator(xcom_task_ids="export", if_empty="fail").execute(context)


# From XCom


def test_pulls_what_upstream_tasks_returned_and_tracked(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    names = [emulator.add_operation() for _ in range(5)]
    ti.sibling("pushed_nothing")
    ti.sibling("returned").xcom_push("return_value", {"name": names[0]})
    ti.sibling("tracked").xcom_push("earthengine_operations", [names[1]])
    ti.sibling("mapped", map_index=0).xcom_push("return_value", names[2])
    ti.sibling("mapped", map_index=1).xcom_push("return_value", names[3])
    report = operator(xcom_task_ids=["returned", "tracked", "mapped", "pushed_nothing"]).execute(context)
    assert [op["name"] for op in report["operations"]] == names[:4]
    assert emulator.count("cancel", names[4]) == 0


def test_a_task_that_tracked_may_return_anything(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    tracked, returned = emulator.add_operation(), emulator.add_operation()
    export = ti.sibling("export")
    export.xcom_push("earthengine_operations", [tracked])
    export.xcom_push("return_value", ["done", 42, returned])
    report = operator(xcom_task_ids="export").execute(context)
    assert [op["name"] for op in report["operations"]] == [returned, tracked]


@pytest.mark.parametrize("returned", ["done", {"exported": 0}, 42, None])
def test_a_task_that_tracked_nothing_may_return_anything_too(
    returned: Any, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    ti.sibling("export").xcom_push("earthengine_operations", [])
    ti.sibling("export").xcom_push("return_value", returned)
    assert operator(xcom_task_ids="export").execute(context) == {"counts": {}, "operations": []}
    assert emulator.requests == []


def test_a_task_that_the_dag_does_not_have_is_a_failure_and_stops_no_other(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    ti.sibling("group.export").xcom_push("return_value", name)
    with pytest.raises(CancellationFailedError, match=r"no such task; did you mean 'group\.export'"):
        operator(xcom_task_ids=["group.export", "export"]).execute(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("odd", [None, 5, ["export"]])
def test_what_is_no_task_id_is_a_failure_and_stops_no_other(
    odd: Any, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    ti.sibling("export").xcom_push("return_value", name)
    with pytest.raises(CancellationFailedError, match="give task ids, as text"):
        operator(xcom_task_ids=["export", odd]).execute(context)
    assert emulator.cancel_requested(name)


def test_within_a_mapped_task_group_only_the_own_instances_operations(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    own, other, outside = (emulator.add_operation() for _ in range(3))
    with DAG("mapped", schedule=None) as dag:
        BaseOperator(task_id="outside")

        @task_group
        def group(i: int) -> None:  # noqa: ARG001 - what it is mapped over
            BaseOperator(task_id="export") >> BaseOperator(task_id="cancel")

        group.expand(i=[0, 1])
    ti.task, ti.map_index = dag.get_task("group.cancel"), 1
    ti.xcoms.update(
        {
            ("group.export", 0, "return_value"): other,
            ("group.export", 1, "return_value"): own,
            ("outside", -1, "return_value"): outside,
        }
    )
    report = operator(xcom_task_ids=["group.export", "outside"]).execute(context)
    assert [op["name"] for op in report["operations"]] == [own, outside]
    assert not emulator.cancel_requested(other)


def test_a_key_pulls_that_key_alone(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    ti.sibling("export").xcom_push("names", name)
    ti.sibling("export").xcom_push("return_value", "not a name")
    report = operator(xcom_task_ids="export", xcom_key="names").execute(context)
    assert [op["name"] for op in report["operations"]] == [name]


# Waiting in the worker


def test_waits_until_every_operation_is_confirmed(emulator: Emulator, context: Context) -> None:
    names = [emulator.add_operation(), emulator.add_operation(ignores_cancel=True, run_seconds=0.2)]
    report = operator(operations=names, wait_for_completion=True, deferrable=False).execute(context)
    assert [op["outcome"] for op in report["operations"]] == ["cancelled", "finished_first"]
    assert [emulator.state(name) for name in names] == ["CANCELLED", "SUCCEEDED"]


def test_fails_listing_what_was_not_confirmed_in_time(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    slow, quick = emulator.add_operation(cancel_seconds=1000), emulator.add_operation()
    with pytest.raises(CancellationFailedError, match=f"{slow}: not confirmed .CANCELLING.") as caught:
        operator(operations=[slow, quick], wait_for_completion=True, timeout=0.3).execute(context)
    assert quick not in str(caught.value)
    assert ti.returned["counts"] == {"cancelled": 1, "not_confirmed_in_time": 1}


def test_failures_of_the_request_are_not_lost_while_waiting_for_the_others(
    emulator: Emulator, context: Context
) -> None:
    name = emulator.add_operation()
    with pytest.raises(CancellationFailedError, match=f"{GONE}: not found") as caught:
        operator(operations=[GONE, name], wait_for_completion=True).execute(context)
    assert caught.value.report.counts == {"cancelled": 1, "not_found": 1}


def test_a_kill_ends_the_wait_and_the_task_fails(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(cancel_seconds=1000)
    task = operator(operations=name, wait_for_completion=True, poll_interval=3600)
    killed = killed_when(lambda: emulator.count("get", name) > 1, task.on_kill)
    with killed, pytest.raises(CancellationFailedError, match="killed"):
        task.execute(context)


@pytest.mark.parametrize(("cancel_on_kill", "requests"), [(True, 2), (False, 1)])
def test_a_kill_during_the_wait_requests_again_what_is_not_confirmed(
    cancel_on_kill: bool, requests: int, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    confirmed, slow = emulator.add_operation(), emulator.add_operation(cancel_seconds=1000)
    task = operator(
        operations=[confirmed, slow], wait_for_completion=True, poll_interval=0.2, cancel_on_kill=cancel_on_kill
    )
    killed = killed_when(lambda: emulator.count("get", slow) > 5, task.on_kill)
    with killed, pytest.raises(CancellationFailedError, match="killed"):
        task.execute(context)
    assert [emulator.count("cancel", name) for name in (confirmed, slow)] == [1, requests]
    assert (ti.xcom_pull(key="earthengine_operations") is not None) is cancel_on_kill


def test_a_kill_while_requests_are_sent_leaves_none_out_and_the_task_fails(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    names = [emulator.add_operation(cancel_seconds=1000) for _ in range(30)]
    emulator.add_fault(Fault("cancel", seconds=0.05, times=None))
    task = operator(operations=names, max_concurrency=2)
    killed = killed_when(lambda: emulator.count("cancel") > 1, task.on_kill)
    with killed, pytest.raises(CancellationFailedError, match="killed"):
        task.execute(context)
    assert all(emulator.cancel_requested(name) for name in names)
    assert len(ti.returned["operations"]) == 30


def test_what_was_requested_is_in_xcom_whatever_ends_the_wait(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation(cancel_seconds=1000)
    with pytest.raises(AirflowTaskTimeout), timed_out_after(0.5):
        operator(operations=name, wait_for_completion=True).execute(context)
    assert ti.returned["operations"][0]["state"] == "CANCELLING"


def test_a_task_told_to_push_nothing_pushes_nothing(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    ti.task.do_xcom_push = False
    with pytest.raises(CancellationFailedError):
        operator(operations=[GONE, emulator.add_operation()], wait_for_completion=True).execute(context)
    assert ti.xcoms == {}


def test_an_executed_operator_can_be_copied(emulator: Emulator, context: Context) -> None:
    task = operator(operations=emulator.add_operation())
    task.execute(context)
    assert copy.deepcopy(task).operations == task.operations


def test_on_kill_before_execute_is_harmless() -> None:
    operator(operations="A").on_kill()


# Waiting in the triggerer


def deferred(task: EarthEngineCancelOperationsOperator, context: Context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    return caught.value


def test_defers_for_what_is_not_confirmed_and_keeps_the_rest(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    finished, open_ = emulator.add_operation(finished=True), emulator.add_operation(cancel_seconds=1000)
    task = operator(operations=[finished, open_], deferrable=True, timeout=100, max_concurrency=3)
    signalled = deferred(task, context)
    assert isinstance(signalled.trigger, EarthEngineOperationsTrigger)
    _, arguments = signalled.trigger.serialize()
    assert arguments["operations"] == packed([open_])
    assert arguments["max_concurrency"] == 3
    assert arguments["deadline"] == pytest.approx(time.time() + 100, abs=20)
    assert signalled.timeout is not None
    assert signalled.timeout > timedelta(seconds=arguments["deadline"] - time.time())
    assert ti.returned["counts"] == {"cancel_requested": 1, "finished_first": 1}

    event = {
        "verdict": "settled",
        "message": "1 operation: 1 cancelled",
        "report": {"counts": {}, "operations": [_cancelled(open_)]},
    }
    for requested in (None, (signalled.kwargs or {})["requested"]):  # dag.test() drops what defer() was given
        report = operator(operations=[finished, open_]).execute_complete(context, event, requested)
        assert [op["outcome"] for op in report["operations"]] == ["finished_first", "cancelled"]


def _cancelled(name: str) -> dict[str, Any]:
    return {"name": name, "outcome": "cancelled", "state": "CANCELLED", "error_code": 1, "error_message": "Cancelled."}


def test_resuming_without_the_xcom_takes_what_the_trigger_saw(context: Context) -> None:
    event = {"verdict": "settled", "message": "", "report": {"operations": [_cancelled("projects/one/operations/A")]}}
    assert operator(operations="A").execute_complete(context, event)["counts"] == {"cancelled": 1}


def test_does_not_defer_when_nothing_is_open(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    assert operator(operations=name, deferrable=True).execute(context)["counts"] == {"finished_first": 1}


def test_the_execution_timeout_bounds_a_deferred_wait(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    ti.task.execution_timeout = timedelta(seconds=30)
    ti.start_date = datetime.now(UTC)
    name = emulator.add_operation(cancel_seconds=1000)
    signalled = deferred(operator(operations=name, deferrable=True, timeout=None), context)
    deadline = signalled.trigger.serialize()[1]["deadline"]
    assert deadline == pytest.approx(ti.start_date.timestamp() + 30)


def test_without_any_limit_a_deferred_wait_has_none(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(cancel_seconds=1000)
    signalled = deferred(operator(operations=name, deferrable=True, timeout=None), context)
    assert (signalled.trigger.serialize()[1]["deadline"], signalled.timeout) == (None, None)


def test_nothing_secret_is_in_the_triggers_arguments(
    emulator: Emulator, context: Context, set_connection: SetConnection
) -> None:
    set_connection()
    name = emulator.add_operation(cancel_seconds=1000)
    signalled = deferred(operator(operations=name, deferrable=True), context)
    assert "PRIVATE KEY" not in json.dumps(signalled.trigger.serialize())


def test_an_unsupported_cancel_is_a_failure(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", status=501, times=None))
    with pytest.raises(CancellationFailedError, match=f"{name}: unsupported"):
        operator(operations=name).execute(context)
