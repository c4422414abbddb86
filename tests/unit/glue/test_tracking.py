from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import create_autospec

import ee.batch
import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout, Context, TaskDeferred

from airflow_provider_eeops._compat import AirflowRescheduleException
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import InvalidInputError, InvalidOperationNameError, TaskKilledError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.tracking import track_operations
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.signals import killed_when
from tests.support.task_instance import FakeTaskInstance
from tests.support.this_airflow import set_current_context
from tests.unit.glue.conftest import SetConnection
from tests.unit.glue.test_retained import Store

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


def test_a_cancel_that_breaks_does_not_hide_the_first_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = emulator.add_operation()
    with pytest.raises(ValueError, match="first"), track_operations() as tracker:
        tracker.add(name)
        monkeypatch.setattr(tracker, "cancel", lambda **_: 1 / 0)
        raise ValueError("first")
    assert f"Cancellation of {name} could not be requested." in caplog.messages


def test_every_recorded_name_is_logged(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    name = emulator.add_operation()
    with track_operations() as tracker:
        tracker.add(name)
    assert f"Recorded {name}." in caplog.messages


def test_rescheduling_the_task_cancels_nothing(emulator: Emulator) -> None:
    with pytest.raises(AirflowRescheduleException), track_operations() as tracker:
        tracker.add(emulator.add_operation())
        raise AirflowRescheduleException(datetime.now(UTC))  # type: ignore[no-untyped-call]
    assert emulator.count("cancel") == 0


def test_deferring_the_task_cancels_nothing(emulator: Emulator) -> None:
    name = emulator.add_operation()
    deferral = TaskDeferred(trigger=EarthEngineOperationsTrigger(operations=[name]), method_name="resume")
    with pytest.raises(TaskDeferred), track_operations() as tracker:
        tracker.add(name)
        raise deferral
    assert emulator.count("cancel") == 0


def test_an_exception_before_any_start_asks_nothing(emulator: Emulator, ti: FakeTaskInstance) -> None:
    with pytest.raises(ValueError, match="no"), track_operations():
        raise ValueError("no")
    assert emulator.requests == []
    assert recorded(ti) == []


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


def test_a_kill_cancels_at_once_and_the_block_raises_when_it_ends(
    emulator: Emulator, ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture
) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    caplog.set_level("INFO")
    with pytest.raises(TaskKilledError, match="2 operations"), track_operations() as tracker:
        tracker.add(names)
        ti.task.on_kill()  # what Airflow's SIGTERM handler does
        assert [emulator.cancel_requested(name) for name in names] == [True, True]
    assert "The task is being killed. Requesting cancellation of 2 operations." in caplog.messages
    assert emulator.count("cancel") == 2, "what the kill has asked for is not asked for again"


def test_what_the_kill_could_not_ask_for_is_asked_for_when_the_block_ends(
    emulator: Emulator, ti: FakeTaskInstance
) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    emulator.add_fault(Fault("cancel", status=403, name=names[0], times=1))
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        tracker.add(names)
        ti.task.on_kill()
        assert not emulator.cancel_requested(names[0])
    assert emulator.cancel_requested(names[0])
    assert emulator.count("cancel", names[1]) == 1


def test_a_kill_is_survived_whatever_lock_its_thread_holds(emulator: Emulator, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        tracker.add(name)
        handler = logging.StreamHandler()
        logging.getLogger("airflow_provider_eeops").addHandler(handler)
        assert handler.lock is not None
        try:
            # Locks that the interrupted thread may hold: the client's for its token, the log's, the hook's.
            with tracker._client._transport._tokens._lock, handler.lock, tracker.hook._lock:  # type: ignore[union-attr]
                ti.task.on_kill()
                assert emulator.cancel_requested(name)
        finally:
            logging.getLogger("airflow_provider_eeops").removeHandler(handler)


def test_what_is_started_after_the_kill_is_cancelled_too(emulator: Emulator, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        ti.task.on_kill()
        tracker.add(name)
        pytest.fail("the block went on")
    assert recorded(ti) == [name]
    assert emulator.cancel_requested(name)


def test_the_tasks_own_on_kill_is_called_and_left_as_it_was(emulator: Emulator, ti: FakeTaskInstance) -> None:
    called: list[str] = []
    ti.task.on_kill = lambda: called.append("own")
    own = ti.task.on_kill
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        tracker.add(emulator.add_operation())
        ti.task.on_kill()
    assert called == ["own"]
    assert ti.task.on_kill is own


def test_a_task_without_an_on_kill_of_its_own_gets_none(emulator: Emulator, ti: FakeTaskInstance) -> None:
    with track_operations() as tracker:
        tracker.add(emulator.add_operation())
        assert "on_kill" in ti.task.__dict__
    assert "on_kill" not in ti.task.__dict__


def test_a_later_block_keeps_what_an_earlier_one_recorded(emulator: Emulator, ti: FakeTaskInstance) -> None:
    names = [emulator.add_operation() for _ in range(4)]
    with track_operations() as tracker:
        tracker.add(names[0])
    with track_operations() as outer:
        assert recorded(ti) == names[:1]
        outer.add(names[1])
        with track_operations() as inner:
            inner.add(names[2])
        outer.add(names[3])
    assert recorded(ti) == names
    assert (tracker.names, outer.names, inner.names) == (names[:1], [names[1], names[3]], [names[2]])


def test_another_task_instance_starts_with_nothing_recorded(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    with track_operations() as tracker:
        tracker.add(emulator.add_operation())
    other = ti.sibling("task", map_index=1)
    with set_current_context(cast(Context, {**context, "ti": other})), track_operations():
        assert ti.xcoms["task", 1, "earthengine_operations"] == []


def test_a_kill_reaches_every_open_block_whichever_ends_first(emulator: Emulator, ti: FakeTaskInstance) -> None:
    names = [emulator.add_operation() for _ in range(3)]
    blocks = [track_operations() for _ in range(3)]
    trackers = [block.__enter__() for block in blocks]
    for tracker, name in zip(trackers, names, strict=True):
        tracker.add(name)
    blocks[0].__exit__(None, None, None)
    ti.task.on_kill()
    assert [emulator.cancel_requested(name) for name in names] == [False, True, True]
    for block in blocks[1:]:
        with pytest.raises(TaskKilledError):
            block.__exit__(None, None, None)
    assert "on_kill" not in ti.task.__dict__


def test_a_kill_before_the_first_start_ends_the_block(ti: FakeTaskInstance, emulator: Emulator) -> None:
    ti.xcom_push = lambda **_: ti.task.on_kill()  # type: ignore[method-assign]
    with pytest.raises(TaskKilledError, match=r"^the task was killed$"), track_operations():
        pytest.fail("the block ran")
    assert emulator.requests == []


def test_a_kill_without_a_thread_to_send_from_leaves_it_to_the_end_of_the_block(
    emulator: Emulator, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    ti.task.on_kill = lambda: called.append("own")
    name = emulator.add_operation()
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        tracker.add(name)
        with monkeypatch.context() as patch:
            patch.setattr(
                tracker, "start_cancelling", create_autospec(tracker.start_cancelling, side_effect=_no_thread)
            )
            ti.task.on_kill()
        assert called == ["own"]
    assert emulator.cancel_requested(name)


def _no_thread() -> None:
    raise RuntimeError("can't start new thread")


# Starting


class Export(ee.batch.Task):
    """Google's task, its request for an answer replaced."""

    def __init__(self, emulator: Emulator, *, seconds: float = 0.0, error: Exception | None = None) -> None:
        super().__init__(None, self.Type.EXPORT_IMAGE, self.State.UNSUBMITTED)
        self.asked = threading.Event()
        self._emulator = emulator
        self._seconds = seconds
        self._error = error

    def start(self) -> None:
        if self._error:
            raise self._error
        name = self._emulator.add_operation()
        self.asked.set()
        time.sleep(self._seconds)  # the answer is on its way
        self.id, self.name = name.rsplit("/", 1)[1], name


def time_out() -> None:
    raise AirflowTaskTimeout("execution_timeout")


def test_start_starts_and_records_in_one_step(emulator: Emulator, ti: FakeTaskInstance) -> None:
    exports = [Export(emulator), Export(emulator)]
    with track_operations() as tracker:
        names = [tracker.start(export) for export in exports]
    assert names == tracker.names == recorded(ti) == [export.name for export in exports]


def test_a_start_that_fails_records_nothing_and_raises_its_own_error(emulator: Emulator, ti: FakeTaskInstance) -> None:
    with pytest.raises(ValueError, match="no such bucket"), track_operations() as tracker:
        tracker.start(Export(emulator, error=ValueError("no such bucket")))
    assert recorded(ti) == []
    assert emulator.requests == []


@pytest.mark.parametrize("task", ["projects/one/operations/A", None, 3])
def test_what_cannot_be_started_is_refused(task: Any) -> None:
    with pytest.raises(InvalidInputError, match=type(task).__name__), track_operations() as tracker:
        tracker.start(task)


def test_a_timeout_during_a_start_does_not_lose_its_answer(emulator: Emulator) -> None:
    export = Export(emulator, seconds=0.6)
    timed_out = killed_when(export.asked.is_set, time_out)  # as execution_timeout does, by a signal handler that raises
    with timed_out, pytest.raises(AirflowTaskTimeout), track_operations() as tracker:
        tracker.start(export)
    assert export.name is not None
    assert emulator.cancel_requested(export.name)


def test_a_kill_during_a_start_does_not_lose_its_answer(emulator: Emulator, ti: FakeTaskInstance) -> None:
    first, export = emulator.add_operation(), Export(emulator, seconds=0.6)
    killed = killed_when(export.asked.is_set, lambda: ti.task.on_kill())  # noqa: PLW0108 - set later
    with killed, pytest.raises(TaskKilledError), track_operations() as tracker:
        tracker.add(first)
        tracker.start(export)
    assert export.name is not None
    assert [emulator.count("cancel", name) for name in (first, export.name)] == [1, 1]
    assert recorded(ti) == [first, export.name]


def test_nothing_is_started_after_a_kill(emulator: Emulator, ti: FakeTaskInstance) -> None:
    export = Export(emulator)
    with pytest.raises(TaskKilledError), track_operations() as tracker:
        ti.task.on_kill()
        tracker.start(export)
    assert export.name is None


# Earlier tries


def test_what_an_earlier_try_left_is_cancelled_before_the_new_try_goes_on(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    context = cast(Context, {**context, "task_state_store": Store()})
    left, ended = emulator.add_operation(), emulator.add_operation(finished=True)
    lost = track_operations()
    with set_current_context(context):
        lost.__enter__().add(left, ended)  # and SIGKILL, after which nothing of this try runs
        again = ti.sibling("task")
        again.try_number = 2
        with set_current_context(cast(Context, {**context, "ti": again})), track_operations() as tracker:
            assert emulator.cancel_requested(left)
            own = tracker.add(emulator.add_operation())
        assert emulator.count("cancel", own[0]) == 0
        assert "Requesting cancellation of 2 operations that an earlier try recorded." in caplog.messages
        before = emulator.count("cancel")
        with set_current_context(cast(Context, {**context, "ti": again})), track_operations():
            assert emulator.count("cancel") == before, "it is asked for once"


def test_what_a_block_that_ended_well_handed_on_is_left_alone_by_the_next_try(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    store = Store()
    handed_on = emulator.add_operation()
    with set_current_context(cast(Context, {**context, "task_state_store": store})), track_operations() as tracker:
        tracker.add(handed_on)
    ti = ti.sibling("task")
    ti.try_number = 2  # a person cleared the task that had succeeded
    with set_current_context(cast(Context, {"ti": ti, "task_state_store": store})), track_operations():
        pass
    assert emulator.count("cancel") == 0


def test_rubbish_in_the_store_does_not_fail_the_try(emulator: Emulator, ti: FakeTaskInstance) -> None:
    store = Store({"earthengine_operations": {"0": ["no operation!", "projects/one/operations/GONE"]}})
    with set_current_context(cast(Context, {"ti": ti, "task_state_store": store})), track_operations():
        pass
    assert [record.name for record in emulator.requests if record.method == "cancel"] == [
        "projects/one/operations/GONE"
    ]


def test_what_could_not_be_asked_of_an_earlier_trys_is_asked_by_the_next(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture
) -> None:
    left = emulator.add_operation()
    store = Store({"earthengine_operations": {"1": [left]}})
    emulator.add_fault(Fault("cancel", status=403, times=1))
    for try_number in (2, 3):
        ti = ti.sibling("task")
        ti.try_number = try_number
        context = cast(Context, {"ti": ti, "task_state_store": store})
        with set_current_context(context), track_operations():
            assert emulator.cancel_requested(left) is (try_number == 3)
    assert [record.levelname for record in caplog.records if "permission denied" in record.getMessage()] == ["ERROR"]


def test_a_block_after_a_deferral_keeps_what_was_recorded_before(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    before, after = emulator.add_operation(), emulator.add_operation()
    with track_operations() as tracker:
        tracker.add(before)
    resumed = ti.sibling("task")  # another process: nothing but the XCom is left
    with set_current_context(cast(Context, {**context, "ti": resumed})), track_operations() as tracker:
        tracker.add(after)
        assert tracker.names == [before, after], "it is the same try's"
    assert recorded(ti) == [before, after]


def test_outside_a_task_it_says_where_it_works() -> None:
    code = "from airflow_provider_eeops.tracking import track_operations\nwith track_operations(): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError: track_operations works in a running Airflow task only" in done.stderr


def test_a_cancelling_task_that_will_not_run_is_named(ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture) -> None:
    ti.task >> EarthEngineCancelOperationsOperator(task_id="cancel", xcom_task_ids=ti.task_id, dag=ti.task.dag)
    with track_operations():
        pass
    assert "does not run" not in caplog.text
    caplog.clear()
    with pytest.raises(ValueError, match="no"), track_operations():
        raise ValueError("no")
    (told,) = [each for each in caplog.messages if "does not run" in each]
    assert told.startswith("Task cancel does not run when this one fails, as its trigger_rule is all_success: ")
