"""A connection with allowed_projects: whoever asks, about another project no request is made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_eeops.api.cancelling import cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.polling import observe
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import (
    CancellationFailedError,
    InvalidInputError,
    InvalidOperationNameError,
    ProjectNotAllowedError,
)
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.tracking import track_operations
from airflow_provider_eeops.triggers import operations as triggers
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.this_airflow import set_current_context
from tests.unit.glue.conftest import SetConnection

# None of these is in project one.
OTHERS = [
    *(
        "projects/two/operations/A",
        "projects/One/operations/A",
        "projects/ONE/operations/A",
        "projects/123456/operations/A",
    ),
    *(
        "projects/-/operations/A",
        "projects/one:x/operations/A",
        "projects/one./operations/A",
        "projects/one%2f/operations/A",
    ),
    *("projects/one/../two/operations/A", "projects/one/operations/../../two/operations/A", "projects//operations/A"),
    *(
        "projects/two/operations/projects/one/operations/A",
        "projects/\uff4fne/operations/A",
        "projects/one\u200b/operations/A",
    ),
    *(
        "projects/\u043ene/operations/A",
        "https://elsewhere.example/projects/one/operations/A",
        "projects/one\\two/operations/A",
    ),
    *("projects/one/operations/A?x=projects/two", "projects/one/operations/A#", "projects/one/operations/A:cancel"),
    *("projects/one\n/operations/A", "projects/two/operations/A\x00"),
]
EMPTY = "projects/one/operations/"


@pytest.fixture(autouse=True)
def _only_one(set_connection: SetConnection) -> None:
    set_connection(allowed_projects="one")


@pytest.fixture
def foreign(emulator: Emulator) -> str:
    return emulator.add_operation("A", project="two")


def nothing_sent(emulator: Emulator) -> bool:
    return emulator.requests == []


HOOK: dict[str, Callable[[EarthEngineOperationsHook, Any], Any]] = {
    "get": lambda hook, name: hook.get_operation(name),
    "cancel": lambda hook, name: hook.cancel_operation(name),
    "delete": lambda hook, name: hook.delete_operation(name),
    "wait": lambda hook, name: hook.wait_for_operations(name, timeout=1),
    "get with the client": lambda hook, name: hook.get_conn().get_operation(name),
    "cancel with the client": lambda hook, name: hook.get_conn().cancel_operation(name),
    "delete with the client": lambda hook, name: hook.get_conn().delete_operation(name),
    "wait with the client": lambda hook, name: hook.get_conn().wait_operation(name, timeout=1),
}


@pytest.mark.parametrize("call", sorted(HOOK))
def test_a_call_about_another_project_is_refused(call: str, emulator: Emulator, foreign: str) -> None:
    with EarthEngineOperationsHook() as hook:
        for name in [*OTHERS, EMPTY]:
            with pytest.raises(InvalidOperationNameError):
                HOOK[call](hook, name)
        with pytest.raises(ProjectNotAllowedError, match=r"allowed_projects \(one\): nothing was sent"):
            HOOK[call](hook, foreign)
    assert nothing_sent(emulator)


def test_a_listing_of_another_project_is_refused(emulator: Emulator) -> None:
    with EarthEngineOperationsHook() as hook:
        for project in ("two", "One", "123456", "-", "one/../two", "one ", "\uff4fne", "one?x"):
            for listing in (hook.list_operations, hook.get_conn().list_operations, hook.get_conn().list_pages):
                with pytest.raises(InvalidOperationNameError):
                    next(iter(listing(project)))
            with pytest.raises(InvalidInputError):
                hook.select_operations({"project_id": project, "older_than": 1})
    assert nothing_sent(emulator)


def test_many_at_once(emulator: Emulator, foreign: str) -> None:
    own = emulator.add_operation("B")
    with EarthEngineOperationsHook() as hook:
        report = hook.cancel_operations([own, foreign])
        assert {result.name: result.outcome.value for result in report.results}[foreign] == "permission_denied"
        client = hook.get_conn()
        cancel_operations(client, [foreign])
        cancel_in_haste(client, [foreign], log=hook.log, because="For a test.")
        seen = observe(client, [foreign, *(f"projects/two/operations/{number}" for number in range(20))])
        assert {type(error) for error in seen.errors.values()} == {ProjectNotAllowedError}
    assert {record.name for record in emulator.requests if record.name} <= {own}
    assert not emulator.cancel_requested(foreign)


def test_a_default_project_that_is_not_allowed(emulator: Emulator, set_connection: SetConnection) -> None:
    set_connection(allowed_projects="one", project="two")
    with EarthEngineOperationsHook() as hook:
        with pytest.raises(ProjectNotAllowedError):
            hook.cancel_operation("A")
        with pytest.raises(ProjectNotAllowedError):
            next(hook.list_operations())
        is_well, message = hook.test_connection()
    assert not is_well
    assert "allowed_projects (one): nothing was sent" in message
    assert nothing_sent(emulator)


def test_the_project_of_a_class_that_is_not_allowed(emulator: Emulator) -> None:
    with EarthEngineOperationsHook(project_id="two") as hook, pytest.raises(ProjectNotAllowedError):
        hook.get_operation("A")
    assert nothing_sent(emulator)


def test_an_operator(emulator: Emulator, foreign: str, context: Any) -> None:
    for name in (foreign, {"name": foreign}, json.dumps([foreign])):
        with pytest.raises((InvalidOperationNameError, CancellationFailedError)):
            EarthEngineCancelOperationsOperator(task_id="task", operations=name).execute(context)
    assert nothing_sent(emulator)


def test_an_operator_that_selects_what_a_listing_names_elsewhere(
    emulator: Emulator, foreign: str, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own = emulator.add_operation("B")
    listed = [
        {"name": name, "metadata": {"state": "RUNNING", "createTime": "2020-01-01T00:00:00Z"}}
        for name in (foreign, "https://elsewhere.example/projects/one/operations/C", own.replace("one", "123456"))
    ]
    emulator.add_fault(Fault("list", body=json.dumps({"operations": listed}).encode(), times=None))
    EarthEngineCancelOperationsOperator(task_id="task", selector={"older_than": 60}).execute(context)
    assert emulator.cancel_requested(own)
    assert not emulator.cancel_requested(foreign)
    assert {record.name for record in emulator.requests if record.method in {"get", "cancel"}} == {own}
    assert "The listing of project one names 2 operations of another: passed over." in caplog.messages


def test_a_sensor(emulator: Emulator, foreign: str, context: Any) -> None:
    sensor = EarthEngineOperationsSensor(
        task_id="task", operations=foreign, poke_interval=0.02, timeout=1, deferrable=False
    )
    with pytest.raises(InvalidOperationNameError):
        sensor.execute(context)
    sensor.on_kill()
    assert nothing_sent(emulator)


def test_a_trigger_whose_arguments_were_changed_in_the_database(emulator: Emulator, foreign: str) -> None:
    names = [foreign, *(f"projects/two/operations/{number}" for number in range(20))]

    async def run() -> list[Any]:
        trigger = EarthEngineOperationsTrigger(operations=names, poll_interval=0.02, cancel_on_kill=False)
        events = [event async for event in trigger.run()]
        await trigger._request_cancellation(names)
        return events

    (event,) = asyncio.run(run())
    assert {each["outcome"] for each in event.payload["report"]["operations"]} == {"permission_denied"}
    assert nothing_sent(emulator)
    for arguments in ({"projects/two/operations/../../one/operations": ["A"]}, {"https://elsewhere.example": ["A"]}):
        with pytest.raises(InvalidOperationNameError):
            triggers.EarthEngineOperationsTrigger(operations=arguments)


def test_a_notifier(emulator: Emulator, foreign: str, context: Any, capsys: pytest.CaptureFixture[str]) -> None:
    EarthEngineCancelOperationsNotifier(operations=foreign)(context)
    assert nothing_sent(emulator)
    assert f"{foreign} is not in one of the connection's allowed_projects" in capsys.readouterr().out


def test_tracking(emulator: Emulator, foreign: str, context: Any) -> None:
    with (
        set_current_context(context),
        suppress(ValueError),
        pytest.raises(ProjectNotAllowedError),
        track_operations() as tracker,
    ):
        tracker.add(foreign)
    assert nothing_sent(emulator)


def test_text_in_place_of_a_set_allows_no_part_of_a_name() -> None:
    from airflow_provider_eeops.api.settings import Settings

    settings: Any = Settings
    assert settings(allowed_projects="one,two").allowed_projects == {"one", "two"}
