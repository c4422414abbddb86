"""The pace of one client's requests, however many threads make them."""

from __future__ import annotations

import math
import threading

from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock

__all__ = ["Pace"]


class Pace:
    """Spaces requests evenly, and holds all of them back when the server asks for it.

    :param requests_per_second: the pace.
    :param clock: what to wait on.
    """

    def __init__(self, requests_per_second: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._interval = 1.0 / requests_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock.monotonic()
        self._held_until = self._next

    def wait(self, *, patience: float = math.inf, until: float | None = None) -> bool:
        """Wait for the next free slot and take it; return whether there was one in time.

        :param patience: seconds; a longer hold is passed over, as who cannot wait for its end would never send.
        :param until: seconds of the clock's ``monotonic()`` from which on no slot is taken.
        """
        with self._lock:
            now = self._clock.monotonic()
            slot = max(now, self._next)
            if slot < self._held_until <= now + patience:
                slot = self._held_until
            if until is not None and slot >= until:
                return False
            self._next = slot + self._interval
        if slot > now:
            self._clock.sleep(slot - now)
        return True

    def hold(self, seconds: float) -> None:
        """Give out no slot for so many seconds."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock.monotonic() + seconds)
