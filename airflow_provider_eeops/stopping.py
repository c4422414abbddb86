"""A wait that a kill ends: SIGTERM raises nothing in a task of Airflow 3, it only calls ``on_kill``."""

from __future__ import annotations

import threading

__all__ = ["Stop"]


class Stop:
    """Made when a task executes, asked to stop from its ``on_kill``."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.requested = False

    def request(self) -> None:
        """End the wait. Safe in a signal handler."""
        self.requested = True
        # The signal may have come while this very thread holds the event's lock: set it from another one.
        threading.Thread(target=self._event.set, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until asked to stop; return whether it was.

        :param seconds: how long.
        """
        self._event.wait(seconds)
        return self.requested
