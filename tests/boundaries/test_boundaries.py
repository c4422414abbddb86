"""A task killed at every boundary between start and record: nothing is started twice, and nothing is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.boundaries.walking import DESCRIPTIONS, RUN_SECONDS, Boundaries, Task
from tests.support.clock import AdvancingClock
from tests.support.task_instance import FakeTaskInstance

pytestmark = pytest.mark.usefixtures("connection")

_LEAST = 30
"""Boundaries that a try has at least."""

_TERMINAL = {"SUCCEEDED", "CANCELLED", "FAILED"}


class World:
    """An emulator that is emptied, and tasks in it."""

    def __init__(self, emulator: Emulator, clock: AdvancingClock, **task: Any) -> None:
        self.emulator = emulator
        self.clock = clock
        self._task = task
        self._runs = 0

    def task(self) -> Task:
        self._runs += 1
        self.emulator.remove_operations()
        return Task(self.emulator, self.clock, **self._task)

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
def emulator(emulator: Emulator, request: pytest.FixtureRequest) -> Emulator:
    emulator.request_id_repeat = request.param
    return emulator


parametrized = pytest.mark.parametrize(
    ("deferrable", "is_retained"),
    [(False, True), (True, True), (False, False), (True, False)],
    ids=["waits, store", "deferrable, store", "waits, XCom", "deferrable, XCom"],
)


def _check_reattached(world: World, task: Task, rows: list[dict[str, Any]], at: str | None) -> None:
    names = [row["name"] for row in rows]
    assert world.descriptions(names) == [*DESCRIPTIONS], at
    assert sorted(names) == sorted(world.emulator.names()), at
    assert sorted(task.recorded) == sorted(names), at
    assert {row["state"] for row in rows} == {"SUCCEEDED"}, at


@parametrized
def test_reattach(emulator: Emulator, clock: AdvancingClock, deferrable: bool, is_retained: bool) -> None:
    world = World(emulator, clock, deferrable=deferrable, is_retained=is_retained)
    for task, at in world.killed():
        rows = task.run(Boundaries())
        assert rows is not None
        _check_reattached(world, task, rows, at)


@pytest.mark.parametrize("is_retained", [True, False], ids=["store", "XCom"])
def test_reattach_to_what_has_ended_meanwhile(emulator: Emulator, clock: AdvancingClock, is_retained: bool) -> None:
    world = World(emulator, clock, is_retained=is_retained)
    for task, at in world.killed():
        clock.advance(RUN_SECONDS)
        rows = task.run(Boundaries())
        assert rows is not None
        _check_reattached(world, task, rows, at)


@parametrized
def test_reattach_after_two_kills(
    emulator: Emulator, clock: AdvancingClock, deferrable: bool, is_retained: bool
) -> None:
    world = World(emulator, clock, deferrable=deferrable, is_retained=is_retained)
    generator = random.Random(7)
    for task, at in world.killed(step=5):
        again = Boundaries(generator.randrange(_LEAST))
        rows = task.run(again) or task.run(Boundaries())
        assert rows is not None
        _check_reattached(world, task, rows, f"{at}; {again.killed_at}")


@parametrized
def test_restart(emulator: Emulator, clock: AdvancingClock, deferrable: bool, is_retained: bool) -> None:
    world = World(emulator, clock, on_retry="restart", deferrable=deferrable, is_retained=is_retained)
    for task, at in world.killed():
        before = emulator.names()
        rows = task.run(Boundaries())
        assert rows is not None
        names = [row["name"] for row in rows]
        states = world.states()
        assert world.descriptions(names) == [*DESCRIPTIONS], at
        assert sorted(task.recorded) == sorted(names), at
        assert not set(before) & set(names), at
        assert {states[name] for name in before} <= _TERMINAL, at
        assert sorted([*before, *names]) == sorted(emulator.names()), at
        assert max(Counter(world.descriptions(emulator.names())).values()) <= 2, at


@parametrized
def test_without_a_next_try_a_cleanup_cancels_all(
    emulator: Emulator, clock: AdvancingClock, deferrable: bool, is_retained: bool
) -> None:
    world = World(emulator, clock, deferrable=deferrable, is_retained=is_retained)
    for task, at in world.killed():
        ti = FakeTaskInstance(xcoms=task.xcoms).sibling("cleanup")
        FakeTaskInstance.sibling(ti, "task")
        EarthEngineCancelOperationsOperator(
            task_id="cleanup", xcom_task_ids="task", wait_for_completion=True, poll_interval=0.01, deferrable=False
        ).execute(cast(Context, {"ti": ti}))
        states = world.states()
        assert set(states.values()) <= _TERMINAL, (at, states)
        assert len(states) <= len(DESCRIPTIONS), at
