"""What happens to an owner: each lets it happen and returns its time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.e2e.cases import Case
from tests.e2e.observing import NotYetError
from tests.e2e.starting import COUNT
from tests.support.airflow_api import AirflowApi
from tests.support.airflow_parts import TRIGGERER
from tests.support.processes import parent_of

__all__ = [
    "all_marked_failed",
    "cleared",
    "dagrun_timeout",
    "deadline",
    "deferral_timeout",
    "marked_failed",
    "marked_success",
    "none",
    "operations_started",
    "others_started",
    "run_marked_failed",
    "seconds_after_start",
    "seconds_of_execution",
    "sigkill",
    "sigkill_with_supervisor",
    "sigterm",
    "sigterm_to_worker",
    "trigger_moved",
    "triggerer_killed",
    "triggerer_terminated",
    "with_faults",
]

Event = Callable[[Case], float]
"""Lets it happen to a case; returns when it did, seconds since the epoch."""


def none(_case: Case) -> float:
    """Let nothing happen."""
    return time.time()


def operations_started(case: Case) -> float:
    """Take the moment in which the last operation was started: what follows is the task's own doing."""
    names = case.names
    return max(_created(op) for op in case.place.observer.operations("") if op["name"] in names)


def _created(operation: dict[str, Any]) -> float:
    return datetime.fromisoformat(operation["createTime"]).timestamp()


def seconds_after_start(seconds: float) -> Event:
    """Take the moment in which a limit that began with the task is over."""
    return lambda case: case.started + seconds


def seconds_of_execution(seconds: float) -> Event:
    """Take the moment in which a limit that began with the task's execution is over."""
    return lambda case: case.executing_since() + seconds


def dagrun_timeout(seconds: float) -> Event:
    """Take the moment in which the run's time is over."""

    def over(case: Case) -> float:
        run = case.place.observer.run(case.row.dag, case.run_id)
        assert run is not None
        assert run.started is not None
        return run.started + seconds

    return over


def deadline(seconds: float) -> Event:
    """Take the moment in which a Deadline Alert is missed."""

    def missed(case: Case) -> float:
        run = case.place.observer.run(case.row.dag, case.run_id)
        assert run is not None
        assert run.queued is not None
        return run.queued + seconds

    return missed


def _asked(act: Callable[[AirflowApi, Case], None]) -> Event:
    def strike(case: Case) -> float:
        now = time.time()
        act(case.place.airflow, case)
        return now

    return strike


marked_failed: Event = _asked(lambda api, case: api.mark(case.row.dag, case.run_id, "work", "failed"))
marked_success: Event = _asked(lambda api, case: api.mark(case.row.dag, case.run_id, "work", "success"))
run_marked_failed: Event = _asked(lambda api, case: api.mark_run(case.row.dag, case.run_id, "failed"))


def all_marked_failed(instances: int) -> Event:
    """Mark each instance of a mapped task failed."""

    def mark(api: AirflowApi, case: Case) -> None:
        for index in range(instances):
            api.mark(case.row.dag, case.run_id, "work", "failed", map_index=index)

    return _asked(mark)


def cleared(*tasks: str) -> Event:
    """Clear tasks; the next try starts at once."""
    return _asked(lambda api, case: api.clear(case.row.dag, case.run_id, *tasks))


def others_started(instances: int) -> Event:
    """Take the moment in which the last of the mapped instances had started its operations: then one of them fails."""

    def last(case: Case) -> float:
        prefix = f"{case.row.slug}/work/struck/"
        case.wait("all instances", lambda: len(case.place.observer.names(prefix)) == instances * COUNT, seconds=180)
        return max(_created(op) for op in case.place.observer.operations(prefix))

    return last


def triggerer_terminated(case: Case) -> float:
    """SIGTERM the triggerer, start another in its place."""
    now = time.time()
    case.place.airflow.terminate(TRIGGERER)
    return _polled_again(case, now)


def triggerer_killed(case: Case) -> float:
    """SIGKILL the triggerer, start another in its place."""
    now = time.time()
    case.place.airflow.kill(TRIGGERER)
    return _polled_again(case, now)


def _polled_again(case: Case, now: float) -> float:
    case.place.airflow.start(TRIGGERER)
    began = time.time()
    case.wait(
        "polls by the new triggerer",
        lambda: case.polled_by_trigger(since=began),
        seconds=60,
    )
    _require_running(case)
    return now


def trigger_moved(case: Case) -> float:
    """Assign the trigger to a second triggerer, while the first lives."""
    database = case.place.database
    before = max(database.triggerers())
    case.place.airflow.start(TRIGGERER, name="second triggerer")
    case.wait("the second triggerer", lambda: max(database.triggerers()) > before, seconds=60)
    trigger = case.seen.trigger
    assert trigger is not None
    now = time.time()
    second = max(database.triggerers())
    database.move(trigger, second)
    case.wait(
        "the second triggerer's log",
        lambda: case.place.logs.has_trigger(case.row.dag, case.run_id, second),
        seconds=30,
    )
    _require_running(case)
    return now


def _require_running(case: Case) -> None:
    states = case.place.observer.states(case.names)
    if states != {"RUNNING"}:
        raise NotYetError(f"the event came too late to show anything: the operations were {states}")


def deferral_timeout(case: Case) -> float:
    """Let Airflow's own timeout of the deferral be over before our deadline is."""
    now = time.time()
    case.place.database.expire_deferral(case.row.dag, case.run_id, "work")
    return now


def _signalled(number: int, *whom: Callable[[int], int]) -> Event:
    def strike(case: Case) -> float:
        pid = case.seen.pid
        assert pid, "the task has no process"
        pids = [choose(pid) for choose in whom]
        now = time.time()
        for each in pids:
            os.kill(each, number)
        return now

    return strike


def _itself(pid: int) -> int:
    return pid


sigkill: Event = _signalled(signal.SIGKILL, _itself)
sigterm: Event = _signalled(signal.SIGTERM, _itself)
sigterm_to_worker: Event = _signalled(signal.SIGTERM, parent_of)
sigkill_with_supervisor: Event = _signalled(signal.SIGKILL, parent_of, _itself)


def with_faults(event: Event, **fault: object) -> Event:
    """Have requests about the owned operations go wrong, from just before the event on.

    :param event: the event.
    :param fault: a fault of the emulator.
    """

    def strike(case: Case) -> float:
        for name in case.names:
            case.place.emulator.add_fault(name=name, **fault)
        return event(case)

    return strike
