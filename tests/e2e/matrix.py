"""What a row of the kill matrix is, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.version import Version

if TYPE_CHECKING:
    from tests.e2e.cases import Case

__all__ = [
    "DEFERRED",
    "EXPORT",
    "EXPORT_DEFERRED",
    "HEARTBEAT",
    "HEARTBEAT_TIMEOUT",
    "OPERATOR",
    "OPERATOR_DEFERRED",
    "OWN_DEFERRED",
    "SENSOR",
    "TASK",
    "Bound",
    "Record",
    "Row",
]

HEARTBEAT = 3
"""Seconds between a task's heartbeats: by the answer to one it learns that it was killed."""

HEARTBEAT_TIMEOUT = 25
"""Seconds without a heartbeat after which the scheduler takes a task for dead."""

TASK = "task"
SENSOR = "sensor"
DEFERRED = "sensor, deferred"
OPERATOR = "operator"
OPERATOR_DEFERRED = "operator, deferred"
OWN_DEFERRED = "user's operator, deferred"
EXPORT = "@task.earthengine"
EXPORT_DEFERRED = "@task.earthengine, deferred"


@dataclass(frozen=True)
class Bound:
    """Within which time of the event every operation must have been asked to cancel, or the wait must have ended.

    :param seconds: how long.
    :param because: what it is made of.
    """

    seconds: float
    because: str


@dataclass(frozen=True)
class Row:
    """One way for a task to end badly, and one owner of operations.

    :param number: of the issue's table, with a letter where there are several.
    :param owner: who owns the operations.
    :param event: what happens, in words.
    :param dag: the DAG.
    :param strike: lets it happen; returns its time, seconds since the epoch.
    :param bound: how soon.
    :param by: places of the logs that may name the operations and their outcomes; together they must name each.
    :param cancelled: whether the owned operations are to be asked to cancel and end CANCELLED, or to be left alone.
    :param do: what a Python task does when it owns its operations.
    :param conf: more of the run's conf.
    :param operation: parameters of the operations that the test starts for a sensor or operator.
    :param task: the task that starts the operations.
    :param owned: which of its operations, ``try/map index/``.
    :param count: how many.
    :param map_index: which instance of a mapped task is the owner.
    :param errors_first: whether the log of the dying task must name each operation at ERROR.
    :param ends: state in which the owner ends.
    :param next_try: whether another try follows, whose operations are to be left alone.
    :param says: what the task's error must say.
    :param since: the Airflow that it holds from; on an older one it is run all the same, and must not hold.
    :param instead: what to use there.
    :param also: the major version of an older Airflow that it holds on all the same.
    """

    number: str
    owner: str
    event: str
    dag: str
    strike: Callable[[Case], float]
    bound: Bound
    by: tuple[str, ...] = ("worker",)
    cancelled: bool = True
    do: str = "wait"
    conf: Mapping[str, Any] = field(default_factory=dict)
    operation: Mapping[str, Any] = field(default_factory=dict)
    task: str = "work"
    owned: str = "1/"
    count: int = 3
    map_index: int = -1
    errors_first: bool = False
    ends: str | None = "failed"
    next_try: bool = False
    says: str | None = None
    since: str | None = None
    instead: str | None = None
    also: int | None = None

    @property
    def key(self) -> str:
        """What identifies it."""
        return f"{self.number} {self.owner}"

    @property
    def slug(self) -> str:
        """The same, as operations' descriptions have it."""
        return self.key.replace(", ", "-").replace(" ", "-").replace("'", "").replace("@", "")

    def holds_on(self, airflow: str) -> bool:
        """Whether it is to hold on this version of Airflow."""
        version = Version(airflow)
        return self.since is None or version >= Version(self.since) or version.major == self.also


@dataclass
class Record:
    """What was seen of a row.

    :param row: its key.
    :param problems: why it did not pass.
    :param who: places of the logs that name the operations' outcome.
    :param first: seconds from the event to the first request to cancel.
    :param last: seconds to the first request for the operation that was asked last.
    :param sent: requests to cancel, repetitions counted.
    :param owned: how many operations.
    """

    row: str
    problems: list[str] = field(default_factory=list)
    who: list[str] = field(default_factory=list)
    first: float | None = None
    last: float | None = None
    sent: int = 0
    owned: int = 0

    @property
    def passed(self) -> bool:
        """Whether the row holds."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The same, for a file."""
        return asdict(self) | {"passed": self.passed}
