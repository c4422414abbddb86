"""What is known of some operations, and what to ask next: decisions only, made from state and the time given.

The operator's wait, the sensor and the trigger all ask these; :mod:`.polling` makes the requests.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_provider_eeops.api.models import (
    TERMINAL_STATES,
    Operation,
    OperationResult,
    OperationState,
    Outcome,
    Report,
    counted,
    listing,
)
from airflow_provider_eeops.api.names import check_operation_name, project_of
from airflow_provider_eeops.checks import require_count, require_moment
from airflow_provider_eeops.exceptions import (
    EarthEngineError,
    InvalidArgumentError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)

__all__ = ["Plan", "Verdict", "Watch", "parse_states", "plan_requests"]

# Up to so many GETs are cheaper than a page of 500, which is some hundred times as long as an answer to a GET.
_FEW = 8

_DEFINITE = (
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
    InvalidArgumentError,
    InvalidInputError,
)


@dataclass(frozen=True)
class Plan:
    """Requests that tell the state of some operations.

    :param listings: for each project to list, the operations looked for; a listing may take as many pages as it
        looks for operations, then GETs are no dearer.
    :param gets: operations to get one by one.
    """

    listings: Mapping[str, tuple[str, ...]]
    gets: tuple[str, ...]

    def requests(self, page_size: int, pages: Mapping[str, float]) -> float:
        """Say how many requests these are likely to be.

        :param page_size: operations a page.
        :param pages: by project, what the last listing took.
        """
        listed = (
            max(pages.get(project_id, 1), math.ceil(len(wanted) / page_size))
            for project_id, wanted in self.listings.items()
        )
        return len(self.gets) + sum(listed)


def plan_requests(names: Collection[str], *, pages: Mapping[str, float]) -> Plan:
    """Choose the requests that tell the state of these operations most cheaply.

    :param names: operation names.
    :param pages: by project, what the last listing took before all that was looked for had been seen; infinity where
        it was refused. One page is assumed of the others.
    """
    by_project: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_project[project_of(name)].append(name)
    listings: dict[str, tuple[str, ...]] = {}
    gets: list[str] = []
    for project_id, wanted in by_project.items():
        if len(wanted) > max(_FEW, pages.get(project_id, 1)):
            listings[project_id] = tuple(wanted)
        else:
            gets.extend(wanted)
    return Plan(listings, tuple(gets))


def parse_states(states: Iterable[str] | str | None) -> frozenset[str]:
    """Read the states a wait accepts; all terminal ones if None.

    :param states: names of terminal states.
    :raises InvalidInputError: naming one that is not.
    """
    if states is None:
        return frozenset(TERMINAL_STATES)
    given = [states] if isinstance(states, str) else list(states)
    known = {state.value for state in TERMINAL_STATES}
    for state in given:
        if state not in known:
            raise InvalidInputError(
                f"accepted_states has {state!r}: an operation ends in one of {', '.join(sorted(known))}"
            )
    if not given:
        raise InvalidInputError(f"accepted_states is empty: give one or more of {', '.join(sorted(known))}")
    return frozenset(OperationState(state) for state in given)


class Verdict(StrEnum):
    """Whether a watch goes on."""

    #: Some operations are not confirmed yet.
    WAITING = "waiting"
    #: Every operation is confirmed, or never will be (not found, permission denied).
    SETTLED = "settled"
    #: An operation ended in a state that was not accepted.
    NOT_ACCEPTED = "not_accepted"
    #: The deadline has passed.
    TIMED_OUT = "timed_out"
    #: Too many polls in a row failed.
    POLLS_FAILED = "polls_failed"


@dataclass
class Watch:
    """A set of operations that somebody waits for.

    :param names: operation names.
    :param deadline: seconds since the epoch, so that it means the same in every process; None for no limit.
    :param accepted_states: terminal states that do not end the watch at once.
    :param poll_failure_limit: polls that may fail in a row before the watch gives up.
    :param requested_at: when their cancellation was requested, in seconds since the epoch; None if it was not.
    :param operations: what was seen of them before, by name.
    :param pages: what is known of the projects' listings, see :func:`plan_requests`.
    :raises InvalidInputError: a name is no operation name, or another parameter is out of its range.
    """

    names: tuple[str, ...]
    deadline: float | None = None
    accepted_states: frozenset[str] = field(default_factory=lambda: frozenset(TERMINAL_STATES))
    poll_failure_limit: int = 10
    requested_at: float | None = field(default=None, kw_only=True)
    operations: dict[str, Operation] = field(default_factory=dict, kw_only=True)
    pages: dict[str, float] = field(default_factory=dict, kw_only=True)
    errors: dict[str, EarthEngineError] = field(default_factory=dict, init=False)
    """What settled an operation without its state."""
    failures: dict[str, EarthEngineError] = field(default_factory=dict, init=False)
    """What the last poll that asked for an operation met, if not its state."""
    _failed_polls: dict[str, int] = field(default_factory=dict, init=False)
    """By project, as each is polled for itself."""
    last_failure: EarthEngineError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check what was given, and keep copies of what polls change."""
        for name in self.names:
            check_operation_name(name)
        require_moment("deadline", self.deadline)
        require_moment("requested_at", self.requested_at)
        self.poll_failure_limit = require_count("poll_failure_limit", self.poll_failure_limit)
        self.operations = dict(self.operations)
        self.pages = dict(self.pages)

    @property
    def pending(self) -> tuple[str, ...]:
        """Operations still to be asked about."""
        return tuple(
            name
            for name in self.names
            if name not in self.errors and not (name in self.operations and self.operations[name].confirmed)
        )

    def learn(self, operations: Mapping[str, Operation], errors: Mapping[str, EarthEngineError]) -> list[Operation]:
        """Take in what one poll showed; return the operations in which something changed.

        An error that says something of the operation (not found, permission denied) settles it. Any other makes the
        poll a failed one: it is counted, and the operation is asked about again.

        :param operations: what was seen, by name.
        :param errors: what was met instead, by name.
        """
        changed = [
            operations[name]
            for name in self.names
            if name in operations and _differs(self.operations.get(name), operations[name])
        ]
        self.operations.update(operations)
        self.errors.update((name, error) for name, error in errors.items() if isinstance(error, _DEFINITE))
        failures = {name: error for name, error in errors.items() if not isinstance(error, _DEFINITE)}
        for name in (*operations, *self.errors):
            self.failures.pop(name, None)
        self.failures.update(failures)
        self.last_failure = next((failures[name] for name in self.names if name in failures), None)
        failed = set(map(project_of, failures))
        for project_id in set(map(project_of, (*operations, *errors))):
            count = self._failed_polls.get(project_id, 0) + 1 if project_id in failed else 0
            self._failed_polls[project_id] = count
        return changed

    @property
    def failed_polls(self) -> int:
        """How many polls in a row failed, of the project of which most did."""
        return max(self._failed_polls.values(), default=0)

    def verdict(self, *, now: float) -> Verdict:
        """Decide whether the watch goes on.

        :param now: seconds since the epoch.
        """
        if self.not_accepted:
            return Verdict.NOT_ACCEPTED
        if not self.pending:
            return Verdict.SETTLED
        # First, as a poll that the deadline cut short has failed for no other reason.
        if self.deadline is not None and now >= self.deadline:
            return Verdict.TIMED_OUT
        if self.failed_polls >= self.poll_failure_limit:
            return Verdict.POLLS_FAILED
        return Verdict.WAITING

    @property
    def not_accepted(self) -> tuple[Operation, ...]:
        """Operations that ended in a state that was not accepted."""
        return tuple(
            operation
            for name in self.names
            if (operation := self.operations.get(name)) is not None
            and operation.confirmed
            and operation.state not in self.accepted_states
        )

    def wait_before_poll(self, *, now: float, poll_interval: float) -> float:
        """Seconds until the next poll: the interval, or what is left until the deadline.

        :param now: seconds since the epoch.
        :param poll_interval: seconds between polls.
        """
        left = self.seconds_left(now=now)
        return poll_interval if left is None else min(poll_interval, left)

    def seconds_left(self, *, now: float) -> float | None:
        """Seconds until the deadline; None if there is none.

        :param now: seconds since the epoch.
        """
        return None if self.deadline is None else max(0.0, self.deadline - now)

    @property
    def standing(self) -> str:
        """How many are confirmed."""
        return f"{len(self.names) - len(self.pending)} of {counted(len(self.names))} need no further poll"

    def message(self, verdict: Verdict) -> str:
        """Say why the watch ended, naming each operation concerned.

        :param verdict: how it ended.
        """
        report = self.report()
        if verdict is Verdict.NOT_ACCEPTED:
            names = {operation.name for operation in self.not_accepted}
            concerned = [result for result in report.results if result.name in names]
            wanted = " or ".join(sorted(self.accepted_states))
            return f"{len(concerned)} of {report.total} ended in another state than {wanted}:\n{listing(concerned)}"
        open_ = report.having(Outcome.NOT_CONFIRMED)
        if verdict is Verdict.TIMED_OUT:
            return f"{len(open_)} of {report.total} not confirmed in time:\n{listing(open_)}"
        if verdict is Verdict.POLLS_FAILED:
            return (
                f"{self.failed_polls} polls in a row failed, the last with: {self._last_failure}\n"
                f"{len(open_)} of {report.total} not confirmed, as last seen:\n{listing(open_)}"
            )
        unanswered = [result for result in report.results if result.name in self.errors]
        return f"{report.total}: {report.states_words}" + (f"\n{listing(unanswered)}" if unanswered else "")

    @property
    def _last_failure(self) -> EarthEngineError | None:
        """The last poll's, or that of the last poll of another project."""
        return self.last_failure or next(iter(self.failures.values()), None)

    def report(self) -> Report:
        """Say what became of each operation, as far as it was seen."""
        return Report(tuple(self._result(name) for name in self.names))

    def _result(self, name: str) -> OperationResult:
        operation = self.operations.get(name)
        state = operation.state if operation else None
        if name in self.errors:
            return OperationResult.from_error(name, self.errors[name], state=state)
        if operation is not None and operation.confirmed:
            return OperationResult.from_operation(operation, otherwise=Outcome.NOT_CONFIRMED)
        failure = self.failures.get(name)
        message = f"last poll: {failure.reason}" if failure else None
        return OperationResult(name, Outcome.NOT_CONFIRMED, state=state, error_message=message)


def _differs(before: Operation | None, now: Operation) -> bool:
    """Whether a person would want to read of it: the state, or a tenth of progress."""
    if before is None or before.state != now.state:
        return True
    return _tenths(before) != _tenths(now)


def _tenths(operation: Operation) -> int:
    return int(min(max(operation.progress or 0.0, 0.0), 1.0) * 10)
