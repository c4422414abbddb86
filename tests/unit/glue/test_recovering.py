from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, Context, task_group

from airflow_provider_eeops.api.intents import Intent
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import CancellationFailedError, InvalidOperationNameError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.support.task_instance import FakeTaskInstance

pytestmark = pytest.mark.usefixtures("connection")


def cleanup(context: Context) -> Any:
    return EarthEngineCancelOperationsOperator(task_id="task", xcom_task_ids="export").execute(context)


def record(ti: FakeTaskInstance, names: list[str], *descriptions: str, map_index: int = -1) -> None:
    """Record what a worker did that was lost: names, and starts it had no answer to."""
    instance = ti.sibling("export", map_index=map_index)
    instance.xcom_push("earthengine_operations", names)
    intents = [
        Intent("one", "EXPORT_IMAGE", description, time.time(), time.time()).to_dict() for description in descriptions
    ]
    instance.xcom_push("earthengine_starting", intents)


def cancelled(emulator: Emulator) -> list[str]:
    return [name for name in emulator.names() if emulator.cancel_requested(name)]


def test_a_start_without_an_answer_is_found_and_cancelled(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    known, unknown = emulator.add_operation(description="a"), emulator.add_operation(description="b")
    emulator.add_operation(description="somebody else's")
    record(ti, [known], "b")
    assert cleanup(context)["counts"] == {"cancelled": 2} or len(cancelled(emulator)) == 2
    assert cancelled(emulator) == [known, unknown]


def test_a_start_that_was_never_made_is_no_failure(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    known = emulator.add_operation(description="a")
    record(ti, [known], "b")
    cleanup(context)
    assert cancelled(emulator) == [known]


def test_what_may_be_anothers_is_named_and_not_cancelled(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    known = emulator.add_operation(description="a")
    alike = [emulator.add_operation(description="b") for _ in range(2)]
    record(ti, [known], "b")
    with pytest.raises(CancellationFailedError) as caught:
        cleanup(context)
    assert all(name in str(caught.value) for name in alike)
    assert cancelled(emulator) == [known]


def test_what_a_mapped_sibling_recorded_is_the_siblings(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    names = [emulator.add_operation(description="a") for _ in range(3)]
    record(ti, [names[0]], map_index=0)
    record(ti, [], "a", map_index=1)
    record(ti, [names[2]], map_index=2)
    cleanup(context)
    assert cancelled(emulator) == names


def test_without_a_listing_the_known_are_cancelled_and_the_task_fails(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    known = emulator.add_operation(description="a")
    emulator.add_fault(Fault("list", status=403, times=None))
    record(ti, [known], "b")
    with pytest.raises(CancellationFailedError, match="1 starts without an answer cannot be looked for"):
        cleanup(context)
    assert cancelled(emulator) == [known]


def test_alone_and_in_doubt_it_is_an_error(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    for _ in range(2):
        emulator.add_operation(description="b")
    record(ti, [], "b")
    with pytest.raises(InvalidOperationNameError, match="look at them, and cancel by name"):
        cleanup(context)
    assert cancelled(emulator) == []


@pytest.mark.parametrize("value", ["x", [7], [{"type": "x"}], [None, []]])
def test_what_somebody_else_wrote_is_passed_over(
    value: Any, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    ti.sibling("export").xcom_push("earthengine_starting", value)
    assert cleanup(context) == {"counts": {}, "operations": []}
    assert emulator.requests == []


def test_within_a_mapped_task_group_a_siblings_operation_is_not_taken(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.add_operation(description="a")
    siblings = emulator.names()
    with DAG("mapped", schedule=None) as dag:

        @task_group
        def group(i: int) -> None:  # noqa: ARG001 - what it is mapped over
            BaseOperator(task_id="export") >> BaseOperator(task_id="cancel")

        group.expand(i=[0, 1])
    ti.task, ti.map_index = dag.get_task("group.cancel"), 1
    intent = Intent("one", "EXPORT_IMAGE", "a", time.time(), time.time()).to_dict()
    ti.xcoms["group.export", 0, "earthengine_operations"] = siblings
    ti.xcoms["group.export", 1, "earthengine_operations"] = []
    ti.xcoms["group.export", 1, "earthengine_starting"] = [intent]
    EarthEngineCancelOperationsOperator(task_id="task", xcom_task_ids="group.export").execute(context)
    assert cancelled(emulator) == []
