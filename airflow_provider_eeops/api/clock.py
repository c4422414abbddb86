"""Time as an argument: what waits, waits on a clock that a test can turn by hand."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time and sleeps."""

    def time(self) -> float:
        """Seconds since the epoch; comparable between processes, may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; comparable in this process only, never jumps."""

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
