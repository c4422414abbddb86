from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.exports import Export
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.starting import Outcome, Starter
from airflow_provider_eeops.api.starts import Asked, Identity
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import (
    InvalidInputError,
    InvalidOperationNameError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnexpectedAnswerError,
)
from tests.support.clock import ManualClock
from tests.support.processes import wait_until

Connect = Callable[..., EarthEngineOperationsClient]

IDENTITY = Identity("dag", "run", "task")


def export(description: str = "mine", **config: Any) -> Export:
    return Export("EXPORT_IMAGE", description, {"description": description, **config})


def asked(count: int, **fields: Any) -> list[Asked]:
    return [Asked(position, export(f"export {position}"), 0, **fields) for position in range(count)]


class Started:
    """What a starter told."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.chunks: list[list[int]] = []
        self.threads: set[str] = set()

    def answer(self, asked: Asked, operation: Operation) -> None:
        self.names[asked.position] = operation.name
        self.threads.add(threading.current_thread().name)

    def before(self, some: Any) -> None:
        self.chunks.append([each.position for each in some])


@pytest.fixture
def told() -> Started:
    return Started()


def start(client: EarthEngineOperationsClient, told: Started, wanted: list[Asked], **parameters: Any) -> Outcome:
    of_start = {name: parameters.pop(name) for name in ("stop_at_failure", "waits_for_room") if name in parameters}
    starter = Starter(
        client, parameters.pop("project_id", "one"), IDENTITY.request_id, on_started=told.answer, **parameters
    )
    return starter.start(wanted, before=told.before, **of_start)


# One start


def test_a_start_is_posted_with_its_request_id(connected: Connect, emulator: Emulator) -> None:
    operation = connected().start_export("one", export("mine", priority=7), "eeops-1")
    (record,) = [record for record in emulator.requests if record.method == "export"]
    assert record.path == "/v1alpha/projects/one/image:export"
    assert (operation.name, operation.description, operation.type, operation.state) == (
        emulator.names()[0],
        "mine",
        "EXPORT_IMAGE",
        "PENDING",
    )
    assert connected().start_export("one", export(), "eeops-1").name == operation.name


def test_a_lost_answer_starts_nothing_twice(connected: Connect, emulator: Emulator) -> None:
    emulator.add_fault(Fault("export", action="reset_after", times=2))
    operation = connected().start_export("one", export(), "eeops-1")
    assert emulator.names() == [operation.name]
    assert emulator.count("export") == 3


@pytest.mark.parametrize("project_id", ["", "a/b", "one?x", "../two"])
def test_what_is_no_project_is_refused_before_a_request(
    connected: Connect, emulator: Emulator, project_id: str
) -> None:
    with pytest.raises(InvalidOperationNameError):
        connected().start_export(project_id, export(), "eeops-1")
    assert emulator.requests == []


def test_a_project_that_is_not_allowed_is_refused_before_a_request(connected: Connect, emulator: Emulator) -> None:
    with pytest.raises(ProjectNotAllowedError, match="one"):
        connected(allowed_projects="two").start_export("one", export(), "eeops-1")
    assert emulator.requests == []


def test_a_denial_names_the_permission(connected: Connect, emulator: Emulator) -> None:
    emulator.deny("earthengine.exports.create")
    with pytest.raises(PermissionDeniedError) as caught:
        connected().start_export("one", export(), "eeops-1")
    assert caught.value.permission == "earthengine.exports.create"


@pytest.mark.parametrize(
    "answer", [{}, {"name": 7}, {"name": "projects/two/operations/A"}, {"name": "projects/one/operations/a b"}]
)
def test_an_answer_that_is_no_operation_is_an_error(connected: Connect, emulator: Emulator, answer: Any) -> None:
    emulator.add_fault(Fault("export", status=200, body=json.dumps(answer).encode(), times=None))
    with pytest.raises((UnexpectedAnswerError, InvalidOperationNameError)):
        connected().start_export("one", export(), "eeops-1")


# Many


def test_all_are_started_some_at_a_time(connected: Connect, emulator: Emulator, told: Started) -> None:
    outcome = start(connected(), told, asked(10), max_concurrency=4)
    assert told.chunks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert set(outcome.started) == set(told.names) == set(range(10))
    assert (outcome.refused, outcome.unclear, outcome.left) == ({}, {}, ())
    assert {operation.description for operation in outcome.started.values()} == {f"export {i}" for i in range(10)}
    assert len(emulator.names()) == 10
    assert all(name.startswith("eeops") for name in told.threads), "told before anything else is done with the answer"


def test_one_that_is_refused_stops_no_other(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.add_fault(Fault("export", status=400, message="Image.select: no band 'B99'.", times=1))
    outcome = start(connected(), told, asked(5), max_concurrency=1)
    assert (list(outcome.refused), len(outcome.started)) == ([0], 4)
    assert outcome.failed[0].reason == "HTTP 400 INVALID_ARGUMENT: Image.select: no band 'B99'."


def test_at_the_first_failure_no_other_is_started_if_so_asked(
    connected: Connect, emulator: Emulator, told: Started
) -> None:
    emulator.add_fault(Fault("export", status=400, times=1))
    outcome = start(connected(), told, asked(5), max_concurrency=1, stop_at_failure=True)
    assert (list(outcome.refused), outcome.started, [each.position for each in outcome.left]) == (
        [0],
        {},
        [1, 2, 3, 4],
    )
    assert emulator.count("export") == 1


def test_what_cannot_be_encoded_is_refused(connected: Connect, told: Started) -> None:
    outcome = start(connected(), told, [Asked(0, export(expression=object()), 0), Asked(1, export(), 0)])
    assert isinstance(outcome.refused[0], InvalidInputError)
    assert list(outcome.started) == [1]


def test_what_had_no_answer_at_all_may_have_been_started(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.add_fault(Fault("export", action="reset_after", times=None))
    outcome = start(connected(num_retries=1), told, asked(1))
    assert list(outcome.unclear) == [0]
    assert len(emulator.names()) == 1


def test_without_a_token_nothing_more_is_tried(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.add_fault(Fault("token", status=400, body=b'{"error": "invalid_grant"}', times=None))
    outcome = start(connected(), told, asked(50), max_concurrency=2)
    assert set(outcome.refused) == set(range(50))
    assert len(told.chunks) == 1
    assert emulator.count("export") == 0


def test_once_stopped_no_start_is_made(connected: Connect, emulator: Emulator, told: Started) -> None:
    outcome = start(connected(), told, asked(50), max_concurrency=2, stopped=lambda: len(told.names) >= 4)
    assert len(emulator.names()) == len(told.names) == 4
    assert [each.position for each in outcome.left] == list(range(4, 50))


def test_a_start_that_begins_as_the_stop_comes_is_not_made(
    connected: Connect, emulator: Emulator, told: Started
) -> None:
    answers: Iterator[bool] = iter([False, True])
    outcome = start(connected(), told, asked(1), stopped=lambda: next(answers, True))
    assert [each.position for each in outcome.left] == [0]
    assert emulator.requests == []


def test_it_waits_for_the_answers_of_starts_under_way(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.latency = 0.3
    client = connected(at=SYSTEM_CLOCK)
    starter = Starter(client, "one", IDENTITY.request_id, on_started=told.answer)
    assert starter.wait_for_answers(1.0)

    thread = threading.Thread(target=lambda: starter.start(asked(1), before=told.before))
    thread.start()
    wait_until("a request", lambda: emulator.count("export") > 0, seconds=20, every=0.01)
    assert starter.any_under_way
    assert not starter.wait_for_answers(0.05)
    assert starter.wait_for_answers(20.0)
    assert list(told.names) == [0]
    thread.join()


# The queue


def pauses(clock: ManualClock) -> list[int]:
    """What was waited for, but for the pace of requests."""
    return [round(seconds) for seconds in clock.sleeps if seconds > 0.1]


def test_a_full_queue_is_waited_for(
    connected: Connect, emulator: Emulator, clock: ManualClock, told: Started, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    emulator.queue_limit, emulator.pending_seconds, emulator.run_seconds = 3, 100, 0
    outcome = start(connected(), told, asked(7), max_concurrency=2)
    assert len(outcome.started) == 7
    assert (outcome.refused, outcome.unclear, outcome.left) == ({}, {}, ())
    assert pauses(clock) == [10, 20, 40, 60, 10, 20, 40, 60], "anew after there was room"
    assert "The queue of project one is full: 4 operations to start wait for room" in caplog.text
    assert len(emulator.names()) == 7


@pytest.mark.parametrize("status", [400, 429])
def test_a_full_queue_slows_nothing_else_down(
    connected: Connect, emulator: Emulator, clock: ManualClock, told: Started, status: Any
) -> None:
    emulator.queue_limit, emulator.queue_full_status = 0, status
    outcome = start(connected(), told, asked(2), max_concurrency=2, waits_for_room=lambda: False)
    assert len(outcome.left) == 2
    assert emulator.count("export") == 2, "it is not sent again at once"
    assert pauses(clock) == []


def test_room_is_waited_for_until_the_deadline(
    connected: Connect, emulator: Emulator, clock: ManualClock, told: Started
) -> None:
    emulator.queue_limit, emulator.pending_seconds = 1, 10_000
    began = clock.time()
    outcome = start(connected(), told, asked(3), deadline=began + 95, max_concurrency=1)
    assert (len(outcome.started), [each.position for each in outcome.left]) == (1, [1, 2])
    assert pauses(clock) == [10, 20, 40, 25]
    assert clock.time() == pytest.approx(began + 95, abs=0.01)


# Request ids that were used


@pytest.mark.parametrize("repeat", ["same", "already_exists"])
def test_a_repeated_start_finds_what_was_started(
    connected: Connect, emulator: Emulator, clock: ManualClock, told: Started, repeat: Any
) -> None:
    emulator.request_id_repeat = repeat
    first = start(connected(), told, asked(3))
    again = start(connected(), Started(), asked(3, is_repeated=True, since=clock.time()))
    assert {position: each.name for position, each in again.started.items()} == {
        position: each.name for position, each in first.started.items()
    }
    assert len(emulator.names()) == 3
    assert emulator.count("list") == (1 if repeat == "already_exists" else 0), "one listing for all of them"


def test_a_lost_answer_is_recovered_where_the_server_names_nothing(
    connected: Connect, emulator: Emulator, told: Started
) -> None:
    emulator.request_id_repeat = "already_exists"
    emulator.add_fault(Fault("export", action="reset_after", times=1))
    outcome = start(connected(), told, asked(1))
    assert [each.name for each in outcome.started.values()] == emulator.names()


def test_where_it_may_be_anothers_it_is_not_taken(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.request_id_repeat = "already_exists"
    others = emulator.add_operation(project="one", description="export 0")
    emulator.add_fault(Fault("export", action="reset_after", times=1))
    outcome = start(connected(), told, asked(1))
    assert outcome.started == {}
    assert others in str(outcome.unclear[0])
    known = start(connected(), told, asked(1, is_repeated=True), taken=lambda: [others])
    assert [each.name for each in known.started.values()] == [name for name in emulator.names() if name != others]


def test_what_cannot_be_listed_is_unclear(connected: Connect, emulator: Emulator, told: Started) -> None:
    start(connected(), told, asked(1))
    emulator.request_id_repeat = "already_exists"
    emulator.deny("earthengine.operations.list")
    outcome = start(connected(), told, asked(1, is_repeated=True))
    assert isinstance(outcome.unclear[0], PermissionDeniedError)


# Very many


def test_thousands_take_no_more_memory_than_a_few(connected: Connect, emulator: Emulator, told: Started) -> None:
    emulator.log_limit = 16  # it keeps the bodies too
    made: list[int] = []

    class Large(Export):
        def body(self) -> dict[str, Any]:
            made.append(1)
            return {"description": self.description, "expression": {"text": "x" * 100_000}}

    wanted = [Asked(position, Large("EXPORT_IMAGE", str(position), {}), 0) for position in range(400)]
    tracemalloc.start()
    try:
        outcome = start(connected(at=SYSTEM_CLOCK), told, wanted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(outcome.started) == len(made) == 400
    assert peak < 20e6, "the bodies of all would be 40 MB"
