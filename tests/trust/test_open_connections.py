"""Every place that makes a hook or a client closes it, whatever happens there: no connection stays open."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_eeops._compat import AirflowRescheduleException
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.tracking import track_operations
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.processes import wait_until
from tests.support.signals import killed_when
from tests.support.this_airflow import set_current_context
from tests.support.versions import IS_AIRFLOW_2, RESCHEDULE_ASKS_DATABASE
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection")

_ESTABLISHED, _CLOSE_WAIT = "01", "08"


def open_connections(server: EmulatorServer) -> int:
    """How many ends of connections to the emulator this process holds; closed by the server counts too."""
    port = int(server.base_url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[2].rpartition(":")[2], 16) == port and row[3] in {_ESTABLISHED, _CLOSE_WAIT} for row in rows)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Leave out of each collection what is there already: with Airflow loaded, one takes half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _none_is_left_open(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the garbage collector's help; and it finds none afterwards that was forgotten."""
    gc.collect()
    gc.disable()
    kept: list[Any] = []  # what nobody refers to any more would be closed by that alone
    real = EarthEngineOperationsHook.get_conn

    def get_conn(self: EarthEngineOperationsHook) -> Any:
        kept.append(real(self))
        return kept[-1]

    monkeypatch.setattr(EarthEngineOperationsHook, "get_conn", get_conn)
    try:
        yield
        assert kept, "nothing was made that could be left open"
        wait_until("open connections", lambda: open_connections(server) == 0, seconds=10, every=0.02)
    finally:
        gc.enable()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept.clear()
        gc.collect()
    assert [str(each.message) for each in told if issubclass(each.category, ResourceWarning)] == []


Place = Callable[[Emulator, Any], None]


def an_operation(emulator: Emulator, **more: Any) -> str:
    return emulator.add_operation(**more)


def operator(emulator: Emulator, context: Any, **parameters: Any) -> None:
    name = an_operation(emulator)
    made = EarthEngineCancelOperationsOperator(task_id="task", operations=name, poll_interval=0.02, **parameters)
    with suppress(Exception, TaskDeferred):
        made.execute(context)


def killed_operator(emulator: Emulator, context: Any) -> None:
    name = an_operation(emulator)
    made = EarthEngineCancelOperationsOperator(
        task_id="task", operations=name, poll_interval=0.02, wait_for_completion=True, deferrable=False
    )
    emulator.cancel_seconds = 1000
    with suppress(Exception), killed_when(lambda: emulator.count("get") > 1, made.on_kill):
        made.execute(context)


def sensor(emulator: Emulator, context: Any, **parameters: Any) -> None:
    context["ti"].get_first_reschedule_date = lambda _context: None
    seconds = parameters.pop("run_seconds", 0.1)
    name = an_operation(emulator, run_seconds=seconds)
    made = EarthEngineOperationsSensor(
        task_id="task", operations=name, **({"poke_interval": 0.02, "timeout": 60, "deferrable": False} | parameters)
    )
    with suppress(Exception, TaskDeferred, AirflowRescheduleException):
        made.execute(context)


def killed_sensor(emulator: Emulator, context: Any) -> None:
    name = an_operation(emulator)
    made = EarthEngineOperationsSensor(
        task_id="task", operations=name, poke_interval=0.02, timeout=60, deferrable=False
    )
    with suppress(Exception), killed_when(lambda: emulator.count("get") > 1, made.on_kill):
        made.execute(context)


def resumed_sensor(emulator: Emulator, context: Any) -> None:
    name = an_operation(emulator)
    made = EarthEngineOperationsSensor(task_id="task", operations=name, cancel_on_timeout=True, deferrable=True)
    report = Report((OperationResult(name, Outcome.NOT_CONFIRMED, state="RUNNING"),)).to_dict()
    with suppress(Exception):
        made.execute_complete(context, {"verdict": "timed_out", "message": "late", "report": report})
    assert emulator.cancel_requested(name)


def trigger(emulator: Emulator, context: Any) -> None:
    name = an_operation(emulator, run_seconds=0.1)

    async def run() -> None:
        waiting = EarthEngineOperationsTrigger(operations=[name], poll_interval=0.02, cancel_on_kill=False)
        assert [event async for event in waiting.run()]
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(run())
    del context


def cancelled_trigger(emulator: Emulator, context: Any) -> None:
    name = an_operation(emulator)

    async def run() -> None:
        waiting = EarthEngineOperationsTrigger(operations=[name], poll_interval=0.02, cancel_on_kill=False)

        async def wait() -> None:
            async for _ in waiting.run():
                pass

        task = asyncio.create_task(wait())
        while emulator.count("get") < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    del context


def notifier(emulator: Emulator, context: Any) -> None:
    EarthEngineCancelOperationsNotifier(operations=an_operation(emulator))(context)


def awaited_notifier(emulator: Emulator, context: Any) -> None:
    made = EarthEngineCancelOperationsNotifier(operations=an_operation(emulator))
    made.context = context

    async def wait() -> None:
        await made

    asyncio.run(wait())


def tracking(emulator: Emulator, context: Any, *, fails: bool) -> None:
    with set_current_context(context), suppress(ValueError), track_operations() as tracker:
        tracker.hook.get_operation(tracker.add(an_operation(emulator))[0])
        if fails:
            raise ValueError


def connection_test(emulator: Emulator, context: Any) -> None:
    EarthEngineOperationsHook().test_connection()
    assert emulator.count()
    del context


def hook_that_fails(emulator: Emulator, context: Any) -> None:
    with suppress(ValueError), EarthEngineOperationsHook() as hook:
        hook.get_operation(an_operation(emulator))
        raise ValueError
    del context


def listing_left_early(emulator: Emulator, context: Any) -> None:
    for _ in range(3):
        an_operation(emulator)
    with EarthEngineOperationsHook() as hook:
        next(hook.list_operations())
    del context


PLACES: dict[str, Place] = {
    "operator": operator,
    "operator that waits": lambda *at: operator(*at, wait_for_completion=True, deferrable=False),
    "operator that waits in vain": lambda *at: operator(*at, wait_for_completion=True, timeout=0.01, deferrable=False),
    "operator that defers": lambda *at: operator(*at, wait_for_completion=True, deferrable=True),
    "operator that validates": lambda *at: operator(*at, validate_only=True),
    "operator that is killed": killed_operator,
    "sensor": sensor,
    "sensor that fails": lambda *at: sensor(*at, accepted_states="CANCELLED"),
    "sensor that times out": lambda *at: sensor(*at, run_seconds=1000, timeout=0.1, cancel_on_timeout=True),
    "sensor that reschedules": lambda *at: sensor(*at, run_seconds=1000, mode="reschedule"),
    "sensor that is killed": killed_sensor,
    "sensor that resumes": resumed_sensor,
    "trigger": trigger,
    "trigger that is cancelled": cancelled_trigger,
    "notifier": notifier,
    "notifier in the triggerer": awaited_notifier,
    "tracking": lambda *at: tracking(*at, fails=False),
    "tracking that fails": lambda *at: tracking(*at, fails=True),
    "connection test": connection_test,
    "hook that fails": hook_that_fails,
    "listing left early": listing_left_early,
}
FAULTS: dict[str, list[Fault]] = {
    "all is well": [],
    "the API refuses": [Fault(method, status=403, times=None) for method in ("get", "list", "cancel")],
    "answers break off": [Fault(method, action="half_body", times=3) for method in ("get", "list", "cancel")],
    "no token": [Fault("token", status=400, rpc_status="invalid_grant", times=None)],
}
_NO_CLIENT = {"operator that validates"}
_THAT_FAIL = ("operator", "sensor that times out", "notifier", "tracking", "connection test", "hook that fails")


_CANNOT_RUN = pytest.mark.skipif(IS_AIRFLOW_2, reason=RESCHEDULE_ASKS_DATABASE)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[_CANNOT_RUN] if "reschedules" in place else [])
        for place in sorted(PLACES.keys() - _NO_CLIENT)
    ],
)
def test_nothing_is_left_open(place: str, emulator: Emulator, context: Any) -> None:
    PLACES[place](emulator, context)
    assert emulator.count()


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"all is well"}))
@pytest.mark.parametrize("place", _THAT_FAIL)
def test_nothing_is_left_open_when_it_fails(
    place: str, fault: str, emulator: Emulator, context: Any, set_connection: SetConnection
) -> None:
    set_connection(num_retries=0)
    for each in FAULTS[fault]:
        emulator.add_fault(each)
    with suppress(Exception):
        PLACES[place](emulator, context)
    assert emulator.count()
