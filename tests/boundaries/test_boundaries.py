"""A task killed at every boundary between start and record: nothing is started twice, and nothing is lost."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.boundaries.walking import DESCRIPTIONS, RUN_SECONDS, Boundaries, Requests, Task
from tests.support.clock import AdvancingClock
from tests.support.task_instance import FakeTaskInstance

pytestmark = pytest.mark.usefixtures("connection")

_LEAST = 30
"""Boundaries that a try has at least."""

_TERMINAL = {"SUCCEEDED", "CANCELLED", "FAILED"}


class World:
    """An emulator that is emptied, and tasks in it."""

    def __init__(self, emulator: Emulator, clock: AdvancingClock, requests: Requests) -> None:
        self.emulator = emulator
        self.clock = clock
        self.task_parameters: dict[str, Any] = {}
        self._requests = requests

    def task(self) -> Task:
        """Make a task of which nothing is known, in an emulator that knows nothing."""
        self.emulator.remove_operations()
        self.clock.advance(time.time() - self.clock.time())
        return Task(self.emulator, self.clock, self._requests, **self.task_parameters)

    def killed(self, *, step: int = 1) -> Iterator[tuple[Task, str]]:
        """Kill the first try of a task at each boundary, until one gets past them all."""
        for at in count(0, step):
            task, boundaries = self.task(), Boundaries(at)
            if task.run(boundaries) is not None:
                assert at > _LEAST
                return
            yield task, f"{at}, {boundaries.killed_at}"

    def states(self) -> dict[str, str]:
        return {name: str(self.emulator.state(name)) for name in self.emulator.names()}

    def descriptions(self, names: list[str]) -> list[str]:
        return [str(self.emulator.operation(name)["metadata"]["description"]) for name in names]


@pytest.fixture(params=["same", "already_exists"])
def world(emulator: Emulator, clock: AdvancingClock, request: pytest.FixtureRequest) -> Iterator[World]:
    emulator.request_id_repeat = request.param
    with Requests(clock).patched() as requests:
        yield World(emulator, clock, requests)


parametrized = pytest.mark.parametrize(
    ("deferrable", "is_retained"),
    [(False, True), (True, True), (False, False), (True, False)],
    ids=["waits, store", "deferrable, store", "waits, XCom", "deferrable, XCom"],
)


def check_reattached(world: World, task: Task, rows: list[dict[str, Any]], at: str | None) -> None:
    names = [row["name"] for row in rows]
    assert world.descriptions(names) == [*DESCRIPTIONS], at
    assert sorted(names) == sorted(world.emulator.names()), at
    assert sorted(task.recorded) == sorted(names), at
    assert {row["state"] for row in rows} == {"SUCCEEDED"}, at


@parametrized
def test_reattach(world: World, deferrable: bool, is_retained: bool) -> None:
    world.task_parameters = {"deferrable": deferrable, "is_retained": is_retained}
    for task, at in world.killed():
        rows = task.run(Boundaries())
        assert rows is not None
        check_reattached(world, task, rows, at)


@pytest.mark.parametrize("is_retained", [True, False], ids=["store", "XCom"])
def test_reattach_to_what_has_ended_meanwhile(world: World, is_retained: bool) -> None:
    world.task_parameters = {"is_retained": is_retained}
    for task, at in world.killed():
        world.clock.advance(RUN_SECONDS)
        rows = task.run(Boundaries())
        assert rows is not None
        check_reattached(world, task, rows, at)


@parametrized
def test_reattach_after_two_kills(world: World, deferrable: bool, is_retained: bool) -> None:
    world.task_parameters = {"deferrable": deferrable, "is_retained": is_retained}
    generator = random.Random(7)
    for task, at in world.killed(step=5):
        again = Boundaries(generator.randrange(_LEAST))
        rows = task.run(again) or task.run(Boundaries())
        assert rows is not None
        check_reattached(world, task, rows, f"{at}; {again.killed_at}")


@parametrized
def test_restart(world: World, deferrable: bool, is_retained: bool) -> None:
    world.task_parameters = {"on_retry": "restart", "deferrable": deferrable, "is_retained": is_retained}
    for task, at in world.killed():
        before = world.emulator.names()
        rows = task.run(Boundaries())
        assert rows is not None
        names = [row["name"] for row in rows]
        states = world.states()
        assert world.descriptions(names) == [*DESCRIPTIONS], at
        assert sorted(task.recorded) == sorted(names), at
        assert not set(before) & set(names), at
        assert {states[name] for name in before} <= _TERMINAL, at
        assert sorted([*before, *names]) == sorted(world.emulator.names()), at
        assert max(Counter(world.descriptions(world.emulator.names())).values()) <= 2, at


@parametrized
def test_without_a_next_try_a_cleanup_cancels_all(world: World, deferrable: bool, is_retained: bool) -> None:
    world.task_parameters = {"deferrable": deferrable, "is_retained": is_retained}
    for task, at in world.killed():
        ti = FakeTaskInstance(xcoms=task.xcoms).sibling("cleanup")
        FakeTaskInstance.sibling(ti, "task")
        EarthEngineCancelOperationsOperator(
            task_id="cleanup", xcom_task_ids="task", wait_for_completion=True, poll_interval=0.01, deferrable=False
        ).execute(cast(Context, {"ti": ti}))
        states = world.states()
        assert set(states.values()) <= _TERMINAL, (at, states)
        assert len(states) <= len(DESCRIPTIONS), at
