"""The pace of a connection's requests in one process, however many threads, hooks and triggers make them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Hashable
from weakref import WeakValueDictionary

from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.forking import renew_when_forked

__all__ = ["Pace", "shared_pace", "shortfall"]

_SLOWER = 0.7
"""What is left of the pace after the server refused a request as one too many."""

_SLOWEST = 0.05
"""What is left of it after many."""

_FASTER = 0.02
"""How much of the full pace comes back each second after."""


class Pace:
    """Spaces requests evenly; when the server refuses one as one too many, holds all back and goes on slower.

    The quota is a project's and an account's, so other processes may use it too: the pace falls by a third at each
    refusal, and comes back by a fiftieth a second.

    :param requests_per_second: the full pace.
    :param clock: what to wait on.
    """

    def __init__(self, requests_per_second: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.requests_per_second = requests_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock.monotonic()
        self._next_held = self._next
        """The next slot of who waits for the end of a hold: who cannot, must not wait for theirs."""
        self._held_until = self._next
        self._share = 1.0
        self._slowed_at = self._next
        renew_when_forked(self, type(self)._renew)  # noqa: SLF001 - it is this very class

    def _renew(self) -> None:
        """Have a lock of its own in a forked process."""
        self._lock = threading.Lock()

    def wait(self, *, patience: float = math.inf, until: float | None = None) -> bool:
        """Wait for the next free slot and take it; return whether there was one in time.

        :param patience: seconds; a longer hold is passed over, as who cannot wait for its end would never send.
        :param until: seconds of the clock's ``monotonic()`` from which on no slot is taken.
        """
        patient_until = self._clock.monotonic() + patience
        while True:
            with self._lock:
                now = self._clock.monotonic()
                held_until = self._held_until
                waits_for_hold = now < held_until <= patient_until
                if waits_for_hold:
                    slot = max(held_until, self._next, self._next_held)
                elif now < held_until:
                    slot = max(now, self._next)
                else:
                    slot = max(now, self._next, self._next_held)
                if until is not None and slot >= until:
                    return False
                after = slot + 1.0 / (self.requests_per_second * self._share_at(now))
                if waits_for_hold:
                    self._next_held = after
                else:
                    self._next = after
            if slot > now:
                self._clock.sleep(slot - now)
            # A hold that began meanwhile is for who has not sent yet, too.
            if self._held_until == held_until or not self._clock.monotonic() < self._held_until <= patient_until:
                return True

    def hold(self, seconds: float, *, sent_at: float | None = None) -> float | None:
        """Give out no slot for so many seconds, and fewer a second after.

        :param seconds: how long.
        :param sent_at: when the request was sent that was refused, of the clock's ``monotonic()``. Default: now.
        :return: requests a second after it; None if it was sent before the last hold ended.
        """
        with self._lock:
            now = self._clock.monotonic()
            # Several requests under way are refused together: that is one sign, not several.
            is_new = (now if sent_at is None else sent_at) >= self._held_until
            if is_new:
                self._share = max(self._share_at(now) * _SLOWER, _SLOWEST)
            self._held_until = max(self._held_until, now + seconds)
            self._slowed_at = self._held_until
            return self.requests_per_second * self._share if is_new else None

    def _share_at(self, now: float) -> float:
        return min(1.0, self._share + max(0.0, now - self._slowed_at) * _FASTER)


_shared: WeakValueDictionary[tuple[Hashable, ...], Pace] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_pace(requests_per_second: float, *whose: Hashable, clock: Clock = SYSTEM_CLOCK) -> Pace:
    """The one pace of all in this process who make requests as the same principal to the same host.

    :param requests_per_second: the full pace.
    :param whose: what tells them from others.
    :param clock: what to wait on.
    """
    key = (requests_per_second, id(clock), *whose)
    with _shared_lock:
        pace = _shared.get(key)
        if pace is None:
            pace = _shared[key] = Pace(requests_per_second, clock=clock)
        return pace


def _forget() -> None:
    """Start anew in a forked process, as what :mod:`.forking` renews."""
    global _shared, _shared_lock  # noqa: PLW0603 - there is one of each in a process
    _shared = WeakValueDictionary()
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)


def shortfall(requests: int, *, requests_per_second: float, seconds: float) -> str | None:
    """Say in advance, with the arithmetic, that so many requests do not fit into the time; None if they do.

    :param requests: how many.
    :param requests_per_second: the pace.
    :param seconds: the time there is.
    """
    needed = requests / requests_per_second
    if needed <= seconds:
        return None
    return (
        f"{requests} requests at {requests_per_second:g} a second take {needed:.0f} s, and {max(seconds, 0):.0f} s are"
        f" left: {max(0, int(seconds * requests_per_second))} can be sent. Give more time, or raise requests_per_second"
        " in the connection as far as the quota allows."
    )
