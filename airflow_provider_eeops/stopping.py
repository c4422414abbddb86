"""What ends a wait early: a kill, which in a task of Airflow 3 only calls ``on_kill``, and ``execution_timeout``."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["Stop", "execution_deadline"]


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
    """Asks a task to stop, from its ``on_kill``, which may come before the task executes.

    It can be copied while the task does not execute, as Airflow copies tasks.
    """

    def __init__(self) -> None:
        self.requested = False
        self._event: threading.Event | None = None

    def begin(self) -> None:
        """Take requests that end a wait."""
        self._event = threading.Event()
        if self.requested:
            self._event.set()

    def end(self) -> None:
        """Hold nothing any more that cannot be copied."""
        self._event = None

    @property
    def begun(self) -> bool:
        """Whether the task executes."""
        return self._event is not None

    def request(self) -> None:
        """End the wait. Safe in a signal handler."""
        self.requested = True
        if self._event is not None:
            with suppress(RuntimeError):  # no thread can be started: the wait ends when its time is over
                # The signal may have come while this very thread holds the event's lock: set it from another one.
                threading.Thread(target=self._event.set, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until asked to stop; return whether it was.

        :param seconds: how long.
        """
        if self._event is not None:
            self._event.wait(seconds)
        return self.requested
