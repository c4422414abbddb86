from __future__ import annotations

import threading

import pytest

from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.pace import Pace
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
    assert clock.sleeps == pytest.approx([10, 0.25])


def test_a_hold_longer_than_patience_is_passed_over_and_the_spacing_kept(clock: ManualClock) -> None:
    pace = Pace(4, clock=clock)
    pace.hold(10)
    pace.wait(patience=4)
    pace.wait(patience=4)
    assert clock.sleeps == pytest.approx([0.25])
    pace.wait(patience=10)
    assert clock.sleeps == pytest.approx([0.25, 9.75])


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
