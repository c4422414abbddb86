from __future__ import annotations

import copy
import json
import pickle
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

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
from airflow.providers.common.compat.sdk import task as dag_task

from airflow_provider_eeops.api.names import packed
from airflow_provider_eeops.api.selecting import OperationSelector
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import (
    CancellationFailedError,
    InvalidInputError,
    InvalidOperationNameError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.clock import AdvancingClock
from tests.support.signals import killed_when, timed_out_when
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
        ({}, "give operations, xcom_task_ids, or a selector"),
        ({"operations": "A", "xcom_task_ids": "export"}, "both given: remove one"),
        ({"operations": "A", "selector": {"types": "A"}}, "operations and selector are both given: remove one"),
        ({"xcom_task_ids": "A", "selector": {"types": "A"}}, "xcom_task_ids and selector are both given: remove one"),
        ({"operations": "A", "xcom_key": "names"}, "xcom_key"),
        ({"selector": {"types": "A"}, "xcom_key": "names"}, "xcom_key means nothing without xcom_task_ids"),
        ({"selector": {}}, "the selector narrows nothing"),
        ({"selector": {"project_id": "one"}}, "the selector narrows nothing"),
        ({"selector": {"states": ["FAILED"]}}, "states names 'FAILED'"),
        ({"selector": {"stats": ["RUNNING"]}}, "selector has 'stats'"),
        ({"selector": {"description": "{{ x }}", "older_than": 0}}, "older_than is 0"),
        ({"selector": "nightly"}, "selector is 'nightly'"),
        ({"selector": ["{{ x }}"], "max_operations": 0}, "max_operations is 0"),
        ({"operations": "A", "max_operations": 1.5}, "max_operations is 1.5"),
        ({"operations": "A", "validate_only": "perhaps"}, "validate_only is 'perhaps'"),
        ({"operations": "A", "validate_only": 1}, "validate_only is 1"),
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


# By selection


MINE = OperationSelector(description="mine-*")


def add_several(emulator: Emulator, count: int, description: str = "mine") -> list[str]:
    """Operations of that description; a listing shows them in this order."""
    names = [emulator.add_operation(description=f"{description}-{n}", cancel_seconds=1000) for n in range(count)]
    return names[::-1]


def names_in(report: dict[str, Any]) -> list[str]:
    return [op["name"] for op in report["operations"]]


def test_cancels_what_is_selected_and_nothing_else(emulator: Emulator, context: Context) -> None:
    mine, others = add_several(emulator, 3), add_several(emulator, 3, "theirs")
    finished = emulator.add_operation(description="mine-finished", finished=True)
    elsewhere = emulator.add_operation(description="mine-elsewhere", project="two")
    report = operator(selector=MINE).execute(context)
    assert (names_in(report), report["counts"]) == (mine, {"cancel_requested": 3})
    assert [emulator.cancel_requested(name) for name in mine] == [True] * 3
    assert not any(emulator.cancel_requested(name) for name in [*others, finished, elsewhere])
    assert emulator.count("cancel") == 3


@pytest.mark.parametrize(
    ("selector", "project_id", "taken"),
    [
        ({"description": "mine-*"}, None, "one"),
        ({"description": "mine-*"}, "two", "two"),
        ({"description": "mine-*", "project_id": "two"}, None, "two"),
        ({"description": "mine-*", "project_id": "two"}, "one", "two"),
        ('{"description": "mine-*"}', None, "one"),
    ],
)
def test_the_project_is_the_selectors_then_the_tasks_then_the_connections(
    selector: Any, project_id: str | None, taken: str, emulator: Emulator, context: Context
) -> None:
    names = {project: emulator.add_operation(description="mine-1", project=project) for project in ("one", "two")}
    report = operator(selector=selector, project_id=project_id).execute(context)
    assert names_in(report) == [names[taken]]


def test_age_and_compute_are_those_of_the_listing(
    emulator: Emulator, context: Context, clock: AdvancingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    costly = emulator.add_operation(description="mine", pending_seconds=-7200, run_seconds=1e6)
    clock.advance(-3 * 3600)
    old = emulator.add_operation(description="mine", pending_seconds=1e6)
    clock.advance(3 * 3600)
    for selector, name in (({"older_than": 3600}, old), ({"min_eecu_seconds": 7200}, costly)):
        assert names_in(operator(selector=selector, validate_only=True).execute(context)) == [name]
    log = capsys.readouterr().out
    assert f"- {old}: PENDING, 'mine', 3 hours old" in log
    assert re.search(rf"- {costly}: RUNNING, 'mine', 108\d\d\.\d EECU-seconds, \d+ seconds? old", log)


@pytest.mark.parametrize(
    ("if_empty", "error"), [("ignore", None), ("skip", AirflowSkipException), ("fail", CancellationFailedError)]
)
def test_a_selector_that_matches_nothing(
    if_empty: Any,
    error: type[Exception] | None,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_several(emulator, 3, "theirs")
    said = "none of the 3 operations of project one selected (PENDING or RUNNING, description 'mine-*')."
    task = operator(selector=MINE, if_empty=if_empty)
    if error is None:
        assert task.execute(context) == {"counts": {}, "operations": []}
        log = capsys.readouterr().out
        assert said in log
        assert "if_empty" not in log, "no warning: to find nothing is what a sweep hopes for"
    else:
        with pytest.raises(error, match=re.escape(f"No operation to cancel: {said}")):
            task.execute(context)
        assert ti.returned == {"counts": {}, "operations": []}
    assert (emulator.count("list"), emulator.count("cancel")) == (1, 0)


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize(("limit", "count"), [(None, 101), (11, 12)])
def test_more_than_max_operations_fails_before_any_request_to_cancel(
    limit: int | None, count: int, validate_only: bool, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    names = add_several(emulator, count)
    with pytest.raises(CancellationFailedError) as caught:
        operator(selector=MINE, max_operations=limit, validate_only=validate_only).execute(context)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"{count} operations found, and max_operations is {limit or 100}: nothing was asked to can")
    assert "Narrow the selector, or raise max_operations." in first
    assert lines[:10] == [f"- {name}: not requested (RUNNING)" for name in names[:10]]
    assert lines[10:] == [f"- and {count - 10} more, all in the report"]
    assert emulator.count("cancel") == 0
    assert (names_in(ti.returned), ti.returned["counts"]) == (names, {"not_requested": count})


def test_as_many_as_max_operations_are_cancelled(emulator: Emulator, context: Context) -> None:
    names = add_several(emulator, 3)
    operator(selector=MINE, max_operations=3).execute(context)
    assert all(emulator.cancel_requested(name) for name in names)


def test_max_operations_holds_for_named_operations_too(emulator: Emulator, context: Context) -> None:
    names = add_several(emulator, 3)
    with pytest.raises(CancellationFailedError, match=r"3 operations found, and max_operations is 2(.|\n)*Give fewer"):
        operator(operations=names, max_operations=2).execute(context)
    assert emulator.count("cancel") == 0
    operator(operations=[*names, names[0]], max_operations=3).execute(context)
    assert emulator.count("cancel") == 3


def test_named_operations_have_no_limit_by_default(emulator: Emulator, context: Context) -> None:
    names = add_several(emulator, 101)
    assert operator(operations=names).execute(context)["counts"] == {"cancel_requested": 101}


def test_validate_only_says_what_would_go(
    emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    names = add_several(emulator, 12)
    add_several(emulator, 3, "theirs")
    report = operator(selector=MINE, validate_only="True").execute(context)
    assert (names_in(report), {op["state"] for op in report["operations"]}) == (names, {"RUNNING"})
    assert report["counts"] == {"not_requested": 12}
    log = capsys.readouterr().out
    assert "12 of the 15 operations of project one selected (PENDING or RUNNING, description 'mine-*')" in log
    assert len(re.findall(r"- projects/one/operations/\w+: RUNNING, 'mine-\d+', ", log)) == 10
    assert "- and 2 more, all in the report" in log
    assert "validate_only: nothing was sent. Would cancel 12 operations" in log
    assert emulator.count("cancel") == emulator.count("get") == 0


def test_a_listing_that_is_forbidden_names_the_permission(emulator: Emulator, context: Context) -> None:
    add_several(emulator, 1)
    emulator.deny("earthengine.operations.list")
    with pytest.raises(PermissionDeniedError) as caught:
        operator(selector=MINE).execute(context)
    text = str(caught.value)
    assert "may not list operations of project one (v1alpha at http" in text
    assert "the principal lacks earthengine.operations.list: grant it a role that has it, such as roles/earth" in text
    assert caught.value.permission == "earthengine.operations.list"
    assert emulator.count("cancel") == 0


def test_a_listing_outside_the_allowed_projects_is_not_asked_for(
    emulator: Emulator, context: Context, set_connection: SetConnection
) -> None:
    set_connection(allowed_projects="one")
    with pytest.raises(ProjectNotAllowedError, match=r"two is not in one of the connection's allowed_projects"):
        operator(selector={"description": "mine-*", "project_id": "two"}).execute(context)
    assert emulator.count("list") == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("list", status=503, times=None), UnavailableError),
        (Fault("list", body=b'{"operations": [], "nextPageToken": "again"}', times=None), UnexpectedAnswerError),
    ],
)
def test_a_listing_that_does_not_end_well_cancels_nothing(
    fault: Fault, error: type[Exception], emulator: Emulator, context: Context
) -> None:
    emulator.page_size_limit = 2
    add_several(emulator, 3)
    emulator.add_fault(Fault("list", times=1))  # the first page is good
    emulator.add_fault(fault)
    with pytest.raises(error):
        operator(selector=MINE).execute(context)
    assert emulator.count("list") > 1
    assert emulator.count("cancel") == 0


def test_an_operation_on_two_pages_is_cancelled_once(emulator: Emulator, context: Context) -> None:
    one, two = add_several(emulator, 2)
    first = {"operations": [emulator.operation(one), emulator.operation(two)], "nextPageToken": "next"}
    second = {"operations": [emulator.operation(two), emulator.operation(one)]}
    for page in (first, second):
        emulator.add_fault(Fault("list", body=json.dumps(page).encode()))
    report = operator(selector=MINE, max_operations=2).execute(context)
    assert names_in(report) == [one, two]
    assert [emulator.count("cancel", name) for name in (one, two)] == [1, 1]


def test_a_listing_that_names_what_is_no_operation(emulator: Emulator, context: Context) -> None:
    (name,) = add_several(emulator, 1)
    odd = emulator.operation(name) | {"name": "projects/one/operations/../x"}
    page = json.dumps({"operations": [odd, emulator.operation(name)]}).encode()
    emulator.add_fault(Fault("list", body=page))
    with pytest.raises(CancellationFailedError, match=r"operations/\.\./x' is not an operation name"):
        operator(selector=MINE).execute(context)
    assert emulator.count("cancel") == emulator.count("cancel", name) == 1


@pytest.mark.parametrize("missing", ["description", "createTime", "batchEecuUsageSeconds", "state"])
def test_an_operation_that_does_not_show_what_is_asked_for_stays(
    missing: str, emulator: Emulator, context: Context
) -> None:
    name = emulator.add_operation(description="mine-1", pending_seconds=-100)
    payload = emulator.operation(name)
    selector = {"description": "mine-*", "created_before": "2100-01-01T00:00:00Z", "min_eecu_seconds": 1}
    for shown, taken in ((payload["metadata"].copy(), 1), (payload["metadata"], 0)):
        if not taken:
            del shown[missing]
        page = json.dumps({"operations": [payload | {"metadata": shown}]}).encode()
        emulator.add_fault(Fault("list", body=page))
        assert len(names_in(operator(selector=selector, validate_only=True).execute(context))) == taken


def _page_of_one_that_vanished(emulator: Emulator) -> str:
    """A listing shows an operation that is gone when its cancellation is requested."""
    name = emulator.add_operation(description="mine-gone")
    page = json.dumps({"operations": [emulator.operation(each) for each in emulator.names("one")]}).encode()
    emulator.add_fault(Fault("list", body=page))
    emulator.remove_operation(name)
    return name


def test_an_operation_that_vanishes_after_the_listing_is_no_failure(emulator: Emulator, context: Context) -> None:
    (name,) = add_several(emulator, 1)
    gone = _page_of_one_that_vanished(emulator)
    report = operator(selector=MINE).execute(context)
    assert {op["name"]: op["outcome"] for op in report["operations"]} == {name: "cancel_requested", gone: "not_found"}


def test_an_operation_that_vanishes_is_a_failure_if_so_asked(emulator: Emulator, context: Context) -> None:
    gone = _page_of_one_that_vanished(emulator)
    with pytest.raises(CancellationFailedError, match=f"{gone}: not found"):
        operator(selector=MINE, if_not_found="fail").execute(context)


def test_an_operation_that_finishes_after_the_listing_finished_first(
    emulator: Emulator, context: Context, clock: AdvancingClock
) -> None:
    name = emulator.add_operation(description="mine-1", run_seconds=50)
    page = json.dumps({"operations": [emulator.operation(name)]}).encode()
    emulator.add_fault(Fault("list", body=page))
    clock.advance(100)
    assert operator(selector=MINE).execute(context)["counts"] == {"finished_first": 1}


def test_a_kill_while_it_lists_leaves_all_running(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    names = add_several(emulator, 2)
    emulator.add_fault(Fault("list", seconds=0.5))
    task = operator(selector=MINE)
    killed = killed_when(lambda: emulator.count("list") > 0, task.on_kill)
    with killed, pytest.raises(CancellationFailedError, match=r"killed\. 2 operations: 2 not requested"):
        task.execute(context)
    assert emulator.count("cancel") == 0
    assert names_in(ti.returned) == names


def test_a_kill_while_it_waits_requests_again_what_was_selected(emulator: Emulator, context: Context) -> None:
    (mine,), (other,) = add_several(emulator, 1), add_several(emulator, 1, "theirs")
    task = operator(selector=MINE, wait_for_completion=True, poll_interval=0.2)
    killed = killed_when(lambda: emulator.count("get", mine) > 3, task.on_kill)
    with killed, pytest.raises(CancellationFailedError, match="killed"):
        task.execute(context)
    assert [emulator.count("cancel", name) for name in (mine, other)] == [2, 0]


def test_waits_for_what_was_selected(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(description="mine-1")
    report = operator(selector=MINE, wait_for_completion=True, deferrable=False).execute(context)
    assert (names_in(report), report["counts"]) == ([name], {"cancelled": 1})


def test_defers_for_what_was_selected_and_ignores_what_vanished(emulator: Emulator, context: Context) -> None:
    (name,) = add_several(emulator, 1)
    gone = _page_of_one_that_vanished(emulator)
    task = operator(selector=MINE, deferrable=True)
    signalled = deferred(task, context)
    assert signalled.trigger.serialize()[1]["operations"] == packed([name])
    event = {"verdict": "settled", "message": "", "report": {"operations": [_cancelled(name)]}}
    report = operator(selector=MINE).execute_complete(context, event)
    assert report["counts"] == {"cancelled": 1, "not_found": 1}
    assert gone in names_in(report)


# Templates in a selector, rendered by Airflow


def rendered(task: BaseOperator, *, native: bool = False, **values: Any) -> Any:
    """A copy of a task as Airflow makes it for each try, with its templates rendered."""
    DAG("templated", schedule=None, render_template_as_native_obj=native).add_task(task)
    copied = task.prepare_for_execution()
    copied.render_template_fields(cast("Context", values))
    return copied


TEMPLATED: dict[str, Any] = {
    "project_id": "{{ project }}",
    "states": ["{{ state }}", "PENDING"],
    "types": "{{ types }}",
    "description": "{{ prefix }}*",
    "created_after": "{{ start }}",
    "older_than": "{{ hours * 3600 }}",
    "min_eecu_seconds": "{{ eecu }}",
}
VALUES: dict[str, Any] = {
    "project": "two",
    "state": "RUNNING",
    "types": ["EXPORT_IMAGE", "EXPORT_TILES"],
    "prefix": "mine-",
    "start": datetime(2020, 1, 1, tzinfo=UTC),
    "hours": 0.5,
    "eecu": 100,
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shape", ["object", "mapping", "text"])
def test_templates_in_a_selector_are_rendered(
    shape: str, native: bool, emulator: Emulator, context: Context, clock: AdvancingClock
) -> None:
    clock.advance(-3600)
    name = emulator.add_operation(description="mine-1", project="two", run_seconds=1e6)
    emulator.add_operation(description="theirs", project="two", run_seconds=1e6)
    clock.advance(3600)
    selector = {"object": OperationSelector(**TEMPLATED), "mapping": TEMPLATED, "text": "{{ selector }}"}[shape]
    given = {key: value for key, value in VALUES.items() if key != "start"} | {"start": str(VALUES["start"])}
    plain = {
        "project_id": "two",
        "states": ["RUNNING", "PENDING"],
        "types": given["types"],
        "description": "mine-*",
        "created_after": given["start"],
        "older_than": 1800,
        "min_eecu_seconds": 100,
    }
    task = rendered(
        operator(selector=selector, validate_only="{{ dry }}"), native=native, **VALUES, selector=plain, dry=True
    )
    report = task.execute(context)
    assert (names_in(report), report["counts"]) == ([name], {"not_requested": 1})


def test_one_selector_serves_many_tasks() -> None:
    """As in dag.test(), where all tasks run in one process, and of a mapped task all instances."""
    selector = OperationSelector(description="{{ prefix }}*")
    tasks = [operator(selector=selector) for _ in range(2)]
    made = [rendered(task, prefix=prefix) for task, prefix in zip(tasks, ("a", "b"), strict=True)]
    again = tasks[0].prepare_for_execution()
    again.render_template_fields(cast("Context", {"prefix": "c"}))
    assert [task.selector["description"] for task in (*made, again)] == ["a*", "b*", "c*"]
    assert selector.description == "{{ prefix }}*"


def test_airflow_renders_a_selector_that_is_an_object_too() -> None:
    class Other(BaseOperator):
        template_fields = ("selector",)

        def __init__(self, selector: OperationSelector, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.selector = selector

    task = rendered(Other(task_id="other", selector=OperationSelector(**TEMPLATED)), **VALUES)
    criteria = task.selector.criteria()
    assert (criteria.description, criteria.older_than, criteria.types) == ("mine-*", 1800, tuple(VALUES["types"]))


@pytest.mark.parametrize(
    ("native", "selector", "values", "message"),
    [
        (False, {"description": "{{ prefix }}*", "older_than": 5}, {"prefix": ""}, "description is '*'"),
        (True, {"description": "{{ prefix }}", "older_than": 5}, {"prefix": None}, "description is None"),
        (False, {"older_than": "{{ hours }}"}, {"hours": "soon"}, "older_than is 'soon'"),
        (
            False,
            {"created_before": "{{ ds }}"},
            {"ds": "2026-01-01"},
            "created_before is '2026-01-01', which has no ti",
        ),
        (False, "{{ selector }}", {"selector": None}, "selector is 'None'"),
        (True, "{{ selector }}", {"selector": None}, "selector is None"),
        (True, "{{ selector }}", {"selector": {"project_id": "one"}}, "narrows nothing"),
    ],
)
def test_a_template_that_rendered_to_what_cannot_be_used_sends_nothing(
    native: bool, selector: Any, values: dict[str, Any], message: str, emulator: Emulator, context: Context
) -> None:
    add_several(emulator, 1)
    task = rendered(operator(selector=selector), native=native, **values)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        task.execute(context)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("native", "dry", "sent"),
    [(False, True, 0), (False, False, 1), (False, "false", 1), (True, True, 0), (True, False, 1)],
)
def test_validate_only_may_be_a_template(
    native: bool, dry: Any, sent: int, emulator: Emulator, context: Context
) -> None:
    task = rendered(operator(operations=emulator.add_operation(), validate_only="{{ dry }}"), native=native, dry=dry)
    task.execute(context)
    assert emulator.count("cancel") == sent


def test_a_validate_only_that_rendered_to_neither_sends_nothing(emulator: Emulator, context: Context) -> None:
    task = rendered(operator(operations=emulator.add_operation(), validate_only="{{ dry }}"), dry="perhaps")
    with pytest.raises(InvalidInputError, match="validate_only is 'perhaps': it must be True or False"):
        task.execute(context)
    assert emulator.requests == []


def test_a_value_from_an_upstream_task_makes_it_upstream() -> None:
    with DAG("upstream", schedule=None):

        @dag_task
        def prefix() -> str:
            return "mine-*"

        @dag_task
        def whole() -> dict[str, str]:
            return {"description": "mine-*"}

        part = operator(selector=OperationSelector(description=prefix()))  # type: ignore[arg-type]
        all_of_it = EarthEngineCancelOperationsOperator(task_id="whole_of_it", selector=whole())
    assert (part.upstream_task_ids, all_of_it.upstream_task_ids) == ({"prefix"}, {"whole"})


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
    with (
        pytest.raises(AirflowTaskTimeout),
        timed_out_when(lambda: emulator.count("get") > 2),
    ):
        operator(operations=name, wait_for_completion=True, poll_interval=0.05).execute(context)
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
    assert signalled.kwargs is None, "the report of thousands of operations is long, and is in XCom"
    report = operator(operations=[finished, open_]).execute_complete(context, event)
    assert [op["outcome"] for op in report["operations"]] == ["finished_first", "cancelled"]


def test_without_xcom_the_report_goes_with_the_deferral(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    finished, open_ = emulator.add_operation(finished=True), emulator.add_operation(cancel_seconds=1000)
    ti.task.do_xcom_push = False
    task = operator(operations=[finished, open_], deferrable=True, do_xcom_push=False)
    kwargs = deferred(task, context).kwargs
    event = {
        "verdict": "settled",
        "message": "1 operation: 1 cancelled",
        "report": {"counts": {}, "operations": [_cancelled(open_)]},
    }
    report = task.execute_complete(context, event, **(kwargs or {}))
    assert [op["outcome"] for op in report["operations"]] == ["finished_first", "cancelled"]


def test_it_says_in_advance_that_execution_timeout_is_too_short(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, set_connection: SetConnection, capsys: Any, caplog: Any
) -> None:
    set_connection(requests_per_second=2)
    ti.task.execution_timeout, ti.start_date = timedelta(seconds=2), datetime.now(UTC)
    operator(operations=[emulator.add_operation() for _ in range(8)]).execute(context)
    out = capsys.readouterr()
    assert "execution_timeout: 8 requests at 2 a second take 4 s" in caplog.text + out.out + out.err


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
