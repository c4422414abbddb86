"""One row in the making: its run, its operations, and what becomes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib.metadata import version

from tests.e2e.matrix import (
    DEFERRED,
    EXPORT,
    EXPORT_DEFERRED,
    OPERATOR,
    OPERATOR_DEFERRED,
    OWN_DEFERRED,
    SENSOR,
    TASK,
    Record,
    Row,
)
from tests.e2e.observing import NotYetError
from tests.e2e.place import Place
from tests.e2e.starting import COUNT, add_operation
from tests.support.airflow_database import TaskSeen

__all__ = ["Case"]

_GIVEN = {SENSOR, DEFERRED, OPERATOR, OPERATOR_DEFERRED}
"""Owners of operations that the test starts for them."""

_START = 120.0
"""Seconds in which a task starts and owns its operations, with all other rows beside it."""

_LATE = 15.0
"""Seconds after its bound in which a row is still looked at, so that it is known how late it was."""

_CANCELLING = 30.0
"""Seconds in which an operation that was asked to cancel ends."""

_ENDING = 90.0
"""Seconds in which Airflow ends a task, or starts the next try."""

_LOGGING = 15.0
"""Seconds in which a log is written."""


@dataclass
class Case:
    """One row on its way.

    :param row: the row.
    :param place: where it happens.
    :param counted_from: when requests to cancel began to count: those that had no effect do not.
    """

    row: Row
    place: Place
    run_id: str = ""
    struck: float = 0.0
    failed: bool = False
    counted_from: float = 0.0
    record: Record = field(init=False)

    def __post_init__(self) -> None:
        self.record = Record(self.row.key)

    # What the events need

    @property
    def names(self) -> list[str]:
        """Names of the owned operations."""
        return self.place.observer.names(f"{self.row.slug}/{self.row.task}/struck/{self.row.owned}")

    @property
    def seen(self) -> TaskSeen:
        """The owner, or one instance of it."""
        observer = self.place.observer
        found = observer.task(self.row.dag, self.run_id, "work", self.row.map_index)
        if found is None:
            raise NotYetError("the task instance: there is none")
        return found

    @property
    def started(self) -> float:
        """When the owner started, seconds since the epoch."""
        return self.seen.started or 0.0

    def wait(self, what: str, is_so: object, *, seconds: float) -> None:
        """Wait for something that the observer sees."""
        assert callable(is_so)
        self.place.observer.wait(what, is_so, seconds=seconds)

    def executing_since(self) -> float:
        """When the owner's process began to execute it, which is later than the task's start on a machine at work."""
        return self.place.logs.executing_since(self.row.dag, self.run_id) or self.started

    # The stages

    def prepare(self) -> None:
        """Trigger the run; return when its owner owns its operations."""
        self.place.require_dag(self.row.dag)
        conf = {"row": self.row.slug, "run": "struck", "do": self.row.do, **self.row.conf}
        if self.row.owner in _GIVEN and self.row.task == "work":
            conf["operations"] = self._given("struck", **self.row.operation)
        self.run_id = self.place.airflow.trigger(self.row.dag, conf)
        self.wait("the owned operations", lambda: len(self.names) == self.row.count, seconds=_START)
        self.record.owned = self.row.count
        self._wait_until_owner_is_ready()

    def strike(self) -> None:
        """Let it happen."""
        self.struck = self.row.strike(self)

    def judge_errors(self) -> None:
        """Look whether what could not be asked is named in the log."""
        if self.row.errors_first:
            self._expect("each operation at ERROR in the log of the dying task", self._errors_logged, seconds=20)

    def judge_requests(self) -> None:
        """Look whether the operations are asked to cancel, and how soon; or that the wait ends and they are not."""
        bound = self.row.bound.seconds
        left = max(0.0, self.struck + bound + _LATE - time.time())
        if not self.row.cancelled:
            return
        try:
            self.wait("a request for each operation", lambda: all(map(self._asked, self.names)), seconds=left)
        except NotYetError:
            missing = [name for name in self.names if not self._asked(name)]
            self._problem(f"no request to cancel {len(missing)} of {len(self.names)} within {bound + _LATE:.0f} s")
        asked = [times[0] - self.struck for name in self.names if (times := self._asked(name))]
        if asked:
            self.record.first, self.record.last = min(asked), max(asked)
            if max(asked) > bound:
                self._problem(f"the last operation was asked after {max(asked):.1f} s; the bound is {bound:g} s")

    def judge_end(self) -> None:
        """Look how the operations, the task and its log end."""
        if self.record.problems and not self.row.holds_on(version("apache-airflow")):
            return  # it is known, and the rest would only take time
        if self.row.cancelled:
            self._expect("all operations CANCELLED", lambda: self._states() == {"CANCELLED"}, seconds=_CANCELLING)
        if self.row.next_try:
            later = f"{self.row.slug}/{self.row.task}/struck/2/"
            self._expect("the next try's operations", lambda: len(self.place.observer.names(later)) == COUNT, _ENDING)
        if self.row.ends is not None:
            until = self.struck + self.row.bound.seconds + (_ENDING if self.row.cancelled else 0.0)
            self._expect(
                f"the task to end {self.row.ends}",
                lambda: self.seen.state == self.row.ends,
                seconds=max(1.0, until - time.time()),
            )
        if self.row.cancelled:
            self._expect(f"each outcome in the log of the {' or '.join(self.row.by)}", self._logged, seconds=_LOGGING)
        says = self.row.says
        if says is not None:
            self._expect(f"the error to say {says!r}", lambda: self._error_says(says), seconds=_LOGGING)
        self.record.who = list(self._who())
        self.record.sent = sum(len(self.place.observer.asked("cancel", name)) for name in self.names)

    def judge_bystanders(self) -> None:
        """Look, at the very end, that no other operation was touched: a sibling's, a later try's."""
        owned = set(self.names) if self.row.cancelled else set()
        for operation in self.place.observer.operations(f"{self.row.slug}/"):
            name = operation["name"]
            if name not in owned and self.place.observer.asked("cancel", name):
                self._problem(f"{operation['description']} was asked to cancel, which the row does not own")

    def fail(self, error: Exception) -> None:
        """Note what kept the row from going on."""
        self.failed = True
        state = self.place.observer.task(self.row.dag, self.run_id, "work", self.row.map_index)
        self._problem(f"{type(error).__name__}: {error}" + (f" (the task: {state.state})" if state else ""))

    # How

    def _given(self, run: str, **parameters: object) -> list[str]:
        prefix = f"{self.row.slug}/work/{run}/1/-1"
        url = self.place.emulator.base_url
        return [add_operation(url, f"{prefix}/{number}", **parameters) for number in range(COUNT)]

    def _wait_until_owner_is_ready(self) -> None:
        if self.row.owner == TASK:
            self.wait("each operation to be recorded", self._all_recorded, seconds=_START)
        if self.row.owner in {*_GIVEN, EXPORT, EXPORT_DEFERRED}:
            self.wait("the first poll", lambda: self._polled(1), seconds=_START)
        if self.row.owner in {DEFERRED, OPERATOR_DEFERRED, OWN_DEFERRED, EXPORT_DEFERRED}:
            self.wait("the deferral", lambda: self.seen.state == "deferred", seconds=_START)
            self.wait("the trigger's first poll", self.polled_by_trigger, seconds=_START)

    def _all_recorded(self) -> bool:
        text = self._log()
        return all(f"Recorded {name}" in text for name in self.names)

    def polled_by_trigger(self, since: float = 0.0) -> bool:
        """Whether a trigger has seen the operations; the request may be a listing, for other triggers too."""
        return self.place.logs.seen_by_trigger(self.row.dag, self.run_id, self.names, since=since)

    def _polled(self, times: int) -> bool:
        return all(len(self.place.observer.asked("get", name)) >= times for name in self.names)

    def _asked(self, name: str) -> list[float]:
        """When an operation was asked to cancel; an operator's own requests, which came before the event, left out."""
        since = self.struck if self.row.owner in {OPERATOR, OPERATOR_DEFERRED} else self.counted_from
        return [moment for moment in self.place.observer.asked("cancel", name) if moment >= since]

    def _states(self) -> set[str]:
        return self.place.observer.states(self.names)

    def _logged(self) -> bool:
        who = self._who()
        return set().union(*(who.get(place, set()) for place in self.row.by)) == set(self.names)

    def _error_says(self, words: str) -> bool:
        return any(words in line for line in self.place.logs.told_at_error(self._log().splitlines()))

    def _errors_logged(self) -> bool:
        return self.place.logs.errors(self.row.dag, self.run_id, self.names) == set(self.names)

    def _who(self) -> dict[str, set[str]]:
        return self.place.logs.who(self.row.dag, self.run_id, self.names)

    def _log(self) -> str:
        return self.place.logs.of_run(self.row.dag, self.run_id)

    def _expect(self, what: str, is_so: object, seconds: float) -> None:
        try:
            self.wait(what, is_so, seconds=seconds)
        except NotYetError as error:
            self._problem(str(error))

    def _problem(self, text: str) -> None:
        self.record.problems.append(text)
