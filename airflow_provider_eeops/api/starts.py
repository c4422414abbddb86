"""Which exports are started, started again, waited for or kept: decisions only, from what was recorded and seen.

A position is the index of an export in what the callable returned. Each start of a position has an attempt number, and
a request id made of both: a start that is repeated with it makes no second operation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple, Self

from airflow_provider_eeops.api.exports import Export
from airflow_provider_eeops.api.models import TERMINAL_STATES, Operation, OperationState
from airflow_provider_eeops.exceptions import EarthEngineError, NotFoundError

__all__ = ["Asked", "Identity", "Next", "Start", "changed_descriptions", "first_attempt", "goes_on", "next_of"]

_DIGITS = 40


class Identity(NamedTuple):
    """Whose starts these are; a retry has the same, a task that was cleared has another series.

    :param dag_id: the DAG.
    :param run_id: its run.
    :param task_id: the task.
    :param map_index: of a mapped task, else -1.
    :param series: how often the task was begun anew.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    series: int = 0

    def request_id(self, position: int, attempt: int) -> str:
        """Make the id of a start: at most 60 letters, digits and hyphens, the same in every process.

        :param position: of the export.
        :param attempt: of its start.
        """
        what = "\0".join(map(str, (*self, position)))
        return f"eeops-{hashlib.sha256(what.encode()).hexdigest()[:_DIGITS]}-{attempt}"


@dataclass(frozen=True)
class Start:
    """The last start of one position, as it is recorded.

    :param attempt: its number.
    :param since: seconds since the epoch at which it was first to be made.
    :param until: and last.
    :param description: of the export.
    :param type: of the export.
    :param name: its operation; None if it is not known whether there is one.
    """

    attempt: int
    since: float
    until: float
    description: str
    type: str
    name: str | None = None

    def to_json(self) -> list[Any]:
        """Return what :meth:`from_json` reads."""
        return [self.attempt, int(self.since), math.ceil(self.until), self.description, self.type, self.name]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what :meth:`to_json` made.

        :raises ValueError: it is something else.
        """
        attempt, since, until, description, type_, name = value
        if not isinstance(attempt, int) or not isinstance(name, str | None):
            raise ValueError(f"{value!r} is no start")  # noqa: TRY004 - what was written is wrong, not the caller
        return cls(attempt, float(since), float(until), str(description), str(type_), name)


@dataclass(frozen=True)
class Asked:
    """A start to make.

    :param position: of the export.
    :param export: the export.
    :param attempt: its number.
    :param is_repeated: whether an earlier try may have made this very start.
    :param since: seconds since the epoch at which it was to be made; None if that is not known, or if it is now.
    """

    position: int
    export: Export
    attempt: int
    is_repeated: bool = False
    since: float | None = None


class Next(Enum):
    """What is done about an operation that an earlier try started."""

    #: Wait for it, or take it as it ended.
    KEEP = auto()
    #: It has ended: start the export again.
    START_AGAIN = auto()
    #: It is about to end: wait for that, then start the export again.
    AWAIT_END = auto()
    #: Request its cancellation, wait until it has ended, then start the export again.
    CANCEL = auto()


def next_of(seen: Operation | EarthEngineError | None, *, restart: bool) -> Next:
    """Decide about the operation of an earlier try.

    :param seen: what asking for it showed; None if nothing did, which the wait for it deals with.
    :param restart: whether every operation of an earlier try is started again.
    """
    if isinstance(seen, NotFoundError):
        return Next.START_AGAIN
    if not isinstance(seen, Operation):
        return Next.CANCEL if restart else Next.KEEP
    if restart:
        return Next.START_AGAIN if seen.state in TERMINAL_STATES else Next.CANCEL
    if seen.state in (OperationState.FAILED, OperationState.CANCELLED):
        return Next.START_AGAIN
    return Next.AWAIT_END if seen.state == OperationState.CANCELLING else Next.KEEP


def first_attempt(start: Start | None, decided: Next | None) -> int | None:
    """Number of the start to make for a position now; None if there is none to make.

    :param start: what is recorded of the position; None if nothing is.
    :param decided: what is done about its operation, if one is known.
    """
    if start is None:
        return 0
    if start.name is None:
        return start.attempt  # asked for, perhaps: the same id makes no second operation
    return None if decided in (None, Next.KEEP) else start.attempt + 1


def changed_descriptions(starts: Mapping[int, Start], positions: Sequence[Export | str]) -> list[str]:
    """Say where the callable returned another export than the one that is recorded.

    :param starts: what is recorded, by position.
    :param positions: what the callable returned now.
    """
    told = []
    for position, start in sorted(starts.items()):
        now = positions[position] if position < len(positions) else None
        described = now.description if isinstance(now, Export) else now
        if not isinstance(now, Export) or (now.description, now.type) != (start.description, start.type):
            told.append(f"position {position} was {start.description!r}, and is {described!r} now")
    return told


def goes_on(*, is_killed: bool, is_retried: bool, restart: bool, is_retained: bool) -> bool:
    """Whether the operations of a try that ends early go on, because the next one waits for them.

    :param is_killed: whether the task was asked to stop; then nobody knows whether a next try comes.
    :param is_retried: whether Airflow will try again.
    :param restart: whether the next try starts all again.
    :param is_retained: whether the next try can read what this one recorded.
    """
    return is_retried and is_retained and not is_killed and not restart
