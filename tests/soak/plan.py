"""What comes and what happens to it, drawn from a seed: operations, who waits for which, faults. No effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from airflow_provider_eeops.emulator import Fault

__all__ = [
    "CONNECTIONS",
    "PROJECTS",
    "End",
    "PlannedOperation",
    "PlannedWait",
    "Schedule",
    "fault",
    "operation",
    "waits",
]

PROJECTS = ("soak-one", "soak-two")
CONNECTIONS = ("soak_one", "soak_two")

_INTERVALS = (3.0, 5.0, 10.0)
_SECONDS = (20.0, 120.0)
_MOST_IN_A_GROUP = 6
_ELSEWHERE = 0.01
"""Of the waits, so many ask with the connection that has few: few operations are asked for one by one."""


class End(StrEnum):
    """How an operation is meant to end."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    #: Cancellation is requested from outside.
    CANCELLED = "CANCELLED"
    #: Cancellation is requested, and it comes to its own end.
    IN_SPITE = "in spite of a request"
    #: Earth Engine forgets it while it runs.
    VANISHED = "vanished"


_ENDS = {End.SUCCEEDED: 56, End.FAILED: 15, End.CANCELLED: 15, End.IN_SPITE: 4, End.VANISHED: 10}


@dataclass(frozen=True)
class PlannedOperation:
    """One operation.

    :param project: its project.
    :param end: how it is meant to end.
    :param seconds: how long it runs if nobody stops it.
    :param struck: seconds until cancellation is requested or it vanishes; that an end of its own forestalls neither.
    """

    project: str
    end: End
    seconds: float
    struck: float


@dataclass(frozen=True)
class PlannedWait:
    """One trigger.

    :param conn_id: its connection.
    :param names: operations that it waits for.
    :param interval: seconds between polls.
    """

    conn_id: str
    names: tuple[str, ...]
    interval: float


@dataclass(frozen=True)
class Schedule:
    """When what begins, seconds since the triggerer had its first triggers.

    :param seconds: how long operations come.
    """

    seconds: float

    @property
    def warm(self) -> float:
        """From when on figures are compared."""
        return min(180.0, self.seconds / 3)

    @property
    def outages(self) -> tuple[float, float]:
        """When the emulator goes away: before what is compared, as threads stay that it made, and in its middle."""
        return 0.4 * self.warm, self.warm + 0.4 * (self.seconds - self.warm)

    @property
    def drained(self) -> float:
        """When the last operation has ended."""
        return self.seconds + 20


def operation(random: Random, *, left: float, is_under_way: bool = False) -> PlannedOperation:
    """Draw one.

    :param random: whence.
    :param left: seconds that it may last at most.
    :param is_under_way: whether some of its time has passed already, as with those that are there at first.
    """
    seconds = min(random.uniform(*_SECONDS) * (random.uniform(0.1, 1) if is_under_way else 1), max(left, 1.0))
    (end,) = random.choices(list(_ENDS), weights=list(_ENDS.values()))
    return PlannedOperation(random.choice(PROJECTS), end, seconds, seconds * random.uniform(0.2, 0.9))


def waits(random: Random, new: Sequence[str], running: Sequence[str]) -> list[PlannedWait]:
    """Draw who waits for new operations: for one, for several, or for some that others wait for too.

    :param random: whence.
    :param new: names of operations nobody waits for yet, in no order of projects.
    :param running: names of those that others wait for.
    """
    left, drawn = list(new), []
    while left:
        kind = random.random()
        first = left.pop(0)
        names = [first]
        if kind < 0.25:
            alike = [name for name in left if _project(name) == _project(first)][
                : random.randint(1, _MOST_IN_A_GROUP - 1)
            ]
            left = [name for name in left if name not in alike]
            names += alike
        elif kind < 0.27 and left:
            names.append(left.pop(0))
        elif kind < 0.42 and running:
            names += random.sample(running, min(len(running), random.randint(1, 2)))
            names = [name for name in names if _project(name) == _project(first)]
        home = PROJECTS.index(_project(first))
        elsewhere = random.random() < _ELSEWHERE
        drawn.append(PlannedWait(CONNECTIONS[home ^ elsewhere], tuple(names), random.choice(_INTERVALS)))
    return drawn


def _project(name: str) -> str:
    return name.split("/")[1]


_FAULTS = (
    {"status": 500},
    {"status": 503},
    {"status": 429, "headers": {"Retry-After": "2"}},
    {"status": 502, "body": b"<html><h1>502 Bad Gateway</h1></html>", "content_type": "text/html"},
    {"action": "reset_before"},
    {"action": "reset_after"},
    {"action": "half_body"},
    {"action": "hang", "seconds": 3.0},
)


def fault(random: Random, *, share: float) -> Fault | None:
    """Draw what goes wrong with one request, mostly nothing.

    :param random: whence.
    :param share: of the requests with which something does.
    """
    if random.random() >= share:
        return None
    return Fault("any", **random.choice(_FAULTS))
