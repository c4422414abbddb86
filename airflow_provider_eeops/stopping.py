"""What ends a wait early: a kill, which in a task of Airflow 3 only calls ``on_kill``, and ``execution_timeout``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["DEFERRAL_FAILED", "Stop", "execution_deadline", "sleep_unless"]

DEFERRAL_FAILED = "__fail__"
"""The method Airflow names when it resumes a task whose deferral it ended: its own timeout, or a broken trigger."""

_SLEEP_SECONDS = 0.25
"""After which a stop is noticed."""


def execution_deadline(context: Context) -> float | None:
    """Seconds since the epoch at which ``execution_timeout`` is over; Airflow does not look while a task is deferred.

    :param context: the task's context.
    """
    ti: Any = context["ti"]
    execution_timeout = getattr(ti.task, "execution_timeout", None)
    if execution_timeout is None or ti.start_date is None:
        return None
    return float(ti.start_date.timestamp() + execution_timeout.total_seconds())


class Stop:
    """Asks a task to stop, from its ``on_kill``, which may come before the task executes."""

    def __init__(self) -> None:
        self.requested = False
        self.begun = False

    def begin(self) -> None:
        """Say that the task executes."""
        self.begun = True

    def end(self) -> None:
        """Say that it does no longer."""
        self.begun = False

    def request(self) -> None:
        """End the wait. Safe in a signal handler."""
        self.requested = True

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until asked to stop; return whether it was.

        :param seconds: how long.
        """
        return sleep_unless(lambda: self.requested, seconds)


def sleep_unless(asked: Callable[[], bool], seconds: float) -> bool:
    """Sleep so long, or until a signal's handler has asked to stop; return whether it has.

    :param asked: whether it has.
    :param seconds: how long.
    """
    until = time.monotonic() + seconds
    while not asked() and (left := until - time.monotonic()) > 0:
        # In short sleeps: a signal in the instant before one begins does not end it, and its handler runs after.
        time.sleep(min(left, _SLEEP_SECONDS))
    return asked()
