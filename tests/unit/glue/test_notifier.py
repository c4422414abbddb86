from __future__ import annotations

import asyncio
from typing import cast

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from tests.support.task_instance import FakeTaskInstance

pytestmark = pytest.mark.usefixtures("connection")


def call(notifier: EarthEngineCancelOperationsNotifier, context: Context, *, how: str) -> None:
    if how == "sync":
        notifier(context)
    else:
        notifier.context = context

        async def wait() -> None:
            await notifier  # as Airflow calls it: a notifier is awaitable

        asyncio.run(wait())


@pytest.mark.parametrize("how", ["sync", "async"])
def test_cancels_what_the_failing_task_recorded(
    how: str, emulator: Emulator, context: Context, ti: FakeTaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    ti.xcom_push("earthengine_operations", names)
    call(EarthEngineCancelOperationsNotifier(), context, how=how)
    assert [emulator.cancel_requested(name) for name in names] == [True, True]
    out = capsys.readouterr().out
    assert all(f"{name}: cancel requested" in out for name in names)


def test_a_mapped_instance_leaves_its_siblings_alone(emulator: Emulator) -> None:
    own, others = emulator.add_operation(), emulator.add_operation()
    failing = FakeTaskInstance("export", map_index=1)
    failing.xcom_push("earthengine_operations", [own])
    failing.sibling("export", map_index=0).xcom_push("earthengine_operations", [others])
    EarthEngineCancelOperationsNotifier()({"ti": failing})
    assert [emulator.cancel_requested(own), emulator.cancel_requested(others)] == [True, False]


def test_cancels_what_it_is_given_rendered(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(project="two")
    notifier = EarthEngineCancelOperationsNotifier(operations="{{ ti.task_id and names }}", project_id="{{ project }}")
    notifier(context | {"names": [name.rsplit("/", 1)[1]], "project": "two"})
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_nothing_recorded_is_logged(
    how: str, emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    call(EarthEngineCancelOperationsNotifier(), context, how=how)
    assert "No operation to cancel" in capsys.readouterr().out
    assert emulator.requests == []


def test_without_a_task_in_the_context_nothing_happens(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(EarthEngineCancelOperationsNotifier().async_notify({}))
    assert "No operation to cancel: none was given, and this callback has no task to ask." in capsys.readouterr().out
    assert emulator.requests == []


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("conn_id", ["earthengine_default", "no_such_connection"])
def test_never_raises_a_second_error(
    how: str,
    conn_id: str,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", ["rub bish", name])
    emulator.add_fault(Fault("cancel", status=403, times=None))
    call(EarthEngineCancelOperationsNotifier(earthengine_conn_id=conn_id), context, how=how)
    out = capsys.readouterr().out
    if conn_id == "earthengine_default":
        assert f"{name}: permission denied" in out
        assert "'rub bish': error" in out
    else:
        assert "No cancellation could be requested" in out


def test_an_answer_that_says_finished_is_checked(
    emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("cancel", status=400, rpc_status="FAILED_PRECONDITION"))
    EarthEngineCancelOperationsNotifier(operations=name)(context)
    assert f"{name}: finished first (SUCCEEDED)" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["sync", "async"])
def test_one_instance_serves_many_calls(how: str, emulator: Emulator, context: Context) -> None:
    first, second = emulator.add_operation(), emulator.add_operation()
    notifier = EarthEngineCancelOperationsNotifier(operations="{{ ops }}")
    for name in (first, second):
        call(notifier, cast(Context, {**context, "ops": name}), how=how)
    assert [emulator.count("cancel", first), emulator.count("cancel", second)] == [1, 1]
    assert notifier.operations == "{{ ops }}"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_template_that_fails_is_logged(how: str, context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    call(EarthEngineCancelOperationsNotifier(operations="{{ 1 / 0 }}"), context, how=how)
    assert "No cancellation could be requested" in capsys.readouterr().out


def test_a_template_that_rendered_to_nothing_is_named(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    EarthEngineCancelOperationsNotifier(operations="{{ [] }}")(context)
    assert (
        "No operation to cancel: operations is empty, or its template rendered to nothing." in capsys.readouterr().out
    )
