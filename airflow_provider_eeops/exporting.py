"""The exports of one task: started, recorded, asked to cancel. It carries out what :mod:`.api.starts` decides."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_eeops.api.cancelling import cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.exports import Export
from airflow_provider_eeops.api.intents import Ambiguity, recover
from airflow_provider_eeops.api.models import Operation, Report, counted, listing
from airflow_provider_eeops.api.policies import SETTLED, not_confirmed
from airflow_provider_eeops.api.polling import observe, wait
from airflow_provider_eeops.api.results import NotStarted
from airflow_provider_eeops.api.starting import Outcome, Starter
from airflow_provider_eeops.api.starts import Asked, Next, changed_descriptions, first_attempt, next_of
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.exceptions import EarthEngineError, NotConfirmedError, TaskKilledError
from airflow_provider_eeops.killing import KillCanceller
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.starts import Ledger
from airflow_provider_eeops.xcom import pull_own

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
    from airflow_provider_eeops.stopping import Stop

__all__ = ["ExportOwner", "record_unowned"]

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 10.0
"""How long a task that ends waits for the answers to starts that are under way."""

_CANCEL_SECONDS = 30.0
"""What all requests to cancel may take together when a try ends."""

_LISTING_SECONDS = 20.0
"""What the search for starts without an answer may take then."""


def _warn_of_others(asked: Iterable[Asked], outcome: Outcome) -> None:
    """Say where a repeated start found that another export was started by it, of which no record is left."""
    for each in asked:
        found = outcome.started.get(each.position) if each.is_repeated else None
        if found is not None and (found.description or "") != each.export.description:
            told = f"position {each.position} was {found.description!r}, and is {each.export.description!r} now"
            log.warning("The callable returned other exports than before: %s.", told)


def record_unowned(context: Context, *, project_id: str | None) -> None:
    """Say what an earlier try started, where this one has no client: Airflow has cleared the XCom of the earlier one.

    :param context: the task's context.
    :param project_id: project that the exports are started in, if it is known.
    """
    try:
        if pull_own(context["ti"]):  # the task was deferred: all is there
            return
        ledger = Ledger(context, project_id=project_id)
        if ledger.starts or ledger.names:
            log.error(
                "Nothing can be asked of Earth Engine about what an earlier try started: %s", ", ".join(ledger.names)
            )
            ledger.save()
    except Exception:  # it must not hide why the task ends
        log.exception("What an earlier try started could not be recorded.")


class ExportOwner:
    """Owns the operations of a task while a process of it runs.

    :param context: the task's context.
    :param hook: whose connection to use.
    :param stop: set when the task was asked to stop.
    :param deadline: seconds since the epoch at which the waits end; None for no limit.
    :param execution_ends: seconds since the epoch at which ``execution_timeout`` is over; None for no limit.
    :param restart: whether every operation of an earlier try is started again.
    :param poll_interval: seconds between polls.
    :param max_concurrency: requests at once.
    """

    def __init__(
        self,
        context: Context,
        hook: EarthEngineOperationsHook,
        stop: Stop,
        *,
        deadline: float | None,
        execution_ends: float | None,
        restart: bool,
        poll_interval: float,
        max_concurrency: int,
    ) -> None:
        self.context = context
        self.hook = hook
        self.deadline = deadline
        self.execution_ends = execution_ends
        self.names: list[str] = []
        self.not_started: list[NotStarted] = []
        self.client = hook.get_conn()
        self.ledger = Ledger(context, project_id=hook.project_id)
        self._ti: Any = context["ti"]
        self._began = self.client.clock.time()
        self._stop = stop
        self._restart = restart
        self._poll_interval = poll_interval
        self._max_concurrency = max_concurrency
        self._killing = KillCanceller(hook)
        self._answered: deque[Operation] = deque()  # to be logged
        self._without: deque[int] = deque()  # positions that have no operation for certain
        self._was_recovered = False
        self._ended: set[str] = set()
        self._settled: set[str] = set()
        self._starter: Starter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._killing.close()

    # What is owned

    @property
    def open_names(self) -> list[str]:
        """Operations that were not seen to end, and whose cancellation is not settled."""
        gone = self._ended | self._settled | self._killing.settled
        return [name for name in self.ledger.names if name not in gone]

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.client.clock.time() >= self.deadline

    def saw(self, operations: Iterable[Operation]) -> None:
        """Note which operations have ended.

        :param operations: operations as they were seen.
        """
        self._ended.update(operation.name for operation in operations if operation.confirmed)

    def resume(self, report: Report, not_started: Sequence[NotStarted]) -> None:
        """Go on where the task deferred.

        :param report: what the trigger saw.
        :param not_started: exports without an operation.
        """
        self.names = [result.name for result in report.results]
        self.not_started = list(not_started)
        self.ledger.take_over()
        self.ledger.give(self.names)
        unconfirmed = {result.name for result in not_confirmed(report, if_not_found="ignore")}
        self._ended.update(name for name in self.names if name not in unconfirmed)

    def take_over(self) -> None:
        """Own what was recorded before the task deferred, where nothing else says what that was."""
        self.ledger.take_over()
        self.ledger.give(self.hook.parse(pull_own(self._ti), accept_ids=False).names)

    # Starting

    def start(
        self,
        positions: Sequence[Export | str],
        *,
        is_resumed: bool,
        stop_at_failure: bool,
        waits_for_room: Callable[[], bool],
    ) -> tuple[Asked, ...]:
        """Start what has to be started, and take over what an earlier try started.

        :param positions: what the callable returned.
        :param is_resumed: whether this very try recorded what is recorded.
        :param stop_at_failure: make no further start after one that failed.
        :param waits_for_room: asked when the queue is full; if it says no, the rest is left.
        :return: what is left.
        :raises NotConfirmedError: an operation that is to be replaced did not end in time.
        """
        exports = {position: each for position, each in enumerate(positions) if isinstance(each, Export)}
        self.ledger.give(each for each in positions if isinstance(each, str))
        given_before = [] if is_resumed else self.ledger.given_before
        self.ledger.save()  # Airflow has cleared the XCom of an earlier try: it shall say what is owned by this one
        for told in changed_descriptions(self.ledger.starts, positions):
            log.warning("The callable returned other exports than before: %s.", told)
        self._check_not_killed()
        self._end_given_before(given_before)
        decided = {} if is_resumed else self._decide_on_recorded()
        self._end(decided)
        self.ledger.forget(
            position for position, next_ in decided.items() if next_ is not Next.KEEP and position not in exports
        )
        todo = self._first_starts(exports, decided)
        starter = self._starter = self._make_starter()
        all_of_it = Outcome()
        while todo:
            outcome = starter.start(
                todo,
                before=lambda some: self.ledger.intend(some, now=self.client.clock.time()),
                after=self._take_in_batch,
                stop_at_failure=stop_at_failure,
                waits_for_room=lambda: self._save_and(waits_for_room),
            )
            # Of a repeated start there may be an operation, whatever this one met.
            self.ledger.forget([*outcome.refused, *(asked.position for asked in outcome.left if not asked.is_repeated)])
            self.ledger.save()
            self.saw(outcome.started.values())
            _warn_of_others(todo, outcome)
            all_of_it.started.update(outcome.started)
            all_of_it.refused.update(outcome.refused)
            all_of_it.unclear.update(outcome.unclear)
            self._check_not_killed()
            repeated = self._decide_on_repeated(todo, outcome)
            self._end(repeated)
            todo = self._next_starts(exports, repeated)
            all_of_it.left += outcome.left
        self.names = list(dict.fromkeys([*self._names_by_position(positions), *self.ledger.names]))
        self.not_started = [
            NotStarted.of(position, exports[position].description, error)
            for position, error in all_of_it.failed.items()
        ]
        return all_of_it.left

    def _names_by_position(self, positions: Sequence[Export | str]) -> Iterator[str]:
        for position, each in enumerate(positions):
            start = self.ledger.starts.get(position)
            if isinstance(each, str):
                yield each
            elif start is not None and start.name is not None:
                yield start.name

    def _make_starter(self) -> Starter:
        return Starter(
            self.client,
            self.hook.project_id or "",  # without one there is no export among the positions
            self.ledger.identity.request_id,
            on_started=self._learn,
            on_none=lambda asked: self._without.append(asked.position),
            taken=lambda: self.ledger.names,
            max_concurrency=self._max_concurrency,
            deadline=self.deadline,
            stopped=lambda: self._stop.requested,
            sleep=self.sleep,
        )

    def _learn(self, asked: Asked, operation: Operation) -> None:
        """Take in the answer to a start, from any thread."""
        self.ledger.learn(asked.position, operation)
        self._answered.append(operation)

    def _take_in_batch(self) -> None:
        """Log what was started, and forget what has no operation for certain: it is not to be looked for."""
        while self._answered:
            operation = self._answered.popleft()
            log.info("%s: %s %r was started.", operation.name, operation.type, operation.description)
        while self._without:
            self.ledger.forget([self._without.popleft()])

    def _save_and(self, waits_for_room: Callable[[], bool]) -> bool:
        self.ledger.save()
        return waits_for_room()

    def _decide_on_recorded(self) -> dict[int, Next]:
        named = {position: start.name for position, start in self.ledger.starts.items() if start.name is not None}
        if not named:
            return {}
        log.info("An earlier try started %s: asking for their state.", counted(len(named)))
        seen = observe(self.client, list(named.values()), max_concurrency=self._max_concurrency)
        self.saw(seen.operations.values())
        return {
            position: next_of(seen.operations.get(name) or seen.errors.get(name), restart=self._restart)
            for position, name in named.items()
        }

    def _decide_on_repeated(self, asked: Sequence[Asked], outcome: Outcome) -> dict[int, Next]:
        """Decide about operations that a repeated start turned out to have started before."""
        repeated = [each for each in asked if each.is_repeated and each.position in outcome.started]
        return {
            each.position: next_of(operation, restart=self._restart and self._is_earlier(operation))
            for each in repeated
            if (operation := outcome.started[each.position])
        }

    def _is_earlier(self, operation: Operation) -> bool:
        return operation.create_time is None or operation.create_time.timestamp() < self._began

    def _first_starts(self, exports: Mapping[int, Export], decided: Mapping[int, Next]) -> list[Asked]:
        todo = []
        for position, export in exports.items():
            start = self.ledger.starts.get(position)
            attempt = first_attempt(start, decided.get(position))
            if attempt is not None:
                since = start.since if start is not None and start.attempt == attempt else None
                todo.append(self._asked(position, export, attempt, since=since))
        return todo

    def _next_starts(self, exports: Mapping[int, Export], decided: Mapping[int, Next]) -> list[Asked]:
        return [
            self._asked(position, exports[position], self.ledger.starts[position].attempt + 1)
            for position, next_ in decided.items()
            if next_ is not Next.KEEP
        ]

    def _asked(self, position: int, export: Export, attempt: int, *, since: float | None = None) -> Asked:
        # Each earlier try of the series made one new start of a position at most.
        earlier_tries = self._ti.try_number - 1 - self.ledger.identity.series
        is_repeated = since is not None or attempt < earlier_tries
        return Asked(position, export, attempt, is_repeated=is_repeated, since=since)

    def _end(self, decided: Mapping[int, Next]) -> None:
        """See the operations end that are to be replaced, so that no export runs twice.

        :raises NotConfirmedError: some did not in the time there is.
        """
        starts = self.ledger.starts
        ending = {
            name: decision
            for position, decision in decided.items()
            if decision in (Next.AWAIT_END, Next.CANCEL) and (name := starts[position].name) is not None
        }
        self._see_ended(ending)

    def _end_given_before(self, names: Sequence[str]) -> None:
        """See the operations end that a function started itself in an earlier try, and does not return any more.

        :raises NotConfirmedError: some did not in the time there is.
        """
        if not names:
            return
        log.info("The callable returns %s of an earlier try no more: asking for the state.", counted(len(names)))
        seen = observe(self.client, names, max_concurrency=self._max_concurrency)
        self.saw(seen.operations.values())
        decided = {name: next_of(seen.operations.get(name) or seen.errors.get(name), restart=True) for name in names}
        self._see_ended({name: next_ for name, next_ in decided.items() if next_ is Next.CANCEL})
        self.ledger.take_back(names)
        self.ledger.save()

    def _see_ended(self, ending: Mapping[str, Next]) -> None:
        if not ending:
            return
        to_cancel = [name for name, decision in ending.items() if decision is Next.CANCEL]
        log.info("%s of an earlier try to see ended before what replaces them goes on.", counted(len(ending)))
        if to_cancel:
            report = cancel_operations(self.client, to_cancel, max_concurrency=self._max_concurrency)
            log.info("%s\n%s", report.summary, listing(report.results))
        watch = Watch(tuple(ending), deadline=self.deadline)
        verdict = self.wait(watch)
        if verdict is not Verdict.SETTLED or not_confirmed(watch.report(), if_not_found="ignore"):
            raise NotConfirmedError(
                f"exports of an earlier try have not ended, and are not started again. {watch.message(verdict)}",
                report=watch.report(),
            )

    # Waiting

    def wait(self, watch: Watch) -> Verdict:
        """Poll until the watch ends.

        :param watch: the watch.
        :raises TaskKilledError: the task was asked to stop.
        """
        verdict = wait(
            self.client,
            watch,
            poll_interval=self._poll_interval,
            max_concurrency=self._max_concurrency,
            on_poll=lambda changed: self._polled(watch, changed),
            sleep=self.sleep,
        )
        self._check_not_killed()  # the kill may be what ended it
        return verdict

    def _polled(self, watch: Watch, changed: Sequence[Operation]) -> None:
        self.hook.come_by()
        self.saw(changed)
        log_poll(log, watch, changed)

    def sleep(self, seconds: float) -> None:
        """Wait so long.

        :param seconds: how long.
        :raises TaskKilledError: the task was asked to stop.
        """
        self._stop.wait(seconds)
        self._check_not_killed()

    def _check_not_killed(self) -> None:
        if self._stop.requested:
            raise TaskKilledError(
                f"the task was killed; the log says what became of its {counted(len(self.ledger.names))}"
            )

    # Cancelling

    def cancel(self, *, because: str) -> Report:
        """Request cancellation of what is open, and log what became of each.

        :param because: what happened, to begin the log with.
        """
        self._take_in_answers()
        self._save_for_cleanups()
        self._killing.finish()
        known = self._cancel_open(because)
        self._recover_intents()  # last: it may take as long as a listing
        self._take_in_batch()
        self._save_for_cleanups()
        late = self._cancel_open("Known late.", besides=[result.name for result in known.results])
        self._killing.finish()
        return Report(known.results + late.results)

    def _cancel_open(self, because: str, *, besides: Collection[str] = ()) -> Report:
        names = [name for name in self.open_names if name not in besides]
        if not names:
            return Report()
        report = cancel_in_haste(self.client, names, log=log, because=because, seconds=_CANCEL_SECONDS)
        self._settled.update(result.name for result in report.having(*SETTLED))
        return report

    def let_go_on(self) -> None:
        """Leave what is open to the next try."""
        self._take_in_answers()
        self._save_for_cleanups()
        count = len(self.open_names) + len(self.ledger.intents)
        if count:
            verb, wait_ = ("go", "them") if count > 1 else ("goes", "it")
            log.info("%s %s on: the next try waits for %s.", counted(count), verb, wait_)

    def _save_for_cleanups(self) -> None:
        try:
            self.ledger.save()
        except Exception:  # Airflow does not answer: the cancellation must not fail for that
            log.exception("What was started could not be recorded: %s", ", ".join(self.ledger.names))

    def on_kill(self) -> None:
        """Request cancellation, in the handler of a signal."""
        known = self.open_names
        self._killing.cancel(known, late=lambda: self._late_names(frozenset(known)))

    def _late_names(self, known: Collection[str]) -> Iterator[str]:
        """Names that the starts under way add to the known ones."""
        if self._starter is not None:
            self._starter.wait_for_answers(_ANSWER_SECONDS)
        yield from (name for name in self.ledger.names if name not in known and name not in self._ended)

    def _take_in_answers(self) -> None:
        self._wait_for_answers()
        self._take_in_batch()

    def _wait_for_answers(self) -> None:
        if self._starter is not None and not self._starter.wait_for_answers(_ANSWER_SECONDS):
            log.error("A start had no answer in %g s: it may have started an operation.", _ANSWER_SECONDS)

    def _recover_intents(self) -> None:
        """Look for operations whose start had no answer: nobody starts them again with the same id."""
        intents = self.ledger.intents
        if not intents or self._was_recovered:
            return
        try:
            client = self.client.ending(self.client.clock.monotonic() + _LISTING_SECONDS)
            recovered = recover(client, intents.values(), taken=self.ledger.names)
        except EarthEngineError as error:
            log.error("%s that may be there cannot be looked for: %s", counted(len(intents)), error)  # noqa: TRY400
            return
        except Exception:  # it must not hide what became of the others
            log.exception("%s that may be there cannot be looked for.", counted(len(intents)))
            return
        self._was_recovered = True
        if self._ti.map_index < 0:
            for index, position in enumerate(intents):
                if index in recovered.operations:
                    self.ledger.learn(position, recovered.operations[index])
        elif recovered.operations:  # they may be a sibling's, which starts the same
            names = tuple(operation.name for operation in recovered.operations.values())
            recovered.ambiguous.append(Ambiguity(tuple(intents.values()), names))
        for ambiguity in recovered.ambiguous:
            log.error("%s.", ambiguity)
