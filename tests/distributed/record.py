"""What was seen in one run; also what docs/scaling.json holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Lost", "Polls", "Record", "Shutdown", "WaitSeen"]


@dataclass
class Polls:
    """Requests of one triggerer over some seconds.

    :param triggerer: whose.
    :param triggers: triggers that it had.
    :param seconds: how long was counted.
    :param requests: by method.
    """

    triggerer: str
    triggers: int
    seconds: float
    requests: dict[str, int]


@dataclass
class WaitSeen:
    """How one of the waits ended.

    :param index: its map index.
    :param state: the task's.
    :param tries: how many it took.
    :param report: outcome and state of each operation, by name, as the task returned them.
    :param late: seconds from the end of the operation that ended the wait to the end of the task; None if it ended
        never.
    """

    index: int
    state: str | None
    tries: int
    report: dict[str, list[Any]]
    late: float | None


@dataclass
class Lost:
    """A task that ran on the worker that was killed, and owned operations.

    :param dag: its DAG, which says which net it has.
    :param names: its operations.
    :param asked: seconds from the kill to the request to cancel each.
    :param states: what became of them.
    :param ended: state of the task and, if there is one, of the teardown behind it.
    """

    dag: str
    names: list[str]
    asked: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    ended: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Shutdown:
    """A worker that was asked to stop while a task on it owned operations.

    :param worker: its name, which its queue has too.
    :param signal: with which.
    :param asked: seconds from the signal to the request to cancel each operation, within the time it was looked at.
    :param gone: seconds until no process of the worker was left; None if it had to be released first.
    :param ended: state of the task at the end.
    """

    worker: str
    signal: str
    asked: list[float] = field(default_factory=list)
    gone: float | None = None
    ended: str | None = None


@dataclass
class Record:
    """All of it.

    :param about: date, versions, cores.
    :param deferred: seconds from the start of the run until all waits were deferred.
    :param joining: polls from the start of the run until then, with the triggers at its end.
    :param stored: connections, triggers and bytes in the database while all waits were deferred.
    :param before: polls while both triggerers lived and no trigger came.
    :param after: polls of the survivor.
    :param moved: triggers of the killed triggerer.
    :param taken_over: seconds from the kill until the survivor had all of them.
    :param waits: how each ended.
    :param waited: seconds from the kill until the last wait ended.
    :param resuming: waits that ran on the killed worker at that moment.
    :param stuck: waits that were queued then, and still are when the triggers are taken over.
    :param lost: tasks of the killed worker that owned operations.
    :param surviving: state of the same tasks of the other worker.
    :param unknown: names of operations that Airflow asked to cancel, and should not have.
    :param shutdowns: workers that were asked to stop.
    :param usage: seconds of CPU and MiB of each part from its start until all waits were deferred for a while.
    :param left: ids of processes that lived on.
    :param seconds: how long the suite took.
    """

    about: dict[str, Any] = field(default_factory=dict)
    deferred: float = 0.0
    joining: list[Polls] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=dict)
    before: list[Polls] = field(default_factory=list)
    after: list[Polls] = field(default_factory=list)
    moved: int = 0
    taken_over: float = 0.0
    waits: list[WaitSeen] = field(default_factory=list)
    waited: float = 0.0
    resuming: int = 0
    stuck: int = 0
    lost: list[Lost] = field(default_factory=list)
    surviving: list[str | None] = field(default_factory=list)
    unknown: Sequence[str] = ()
    shutdowns: list[Shutdown] = field(default_factory=list)
    usage: dict[str, dict[str, float]] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same, for a file; the reports, which are long and all alike, are left out."""
        told = asdict(self)
        for wait in told["waits"]:
            del wait["report"]
        return told
