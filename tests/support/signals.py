"""What Airflow does to a task process: SIGTERM that calls on_kill, and an execution_timeout by SIGALRM."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

__all__ = ["interrupted_when", "killed_when", "timed_out_when"]

_AGAIN_SECONDS = 60.0


@contextmanager
def killed_when(ready: Callable[[], bool], on_kill: Callable[[], None]) -> Iterator[None]:
    """Send this process SIGTERM once it is ready; its handler calls on_kill, as Airflow's task runner does."""
    before = signal.signal(signal.SIGTERM, lambda *_: on_kill())
    try:
        with _sent_when(ready, signal.SIGTERM):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupted_when(ready: Callable[[], bool]) -> Iterator[None]:
    """Send this process SIGINT once it is ready, as Ctrl-C does."""
    with _sent_when(ready, signal.SIGINT):
        yield


@contextmanager
def _sent_when(ready: Callable[[], bool], number: signal.Signals, *, again: bool = False) -> Iterator[None]:
    left = threading.Event()

    def send() -> None:
        while not ready():
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        # Python drops what a handler raises where garbage is collected, and the test would hang.
        while again and not left.wait(_AGAIN_SECONDS):
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        left.set()
        sender.join()


@contextmanager
def timed_out_when(ready: Callable[[], bool]) -> Iterator[None]:
    """Raise AirflowTaskTimeout once this process is ready, as Airflow enforces execution_timeout."""

    def time_out(*_: object) -> None:
        raise AirflowTaskTimeout("execution_timeout")

    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with _sent_when(ready, signal.SIGALRM, again=True):
            yield
    finally:
        signal.signal(signal.SIGALRM, before)
