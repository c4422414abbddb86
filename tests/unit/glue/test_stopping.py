from __future__ import annotations

import copy
import signal
import threading
import time

import pytest

from airflow_provider_eeops.stopping import Stop


def test_a_wait_lasts_as_long_as_it_is_told() -> None:
    stop = Stop()
    stop.begin()
    began = time.monotonic()
    assert stop.wait(0.3) is False
    assert time.monotonic() - began >= 0.3


def test_a_stop_that_was_requested_before_ends_it_at_once() -> None:
    stop = Stop()
    stop.request()
    assert stop.wait(3600) is True


@pytest.mark.timeout(60)
def test_a_signal_whose_handler_runs_late_ends_it() -> None:
    """As when the signal comes in the instant before a sleep begins: nothing interrupts the sleep."""
    stop = Stop()
    waits, killed = threading.Event(), threading.Event()

    def take_the_signal() -> None:  # not in the thread that waits, so that its sleep is not interrupted
        waits.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        killed.set()

    before = signal.signal(signal.SIGTERM, lambda *_: stop.request())
    other = threading.Thread(target=take_the_signal)
    other.start()
    try:
        waits.set()
        assert stop.wait(3600) is True
    finally:
        other.join()
        signal.signal(signal.SIGTERM, before)
    assert killed.is_set()


def test_it_can_be_copied_while_the_task_executes() -> None:
    stop = Stop()
    stop.begin()
    assert copy.deepcopy(stop).begun
