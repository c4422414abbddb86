from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout, Context, TaskDeferred
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import InvalidOperationNameError
from airflow_provider_eeops.tracking import track_operations
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.task_instance import FakeTaskInstance
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection", "running_task")


@pytest.fixture
def running_task(context: Context) -> Any:
    with set_current_context(context):
        yield


def recorded(ti: FakeTaskInstance) -> Any:
    return ti.xcom_pull(key="earthengine_operations")


def test_names_reach_xcom_as_they_are_added(emulator: Emulator, ti: FakeTaskInstance) -> None:
    names = [emulator.add_operation() for _ in range(3)]
    with track_operations() as tracker:
        assert tracker.add(names[0]) == [names[0]]
        assert recorded(ti) == names[:1]
        assert tracker.add({"name": names[1]}, [names[2], names[0]]) == [names[1], names[2], names[0]]
        assert recorded(ti) == tracker.names == names


def test_a_task_that_succeeds_cancels_nothing(emulator: Emulator) -> None:
    with track_operations() as tracker:
        tracker.add(emulator.add_operation())
    assert emulator.count("cancel") == 0


@pytest.mark.parametrize(
    "error", [ValueError("no"), AirflowTaskTimeout("late"), KeyboardInterrupt(), SystemExit(0)], ids=repr
)
def test_any_exception_out_of_the_block_cancels_and_goes_on(
    error: BaseException, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    caplog.set_level("INFO")
    with pytest.raises(type(error)) as caught, track_operations() as tracker:
        tracker.add(names)
        raise error
    assert caught.value is error
    assert [emulator.cancel_requested(name) for name in names] == [True, True]
    assert f"{type(error).__name__} left the block. Requesting cancellation of 2 operations." in caplog.messages
    assert all(f"{name}: cancel requested" in caplog.messages for name in names)


def test_deferring_the_task_cancels_nothing(emulator: Emulator) -> None:
    name = emulator.add_operation()
    deferral = TaskDeferred(trigger=EarthEngineOperationsTrigger(operations=[name]), method_name="resume")
    with pytest.raises(TaskDeferred), track_operations() as tracker:
        tracker.add(name)
        raise deferral
    assert emulator.count("cancel") == 0


def test_an_exception_before_any_start_asks_nothing(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="no"), track_operations():
        raise ValueError("no")
    assert emulator.requests == []


def test_a_cancel_that_fails_is_logged_and_does_not_hide_the_first_error(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", status=403, times=None))
    with pytest.raises(ValueError, match="first"), track_operations() as tracker:
        tracker.add(name)
        raise ValueError("first")
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"{name}: permission denied" in record.getMessage()


def test_what_is_no_operation_is_refused_and_the_others_are_recorded(emulator: Emulator, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(InvalidOperationNameError, match="a b"), track_operations() as tracker:
        tracker.add(name, "a b")
    assert recorded(ti) == [name]
    assert emulator.cancel_requested(name)


def test_a_missing_connection_is_an_error_before_anything_is_started() -> None:
    with pytest.raises(AirflowNotFoundException), track_operations(earthengine_conn_id="no_such_connection"):
        pytest.fail("the block ran")


def test_operation_ids_take_the_given_project_and_chain(emulator: Emulator, set_connection: SetConnection) -> None:
    set_connection()
    name = emulator.add_operation(project="two")
    with (
        pytest.raises(ValueError, match="no"),
        track_operations(project_id="two", impersonation_chain="sa@two.example") as tracker,
    ):
        assert tracker.add(name.rsplit("/", 1)[1]) == [name]
        raise ValueError("no")
    assert emulator.requests[-1].principal == "sa@two.example"


def test_a_mapped_task_records_for_its_own_instance(emulator: Emulator, ti: FakeTaskInstance) -> None:
    ti.map_index = 3
    with track_operations() as tracker:
        tracker.add(emulator.add_operation())
    assert [at for at in ti.xcoms if at[2] == "earthengine_operations"] == [("task", 3, "earthengine_operations")]
