"""What there is to wait for, and how each wait has to end; pure, so that DAG files and tests read the same."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["COLD", "EACH", "REMAPPED", "STOPPED", "WAITS", "WARM", "Wait", "after", "waits"]

WAITS = 200
EACH = 5
"""Operations of each wait."""

WARM = "warm"
COLD = "cold"
REMAPPED = "remapped"
"""The worker that Celery's ``REMAP_SIGTERM=SIGQUIT`` tells to take the one signal for the other."""

STOPPED = {WARM: signal.SIGTERM, COLD: signal.SIGQUIT, REMAPPED: signal.SIGTERM}
"""Workers that are asked to stop, and how; each serves a queue of its own, of the same name."""

_CANCELLED_AND_ACCEPTED = range(160, 180)
_FAILED = range(180, 190)
_CANCELLED = range(190, 200)


@dataclass(frozen=True, slots=True)
class Wait:
    """One sensor.

    :param index: its map index.
    :param accepted: its ``accepted_states``; None for all.
    :param odd: how its first operation ends; the others succeed.
    :param ends: the state in which the task has to end.
    """

    index: int
    accepted: tuple[str, ...] | None
    odd: str
    ends: str

    @property
    def ids(self) -> list[str]:
        """Ids of its operations."""
        return [f"wait{self.index:03}-{number}" for number in range(EACH)]


def waits() -> list[Wait]:
    """All of them, in order."""
    return [_wait(index) for index in range(WAITS)]


def _wait(index: int) -> Wait:
    if index in _CANCELLED_AND_ACCEPTED:
        return Wait(index, None, "CANCELLED", "success")
    if index in _FAILED:
        return Wait(index, ("SUCCEEDED",), "FAILED", "failed")
    if index in _CANCELLED:
        return Wait(index, ("SUCCEEDED",), "CANCELLED", "failed")
    return Wait(index, ("SUCCEEDED",) if index % 2 else None, "SUCCEEDED", "success")


def after(wait: Wait, number: int, *, spread: float) -> float:
    """Seconds until an operation ends, from the end of the first of all: neighbours end at other times.

    :param wait: whose it is.
    :param number: which of the wait's.
    :param spread: from the first of all to the last.
    """
    return spread * ((37 * wait.index + 11 * number) % WAITS) / WAITS
