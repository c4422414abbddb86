"""One task that starts exports, killed at any call it makes to the outside: what SIGKILL leaves, without a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast
from unittest.mock import patch
from weakref import WeakKeyDictionary

import requests
from airflow.providers.common.compat.sdk import Context, TaskDeferred

from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.sessions import LoopbackAdapter
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.operators.exports import EarthEngineExportOperator
from tests.support.clock import AdvancingClock
from tests.support.exports import MemoryStore, image_export, table_export
from tests.support.task_instance import FakeTaskInstance

__all__ = ["DESCRIPTIONS", "RUN_SECONDS", "Boundaries", "Killed", "KilledError", "Requests", "Task", "exports"]

DESCRIPTIONS = ("first", "second", "third")

_STEP = 1000.0
"""Seconds that go by with each look at an operation."""

_RETRIES = 5

RUN_SECONDS = 4 * _STEP
"""What the operations take: the second look of a try at all three finds them ended, or about to end."""


class KilledError(BaseException):
    """The process is no more; whatever catches this can do nothing to the outside any longer."""


Killed = Callable[[], None]


def exports() -> list[Any]:
    """Make what the user's function returns: two exports of one type, one of another."""
    return [image_export(DESCRIPTIONS[0]), table_export(DESCRIPTIONS[1]), image_export(DESCRIPTIONS[2])]


def _die() -> None:
    raise KilledError


class Boundaries:
    """Counts the calls to the outside, each before and after it took effect; at one of them the process ends.

    Whatever comes after is without effect: neither a handler of the exception nor another thread gets a call out.

    :param at: the boundary at which it ends; None for never.
    :param die: how.
    """

    def __init__(self, at: int | None = None, *, die: Killed = _die) -> None:
        self.labels: list[str] = []
        self._at = at
        self._die = die
        self._is_dead = False
        self._lock = threading.Lock()

    @property
    def killed_at(self) -> str | None:
        """The boundary at which it ended."""
        return self.labels[-1] if self._is_dead else None

    def cross(self, label: str) -> None:
        """Be at a boundary."""
        with self._lock:
            if not self._is_dead:
                self.labels.append(label)
                self._is_dead = len(self.labels) - 1 == self._at
            if self._is_dead:
                self._die()

    @contextmanager
    def around(self, label: str) -> Iterator[None]:
        """Be at the boundaries before and after a call."""
        self.cross(f"before {label}")
        yield
        self.cross(f"after {label}")


class Requests:
    """Has the requests to the emulator as boundaries; time goes by with each look at an operation.

    Connections belong to the try that made them: its threads may live on after it was killed, and must not get a
    request out either.

    :param clock: the emulator's.
    """

    def __init__(self, clock: AdvancingClock) -> None:
        self._clock = clock
        self._current = Boundaries()
        self._of: WeakKeyDictionary[LoopbackAdapter, Boundaries] = WeakKeyDictionary()

    @contextmanager
    def of(self, boundaries: Boundaries) -> Iterator[None]:
        """Have the connections that are made in the block belong to a try."""
        before, self._current = self._current, boundaries
        try:
            yield
        finally:
            self._current = before

    @contextmanager
    def patched(self) -> Iterator[Self]:
        """Be in the way of all requests, for a whole test."""
        send, init = LoopbackAdapter.send, LoopbackAdapter.init_poolmanager

        def made(adapter: LoopbackAdapter, *args: Any, **kwargs: Any) -> None:
            self._of[adapter] = self._current
            init(adapter, *args, **kwargs)

        def sent(adapter: LoopbackAdapter, request: requests.PreparedRequest, **more: Any) -> requests.Response:
            boundaries, call = self._of[adapter], f"{request.method} {str(request.url).rpartition('/')[2]}"
            boundaries.cross(f"before {call}")
            answer = send(adapter, request, **more)
            if request.method == "GET":
                self._clock.advance(_STEP)
            try:
                boundaries.cross(f"after {call}")
            except KilledError:
                answer.close()
                raise
            return answer

        with patch.object(LoopbackAdapter, "send", sent), patch.object(LoopbackAdapter, "init_poolmanager", made):
            yield self


class _Store(MemoryStore):
    """The task state store, whose writes are boundaries."""

    def __init__(self, values: dict[str, str], boundaries: Boundaries) -> None:
        super().__init__()
        self.values = values
        self._boundaries = boundaries

    def set(self, key: str, value: Any) -> None:
        with self._boundaries.around(f"set {key}"):
            super().set(key, value)

    def delete(self, key: str) -> None:
        with self._boundaries.around(f"delete {key}"):
            super().delete(key)


class _TaskInstance(FakeTaskInstance):
    """A task instance whose pushes are boundaries."""

    boundaries: Boundaries

    def xcom_push(self, key: str, value: Any) -> None:
        with self.boundaries.around(f"push {key}"):
            super().xcom_push(key, value)


@dataclass
class Task:
    """A task with what its tries share: XComs, which Airflow clears between them, and the task state store.

    :param emulator: Earth Engine.
    :param clock: its clock.
    :param requests: those of the task.
    :param on_retry: as the operator has it.
    :param deferrable: as the operator has it.
    :param is_retained: whether there is a task state store.
    """

    emulator: Emulator
    clock: AdvancingClock
    requests: Requests
    on_retry: Literal["reattach", "restart"] = "reattach"
    deferrable: bool = False
    is_retained: bool = True
    xcoms: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    try_number: int = 0

    def run(self, boundaries: Boundaries) -> list[dict[str, Any]] | None:
        """Make the next try; return its rows, None if it was killed."""
        self.try_number += 1
        self.xcoms.clear()
        try:
            with self.requests.of(boundaries):
                return self._run(boundaries)
        except KilledError:
            return None

    @property
    def recorded(self) -> list[str]:
        """Names that the last try recorded where others find them."""
        return list(self.xcoms.get(("task", -1, "earthengine_operations"), ()))

    def _run(self, boundaries: Boundaries) -> list[dict[str, Any]]:
        call: Callable[[EarthEngineExportOperator, Context], Any] = lambda made, context: made.execute(context)  # noqa: E731
        while True:
            try:
                with boundaries.around("what Airflow takes"):
                    return cast(list[dict[str, Any]], call(self._operator(), self._context(boundaries)))
            except TaskDeferred as deferral:
                boundaries.cross("before Airflow takes the deferral")
                event, kwargs = self._waited_for(deferral), dict(deferral.kwargs or {})
                call = lambda made, context, event=event, kwargs=kwargs: made.execute_complete(  # type: ignore[misc] # noqa: E731
                    context, event, **kwargs
                )

    def _operator(self) -> EarthEngineExportOperator:
        return EarthEngineExportOperator(
            task_id="task",
            python_callable=exports,
            initialize=False,
            on_retry=self.on_retry,
            deferrable=self.deferrable,
            poll_interval=0.01,
            max_concurrency=2,
            retries=_RETRIES,
        )

    def _context(self, boundaries: Boundaries) -> Context:
        ti: Any = _TaskInstance(xcoms=self.xcoms)
        ti.boundaries, ti.try_number, ti.max_tries, ti.task.retries = boundaries, self.try_number, _RETRIES, _RETRIES
        context: dict[str, Any] = {"ti": ti}
        if self.is_retained:
            context["task_state_store"] = _Store(self.values, boundaries)
        return cast(Context, context)

    def _waited_for(self, deferral: TaskDeferred) -> dict[str, Any]:
        """Be the triggerer: it is none of the processes that are killed here."""
        self.clock.advance(RUN_SECONDS)
        names = tuple(deferral.trigger.operations)
        watch = Watch(names)
        watch.learn({name: Operation.from_payload(self.emulator.operation(name)) for name in names}, {})
        return {
            "verdict": str(Verdict.SETTLED),
            "message": watch.message(Verdict.SETTLED),
            "report": watch.report().to_dict(),
        }
