from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from subprocess import TimeoutExpired
from typing import Any

import pytest

from airflow_provider_eeops.api.client import PAGE_SIZE, EarthEngineOperationsClient
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.models import Operation, Outcome
from airflow_provider_eeops.api.polling import in_parallel, observe, poll, wait
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]


def add(emulator: Emulator, count: int, **more: Any) -> list[str]:
    return [emulator.add_operation(**more) for _ in range(count)]


# Calls in parallel


def test_what_comes_of_each_call() -> None:
    def call(name: str) -> str:
        if name == "b":
            raise ConnectionFailedError(name)
        return name.upper()

    found = dict(in_parallel(["a", "b", "c"], call, max_concurrency=2))
    assert set(found) == {"a", "b", "c"}
    assert (found["a"], found["c"]) == ("A", "C")
    assert isinstance(found["b"], ConnectionFailedError)


def test_who_is_slow_keeps_no_other_back() -> None:
    release = threading.Event()

    def call(name: str) -> None:
        if name == "slow":
            release.wait(timeout=10)

    calls = in_parallel(["slow", "a", "b"], call, max_concurrency=2)
    assert [next(calls)[0], next(calls)[0]] == ["a", "b"]
    release.set()
    assert [name for name, _ in calls] == ["slow"]


def test_what_is_under_way_is_bounded_however_many_are_left() -> None:
    taken = 0

    def names() -> Iterator[str]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield str(number)

    came = 0
    for came, _ in enumerate(in_parallel(names(), str.upper, max_concurrency=4), start=1):
        assert taken - came < 2 * 4
    assert came == 10_000


def test_when_the_time_is_over_those_not_even_taken_up_are_told_too() -> None:
    release = threading.Event()

    def call(_name: str) -> None:
        release.wait(timeout=10)

    names = [str(number) for number in range(50)]
    found = dict(in_parallel(names, call, max_concurrency=1, until=SYSTEM_CLOCK.monotonic() + 0.1))
    release.set()
    assert list(found) == names
    assert [str(what) for what in found.values()][1:] == ["not asked: no time was left."] * 49


def test_when_the_time_is_over_the_rest_is_said_to_be_late() -> None:
    release = threading.Event()

    def call(name: str) -> str:
        if name == "slow":
            release.wait(timeout=10)
        return name

    found = in_parallel(["quick", "slow", "never"], call, max_concurrency=1, until=SYSTEM_CLOCK.monotonic() + 0.2)
    assert [(name, str(what)) for name, what in found] == [
        ("quick", "quick"),
        ("slow", "no answer in the time there was."),
        ("never", "not asked: no time was left."),
    ]
    release.set()


def test_an_error_that_nobody_foresaw_loses_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def call(name: str) -> str:
        if name != "c":
            raise TimeoutExpired("secret program", 5)
        return name

    found = dict(in_parallel(["a", "b", "c"], call, max_concurrency=1))
    assert [str(found[name]) for name in "abc"] == [*["an error that was not expected: TimeoutExpired"] * 2, "c"]
    assert isinstance(found["a"], EarthEngineError)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    found = [str(what) for _, what in in_parallel(["a", "b"], str.upper, max_concurrency=1)]
    assert found == ["not asked: can't start new thread"] * 2


def test_without_a_token_no_further_call_is_made() -> None:
    asked: list[str] = []

    def call(name: str) -> None:
        asked.append(name)
        raise CredentialsError("No token.")

    found = dict(in_parallel([str(number) for number in range(100)], call, max_concurrency=1))
    assert {str(error) for error in found.values()} == {"No token."}
    assert (len(found), asked) == (100, ["0"])


@pytest.mark.parametrize("most", [0, 0.5, True, "3", float("nan"), None])
def test_a_concurrency_that_makes_no_sense_is_refused(most: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"max_concurrency is {most!r}: it must be a whole number of at least"):
        in_parallel([], str.upper, max_concurrency=most)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_so_many_calls_at_once_and_no_more(most: int) -> None:
    lock, gate = threading.Lock(), threading.Barrier(most)
    under_way: list[int] = [0]
    seen: list[int] = []

    def call(_: str) -> None:
        with lock:
            under_way[0] += 1
            seen.append(under_way[0])
        gate.wait(timeout=10)
        with lock:
            under_way[0] -= 1

    names = [str(number) for number in range(most * 4)]
    assert len(list(in_parallel(names, call, max_concurrency=most))) == len(names)
    assert max(seen) == most


def test_left_early_it_starts_no_more_calls() -> None:
    release = threading.Event()
    started: list[str] = []

    def call(name: str) -> None:
        started.append(name)
        if name != "0":
            release.wait(timeout=10)

    calls = in_parallel([str(number) for number in range(50)], call, max_concurrency=2)
    with closing(calls):  # type: ignore[type-var]
        assert next(calls) == ("0", None)
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("eeops"):
            thread.join(timeout=10)
    assert len(started) <= 3


def test_nothing_in_parallel() -> None:
    assert list(in_parallel([], lambda name: name, max_concurrency=4)) == []


# One look


def test_a_few_are_got_one_by_one(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 8)
    assert set(observe(client, names).operations) == set(names)
    assert (emulator.count("get"), emulator.count("list")) == (8, 0)


def test_many_are_listed(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 21) + add(emulator, 2, project="two")
    observation = observe(client, names)
    assert set(observation.operations) == set(names)
    assert {operation.state for operation in observation.operations.values()} == {"PENDING"}
    assert (emulator.count("get"), emulator.count("list")) == (2, 1)


def test_listing_stops_when_all_are_seen(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    emulator.page_size_limit = 30
    add(emulator, 200)
    names = add(emulator, 50)
    assert set(observe(client, names).operations) == set(names)
    assert (emulator.count("get"), emulator.count("list")) == (0, 2)
    assert emulator.requests[-1].query["pageSize"] == str(PAGE_SIZE)


def test_listing_stops_when_gets_are_no_dearer(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    emulator.page_size_limit = 1
    names = add(emulator, 25)
    add(emulator, 100)
    assert set(observe(client, names).operations) == set(names)
    assert (emulator.count("get"), emulator.count("list")) == (25, 25)


def test_what_a_listing_does_not_show_is_got(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 25)
    gone = ["projects/one/operations/GONE", "projects/one/operations/AWAY"]
    observation = observe(client, names + gone)
    assert set(observation.operations) == set(names)
    assert set(observation.errors) == set(gone)
    assert all(isinstance(error, NotFoundError) for error in observation.errors.values())
    assert (emulator.count("get"), emulator.count("list")) == (2, 1)


def test_a_listing_may_name_the_project_by_its_number(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = [f"projects/one/operations/OP{number}" for number in range(21)]
    page = {
        "operations": [
            {"name": f"projects/123456/operations/OP{number}", "metadata": {"state": "RUNNING"}} for number in range(21)
        ]
    }
    emulator.add_fault(Fault("list", body=json.dumps(page).encode()))
    observation = observe(client, names)
    assert {name: operation.name for name, operation in observation.operations.items()} == dict(
        zip(names, names, strict=True)
    )


@pytest.mark.parametrize(
    "odd", ["", "x", "operations/OP", "a/operations/b", "/operations/", "projects/one/operations/"]
)
def test_an_odd_name_in_a_listing_is_passed_over(
    client: EarthEngineOperationsClient, emulator: Emulator, odd: str
) -> None:
    names = add(emulator, 21)
    emulator.add_fault(Fault("list", body=json.dumps({"operations": [{"name": odd}]}).encode()))
    assert set(observe(client, names).operations) == set(names)
    assert emulator.count("get") == 21


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 404}, {"status": 400}, {"status": 501}, {"body": b"[]"}])
def test_a_listing_that_is_refused_says_nothing_of_the_operations(
    client: EarthEngineOperationsClient, emulator: Emulator, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    names = add(emulator, 21)
    emulator.add_fault(Fault("list", times=None, **fault))
    observation = observe(client, names)
    assert set(observation.operations) == set(names)
    assert observation.errors == {}
    assert (emulator.count("get"), emulator.count("list")) == (21, 1)
    assert "Operations of one cannot be listed, each is asked for by itself." in caplog.text


def test_without_the_permission_to_list(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 21)
    emulator.deny("earthengine.operations.list")
    assert set(observe(client, names).operations) == set(names)


@pytest.mark.parametrize(("status", "cls"), [(503, UnavailableError), (401, UnauthenticatedError)])
def test_a_listing_that_failed_is_a_failed_poll(
    client: EarthEngineOperationsClient, emulator: Emulator, status: int, cls: type[EarthEngineError]
) -> None:
    names = add(emulator, 21)
    few = add(emulator, 1, project="two")
    emulator.add_fault(Fault("list", status=status, times=None))
    observation = observe(client, names + few)
    assert set(observation.operations) == set(few)
    assert {type(error) for error in observation.errors.values()} == {cls}
    assert emulator.count("get") == 1


def test_without_a_token_nothing_is_asked_one_by_one(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 21)
    emulator.add_fault(Fault("token", status=400, times=None))
    observation = observe(client, names)
    assert {type(error) for error in observation.errors.values()} == {CredentialsError}
    assert set(observation.errors) == set(names)
    assert emulator.count("token") == 1


def test_one_error_hides_no_other_operation(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    good, denied = add(emulator, 2)
    emulator.deny("earthengine.operations.get", name=denied)
    observation = observe(client, [denied, good])
    assert set(observation.operations) == {good}
    assert isinstance(observation.errors[denied], PermissionDeniedError)


# Polls and waits


def test_a_poll_asks_only_for_what_is_open(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock
) -> None:
    short, long = emulator.add_operation(run_seconds=1), emulator.add_operation()
    watch = Watch((short, long, "projects/one/operations/GONE"))
    assert {operation.state for operation in poll(client, watch)} == {"PENDING"}
    clock.advance(20)
    assert {operation.state for operation in poll(client, watch)} == {"SUCCEEDED", "RUNNING"}
    assert poll(client, watch) == []
    assert emulator.count("get") == 3 + 2 + 1


def test_waiting_until_all_are_confirmed(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock
) -> None:
    names = add(emulator, 3)
    client.cancel_operation(names[0])
    polls: list[list[Operation]] = []
    watch = Watch(tuple(names))
    verdict = wait(client, watch, poll_interval=600, on_poll=polls.append)
    assert verdict is Verdict.SETTLED
    assert [result.outcome for result in watch.report().results] == [
        Outcome.CANCELLED,
        Outcome.FINISHED_FIRST,
        Outcome.FINISHED_FIRST,
    ]
    assert [[operation.state for operation in changed] for changed in polls] == [
        ["CANCELLING", "PENDING", "PENDING"],
        ["CANCELLED", "RUNNING", "RUNNING"],
        ["SUCCEEDED", "SUCCEEDED"],
    ]
    assert [seconds for seconds in clock.sleeps if seconds > 1] == [600, 600]


def test_waiting_ends_at_the_deadline_after_a_last_look(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock
) -> None:
    (name,) = add(emulator, 1)
    watch = Watch((name,), deadline=clock.time() + 25)
    assert wait(client, watch, poll_interval=10) is Verdict.TIMED_OUT
    assert [round(seconds) for seconds in clock.sleeps if seconds > 1] == [10, 10, 5]
    assert emulator.count("get") == 4
    assert watch.report().results[0].state == "RUNNING"
    assert not emulator.cancel_requested(name)


def test_waiting_ends_at_once_when_one_ends_badly(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = add(emulator, 1) + add(emulator, 1, run_seconds=1, ends="FAILED", error_message="Too big.")
    watch = Watch(tuple(names), accepted_states=parse_states("SUCCEEDED"))
    assert wait(client, watch, poll_interval=30) is Verdict.NOT_ACCEPTED
    assert "Too big." in watch.message(Verdict.NOT_ACCEPTED)
    assert emulator.state(names[0]) == "RUNNING"


def test_waiting_gives_up_after_failures_in_a_row_and_cancels_nothing(
    connected: Connect, emulator: Emulator, clock: ManualClock
) -> None:
    client = connected(num_retries=0)
    (name,) = add(emulator, 1)
    emulator.add_fault(Fault("get", status=503, times=2))
    watch = Watch((name,), poll_failure_limit=3, deadline=clock.time() + 10_000)
    assert wait(client, watch, poll_interval=300) is Verdict.SETTLED
    (other,) = add(emulator, 1)
    emulator.add_fault(Fault("get", status=503, times=None))
    watch = Watch((other,), poll_failure_limit=3)
    assert wait(client, watch, poll_interval=300) is Verdict.POLLS_FAILED
    assert watch.report().results[0].outcome is Outcome.NOT_CONFIRMED
    assert emulator.count("cancel") == 0


def test_a_wait_that_is_stopped_between_polls(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait(client, Watch(tuple(add(emulator, 1))), poll_interval=10, sleep=stop)
    assert emulator.count("get") == 1


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), True, "3"])
def test_a_poll_interval_that_makes_no_sense_is_refused(client: EarthEngineOperationsClient, interval: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"poll_interval is {interval!r}"):
        wait(client, Watch(()), poll_interval=interval)


def test_an_api_that_hangs_does_not_hold_a_wait_beyond_its_deadline(connected: Connect, emulator: Emulator) -> None:
    client = connected(at=SYSTEM_CLOCK)
    client.get_operation(add(emulator, 1)[0])
    names = add(emulator, 4)
    emulator.add_fault(Fault("get", action="hang", times=None))
    began = SYSTEM_CLOCK.monotonic()
    watch = Watch(tuple(names), deadline=SYSTEM_CLOCK.time() + 1)
    assert wait(client, watch, poll_interval=10, max_concurrency=1) is Verdict.TIMED_OUT
    assert 1 <= SYSTEM_CLOCK.monotonic() - began < 4
    assert emulator.count("get") <= 2
    assert len(watch.failures) == 4


def test_at_the_deadline_a_last_look_is_possible(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock
) -> None:
    (name,) = add(emulator, 1)
    watch = Watch((name,), deadline=clock.time() - 100)
    assert [operation.name for operation in poll(client, watch)] == [name]


@pytest.mark.parametrize("method", ["list", "get"])
def test_a_poll_without_a_token_asks_for_one_once(
    client: EarthEngineOperationsClient, emulator: Emulator, method: str
) -> None:
    names = add(emulator, 21 if method == "list" else 20) + add(emulator, 25, project="two")
    emulator.add_fault(Fault("token", status=400, times=None))
    observation = observe(client, names, max_concurrency=1)
    assert list(observation.errors) == names
    assert emulator.count("token") == 1


def test_a_listing_that_meets_what_nobody_foresaw_loses_no_other(
    client: EarthEngineOperationsClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, few = add(emulator, 21), add(emulator, 1, project="two")

    def fail(_project_id: str) -> None:
        raise TimeoutExpired("secret program", 5)

    monkeypatch.setattr(client, "list_pages", fail)
    observation = observe(client, names + few)
    assert list(observation.operations) == few
    assert {str(error) for error in observation.errors.values()} == {"an error that was not expected: TimeoutExpired"}


def test_waiting_for_nothing(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    assert wait(client, Watch(()), poll_interval=10) is Verdict.SETTLED
    assert emulator.count() == 0


def test_a_watch_asks_for_a_refused_listing_once(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    emulator.deny("earthengine.operations.list")
    watch = Watch(tuple(emulator.add_operation() for _ in range(21)))
    for _ in range(3):
        poll(client, watch)
    assert (emulator.count("list"), emulator.count("get")) == (1, 63)
