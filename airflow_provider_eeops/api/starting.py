"""Many exports -> started operations: some at a time, as there is room in the queue; none is lost on the way."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.intents import Ambiguity, Intent, recover
from airflow_provider_eeops.api.models import Operation, counted
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, in_parallel
from airflow_provider_eeops.api.progress import Progress
from airflow_provider_eeops.api.starts import Asked
from airflow_provider_eeops.exceptions import (
    AlreadyExistsError,
    ApiError,
    CredentialsError,
    EarthEngineError,
    InvalidInputError,
    QueueFullError,
)

__all__ = ["Outcome", "Starter"]

log = logging.getLogger(__name__)

_FIRST_PAUSE = 10.0
"""Seconds before the first new attempt when the queue is full."""

_LONGEST_PAUSE = 60.0

_LOOK_SECONDS = 0.05


class _NotAskedError(EarthEngineError):
    """No request was made: the task was asked to stop."""


@dataclass
class Outcome:
    """What came of the starts that were to be made; by position, but for those still to be made.

    :param started: operations.
    :param refused: why there is no operation.
    :param unclear: why it is not known whether there is one.
    :param left: not asked for yet, or there was no room in the queue.
    """

    started: dict[int, Operation] = field(default_factory=dict)
    refused: dict[int, EarthEngineError] = field(default_factory=dict)
    unclear: dict[int, EarthEngineError] = field(default_factory=dict)
    left: tuple[Asked, ...] = ()

    def take_failure(self, asked: Asked, error: EarthEngineError) -> None:
        """Note that a start was refused: it has no operation, unless an earlier request for it made one.

        :param asked: the start.
        :param error: the refusal.
        """
        is_unclear = asked.is_repeated or error.follows_unclear
        (self.unclear if is_unclear else self.refused)[asked.position] = error

    @property
    def failed(self) -> dict[int, EarthEngineError]:
        """Why a position has no operation that is known."""
        return self.refused | self.unclear


class Starter:
    """Starts exports. It may be left by an exception at any moment: a start under way is answered all the same.

    :param client: whom to ask.
    :param project_id: project to start them in.
    :param request_id: makes the request id of a position and an attempt.
    :param on_started: told each operation, in the thread that asked and before anything else is done with it.
    :param on_none: told each start of which there is no operation for certain, likewise: it was refused, or not made.
    :param taken: operations that are known to be another start's.
    :param max_concurrency: starts at once.
    :param deadline: seconds since the epoch until which there may come room in the queue; None for no limit.
    :param stopped: asked before each start; once it says yes, no other is made.
    :param sleep: what waits for room. Default: the client's clock.
    """

    def __init__(
        self,
        client: EarthEngineOperationsClient,
        project_id: str,
        request_id: Callable[[int, int], str],
        *,
        on_started: Callable[[Asked, Operation], object],
        on_none: Callable[[Asked], object] = lambda _: None,
        taken: Callable[[], Iterable[str]] = tuple,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        deadline: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._request_id = request_id
        self._on_started = on_started
        self._on_none = on_none
        self._taken = taken
        self._max_concurrency = max_concurrency
        self._deadline = deadline
        self._stopped = stopped
        self._sleep = sleep or client.clock.sleep
        self._under_way: set[int] = set()  # changed in single steps, so that a signal's thread needs no lock to look

    def start(
        self,
        wanted: Sequence[Asked],
        *,
        before: Callable[[Sequence[Asked]], object],
        after: Callable[[], object] = lambda: None,
        stop_at_failure: bool = False,
        waits_for_room: Callable[[], bool] = lambda: True,
    ) -> Outcome:
        """Start exports, in order but for those that have to wait for room.

        :param wanted: the starts to make.
        :param before: told the next ones before they are asked for.
        :param after: told when they are answered.
        :param stop_at_failure: make no further start after one that failed.
        :param waits_for_room: asked when the queue is full; if it says no, the rest is left.
        """
        outcome = Outcome()
        left = deque(wanted)
        progress = Progress(len(left), now=self._client.clock.monotonic())
        pause, was_full = _FIRST_PAUSE, False
        while left and not self._stopped():
            count = min(len(left), 1 if was_full else self._max_concurrency)
            some = [self._made_now(left.popleft()) for _ in range(count)]
            before(some)
            again = self._start_some(some, outcome)
            after()
            left.extendleft(reversed(again))
            for _ in range(len(some) - len(again)):
                if told := progress.count(now=self._client.clock.monotonic()):
                    log.info("Starts answered: %s.", told)
            no_token = next((each for each in outcome.failed.values() if isinstance(each, CredentialsError)), None)
            if no_token is not None:  # the others would meet the same
                for asked in left:
                    outcome.take_failure(asked, no_token)
                left.clear()
            if stop_at_failure and outcome.failed:
                break
            was_full = bool(again)
            if not was_full:
                pause = _FIRST_PAUSE
            elif self._stopped() or not waits_for_room() or not self._wait_for_room(len(left), pause):
                break
            else:
                pause = min(2 * pause, _LONGEST_PAUSE)
        outcome.left = tuple(left)
        return outcome

    def _made_now(self, asked: Asked) -> Asked:
        return asked if asked.is_repeated else replace(asked, since=self._client.clock.time())

    @property
    def any_under_way(self) -> bool:
        """Whether a start has no answer yet."""
        return bool(self._under_way)

    def wait_for_answers(self, seconds: float) -> bool:
        """Wait until no start is under way; return whether none is. In real time, for who ends.

        :param seconds: how long.
        """
        until = time.monotonic() + seconds
        while self._under_way and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        return not self._under_way

    def _start_some(self, some: Sequence[Asked], outcome: Outcome) -> list[Asked]:
        """Ask for some at once; return those for which there was no room, or no time, in order."""
        client = self._client
        if self._deadline is not None:
            client = client.ending(client.clock.monotonic() + max(0.0, self._deadline - client.clock.time()))
        again: dict[int, Asked] = {}
        exist: list[Asked] = []
        answers = in_parallel(
            some,
            lambda asked: self._ask(client, asked),
            max_concurrency=self._max_concurrency,
            clock=client.clock,
        )
        for asked, answer in answers:
            match answer:
                case Operation():
                    outcome.started[asked.position] = answer
                case QueueFullError() | _NotAskedError():
                    again[asked.position] = replace(asked, is_repeated=asked.is_repeated or answer.follows_unclear)
                case AlreadyExistsError():
                    exist.append(asked)
                case _ if _is_no(answer):
                    outcome.take_failure(asked, answer)
                case _:
                    outcome.unclear[asked.position] = answer
        if exist:
            self._recover(exist, outcome)
        return [again[asked.position] for asked in some if asked.position in again]

    def _ask(self, client: EarthEngineOperationsClient, asked: Asked) -> Operation:
        self._under_way.add(asked.position)  # first: who looks after the stop must not miss it
        try:
            if self._stopped():
                raise _NotAskedError("not asked: interrupted")
            request_id = self._request_id(asked.position, asked.attempt)
            operation = client.start_export(self._project_id, asked.export, request_id)
            self._tell(asked, operation)
        except EarthEngineError as error:
            if not (asked.is_repeated or error.follows_unclear) and _is_no(error):
                self._on_none(asked)
            raise
        else:
            return operation
        finally:
            self._under_way.discard(asked.position)

    def _tell(self, asked: Asked, operation: Operation) -> None:
        self._on_started(asked, operation)
        asked.export.started_as(operation.name)

    def _recover(self, exist: Sequence[Asked], outcome: Outcome) -> None:
        """Find what was started with these ids before, where the server does not say."""
        intents = [
            Intent(self._project_id, asked.export.type, asked.export.description, asked.since) for asked in exist
        ]
        try:
            recovered = recover(self._client, intents, taken=set(self._taken()))
        except EarthEngineError as error:
            outcome.unclear.update((asked.position, error) for asked in exist)
            return
        for index, asked in enumerate(exist):
            operation = recovered.operations.get(index)
            if operation is None:
                ambiguity = next((each for each in recovered.ambiguous if intents[index] in each.intents), None)
                told = ambiguity or Ambiguity((intents[index],), ())
                outcome.unclear[asked.position] = EarthEngineError(str(told))
            else:
                self._tell(asked, operation)
                outcome.started[asked.position] = operation

    def _wait_for_room(self, count: int, pause: float) -> bool:
        clock = self._client.clock
        seconds = pause if self._deadline is None else min(pause, self._deadline - clock.time())
        if seconds <= 0:
            return False
        log.info(
            "The queue of project %s is full: %s to start wait for room, the next attempt is in %.0f s.",
            self._project_id,
            counted(count),
            seconds,
        )
        self._sleep(seconds)
        return self._deadline is None or clock.time() < self._deadline


def _is_no(error: EarthEngineError) -> bool:
    """Whether no operation comes of the request that met this."""
    if isinstance(error, QueueFullError | _NotAskedError | CredentialsError | InvalidInputError):
        return True
    return isinstance(error, ApiError) and not error.retryable and not isinstance(error, AlreadyExistsError)
