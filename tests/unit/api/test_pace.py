from __future__ import annotations

import os
import signal
import threading
import warnings

import pytest

from airflow_provider_eeops.api import pace as pace_module
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.pace import Pace, shared_pace, shortfall
from tests.support.clock import ManualClock


def test_requests_are_spaced(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    began = clock.monotonic()
    starts = []
    for _ in range(4):
        pace.wait()
        starts.append(clock.monotonic() - began)
    assert starts == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_time_that_passed_anyway_is_not_waited_for(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    for _ in range(3):
        pace.wait()
        clock.advance(10)
    assert clock.sleeps == []


def test_a_hold_keeps_everybody_back(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    pace.hold(10)
    pace.hold(3)
    pace.wait()
    pace.wait()
    assert clock.sleeps == pytest.approx([10, 0.25 / 0.7])


def test_a_hold_longer_than_patience_is_passed_over_and_the_spacing_kept(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    pace.hold(10)
    pace.wait(patience=4)
    pace.wait(patience=4)
    assert clock.sleeps == pytest.approx([0.25 / 0.7])
    pace.wait(patience=10)
    assert clock.sleeps == pytest.approx([0.25 / 0.7, 10 - 0.25 / 0.7])


def test_refusals_together_slow_down_once_and_each_one_after_again(clock: ManualClock) -> None:
    pace = Pace(100, clock=clock)
    assert pace.hold(2) == pytest.approx(70)
    assert pace.hold(2) is None, "it was under way when the first came"
    clock.advance(2)
    assert pace.hold(1) == pytest.approx(49)


def test_however_many_refusals_something_is_sent(clock: ManualClock) -> None:
    pace = Pace(100, clock=clock)
    for _ in range(50):
        slowest = pace.hold(1)
        clock.advance(1)
    assert slowest == pytest.approx(5)


def test_the_full_pace_comes_back(clock: ManualClock) -> None:
    pace = Pace(100, clock=clock)
    pace.hold(1)
    clock.advance(1 + 10)
    assert pace.hold(1) == pytest.approx((70 + 20) * 0.7)
    clock.advance(1 + 100)
    pace.wait()
    pace.wait()
    assert clock.sleeps == pytest.approx([0.01])


def test_a_hold_is_for_those_too_who_sleep_towards_their_slot(clock: ManualClock) -> None:
    pace = Pace(1, clock=clock)
    pace.wait()
    began = clock.monotonic()
    sleep = clock.sleep

    def refused_meanwhile(seconds: float) -> None:
        if not clock.sleeps:
            pace.hold(30)
        sleep(seconds)

    clock.sleep = refused_meanwhile  # type: ignore[method-assign]
    assert pace.wait()
    assert clock.monotonic() - began == pytest.approx(30)


def test_who_asks_the_same_host_as_the_same_principal_shares_a_pace(clock: ManualClock) -> None:
    one = shared_pace(4, "https://host", "a@one.example", clock=clock)
    assert shared_pace(4, "https://host", "a@one.example", clock=clock) is one
    others = [
        shared_pace(5, "https://host", "a@one.example", clock=clock),
        shared_pace(4, "https://other", "a@one.example", clock=clock),
        shared_pace(4, "https://host", "b@one.example", clock=clock),
        shared_pace(4, "https://host", "a@one.example"),
    ]
    assert all(other is not one for other in others)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_process_waits_for_no_thread_that_it_does_not_have(clock: ManualClock) -> None:
    pace = shared_pace(4, "fork", clock=clock)
    with pace._lock, pace_module._shared_lock, warnings.catch_warnings(action="ignore"):
        if (child := os.fork()) == 0:
            signal.alarm(10)
            os._exit(0 if shared_pace(4, "fork", clock=clock).wait() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("requests", "requests_per_second", "seconds", "told"),
    [
        (380, 95, 4, None),
        (0, 95, 0, None),
        (3000, 95, 4, "3000 requests at 95 a second take 32 s, and 4 s are left: 380 can be sent."),
        (10, 0.5, -3, "10 requests at 0.5 a second take 20 s, and 0 s are left: 0 can be sent."),
    ],
)
def test_what_does_not_fit_is_said_in_advance(
    requests: int, requests_per_second: float, seconds: float, told: str | None
) -> None:
    said = shortfall(requests, requests_per_second=requests_per_second, seconds=seconds)
    assert (said and said.partition(" Give more time, or raise requests_per_second")[0]) == told


def test_no_two_threads_get_the_same_slot(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    threads = [threading.Thread(target=pace.wait) for _ in range(50)]
    began = clock.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pace.wait()
    assert clock.monotonic() - began == 50 / 4


def test_the_machines_clock() -> None:
    before = SYSTEM_CLOCK.time(), SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.sleep(0.001)
    assert SYSTEM_CLOCK.time() > before[0]
    assert SYSTEM_CLOCK.monotonic() - before[1] >= 0.001


def test_no_slot_is_taken_from_the_end_on(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    until = clock.monotonic() + 0.5
    assert [pace.wait(until=until) for _ in range(4)] == [True, True, False, False]
    assert clock.sleeps == pytest.approx([0.25])
    assert pace.wait()
    assert clock.sleeps == pytest.approx([0.25, 0.25])
