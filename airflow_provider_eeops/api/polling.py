"""Asks for the state of operations, as :mod:`.watching` decides, and waits for them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK, Clock
from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.names import operation_id
from airflow_provider_eeops.api.observing import WAIT, Observer, Span, tell_confirmed, tell_outcomes
from airflow_provider_eeops.api.watching import Verdict, Watch, plan_requests
from airflow_provider_eeops.checks import require_count, require_positive
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnimplementedError,
)

__all__ = ["DEFAULT_CONCURRENCY", "Observation", "OnAnswers", "conclude_wait", "in_parallel", "observe", "poll", "wait"]

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 16
"""Requests at once: enough for 95 a second that take 150 ms each, well below the 40 that Earth Engine allows."""

_LAST_LOOK = 2.0
"""Seconds that a poll has at least, so that a watch ends with what was seen at its deadline."""

K = TypeVar("K")
T = TypeVar("T")

OnAnswers = Callable[[Mapping[str, Operation | EarthEngineError]], None]


@dataclass
class Observation:
    """What one poll showed.

    :param operations: what was seen, by name.
    :param errors: what was met instead, by name.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    errors: dict[str, EarthEngineError] = field(default_factory=dict)

    def take(self, name: str, seen: Operation | EarthEngineError) -> None:
        """Note what was seen or met."""
        if isinstance(seen, Operation):
            self.operations[name] = seen
        else:
            self.errors[name] = seen


def in_parallel(
    names: Iterable[K],
    call: Callable[[K], T],
    *,
    max_concurrency: int,
    until: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[tuple[K, T | EarthEngineError]]:
    """Call once for each name, some at a time; yield what came of each, as it comes. One error stops no other.

    Only a token that cannot be had stops the calls not yet begun, as they would meet the same: it is what came of
    them. Left early (a timeout, a kill), it starts no further calls and does not wait for those under way.

    :param names: operation names, or what else there is one call for.
    :param call: what to do with one; its errors of ours are yielded, any other as one of ours.
    :param max_concurrency: calls at once.
    :param until: seconds of the clock's ``monotonic()`` at which an error is yielded for each call not done.
    :param clock: the clock.
    :raises InvalidInputError: ``max_concurrency`` is no whole number of at least 1.
    """
    require_count("max_concurrency", max_concurrency)
    return _in_parallel(
        names, _Attempt(call), max_concurrency, math.inf if until is None else until - clock.monotonic()
    )


class _Attempt(Generic[K, T]):
    """A call that raises nothing and, once there is no token, makes no request."""

    def __init__(self, call: Callable[[K], T]) -> None:
        self._call = call
        self._without_token: CredentialsError | None = None
        self._unexpected = False

    def __call__(self, name: K) -> T | EarthEngineError:
        if self._without_token is not None:
            return self._without_token
        try:
            return self._call(name)
        except CredentialsError as error:
            self._without_token = error
            return error
        except EarthEngineError as error:
            return error
        except Exception as error:  # noqa: BLE001 - it would take the report with it
            first, self._unexpected = not self._unexpected, True
            return _unexpected(error, first=first)


def _in_parallel(
    names: Iterable[K], attempt: _Attempt[K, T], max_concurrency: int, seconds: float
) -> Iterator[tuple[K, T | EarthEngineError]]:
    end = time.monotonic() + seconds  # the queue waits on the machine's clock
    done: SimpleQueue[Future[T | EarthEngineError]] = SimpleQueue()
    futures: dict[Future[T | EarthEngineError], K] = {}
    left = iter(names)
    executor = ThreadPoolExecutor(max_workers=max_concurrency, thread_name_prefix="eeops")
    try:
        while True:
            # As many as there are threads, and as many again for them to go on with: the rest needs no memory.
            names_now = list(islice(left, 2 * max_concurrency - len(futures)))
            for name in names_now:
                try:
                    future = executor.submit(attempt, name)
                except RuntimeError as error:  # no thread can be started, as when the interpreter shuts down
                    yield name, EarthEngineError(f"not asked: {error}")
                    continue
                futures[future] = name
                future.add_done_callback(done.put)
            if not futures:
                if not names_now:
                    return
                continue
            try:
                future = done.get(timeout=None if end == math.inf else max(end - time.monotonic(), 0.0))
            except Empty:
                break
            yield futures.pop(future), future.result()
        for future, name in futures.items():
            yield name, _late(future)
        for name in left:
            yield name, _not_asked()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _late(future: Future[T | EarthEngineError]) -> T | EarthEngineError:
    """Say what came of a call when the time is over."""
    if future.cancel():
        return _not_asked()
    return future.result() if future.done() else ConnectionFailedError("no answer in the time there was.")


def _not_asked() -> EarthEngineError:
    return ConnectionFailedError("not asked: no time was left.")


def _unexpected(error: Exception, *, first: bool) -> EarthEngineError:
    """Make an error of ours of one that nothing here foresees; only the log has the whole of it, once."""
    if first:
        log.error("An error that was not expected.", exc_info=error)
    return EarthEngineError(f"an error that was not expected: {type(error).__name__}")


def observe(
    client: EarthEngineOperationsClient,
    names: Collection[str],
    *,
    pages: MutableMapping[str, float] | None = None,
    max_concurrency: int = DEFAULT_CONCURRENCY,
    until: float | None = None,
    on_answers: OnAnswers = lambda _answers: None,
) -> Observation:
    """Ask once for the state of each operation.

    :param client: whom to ask.
    :param names: operation names.
    :param pages: by project, what the last listing took, infinity where it was refused; what is learned is put there.
    :param max_concurrency: requests at once.
    :param until: seconds of the clock's ``monotonic()`` at which it ends.
    :param on_answers: told, as it comes, what was seen or met, by name.
    """
    if until is not None:
        client = client.ending(until)
    pages = {} if pages is None else pages
    look = _Look(client, pages, on_answers)
    plan = plan_requests(names, pages=pages)
    gets = list(plan.gets)
    for project_id, wanted in plan.listings.items():
        try:
            look.list(project_id, wanted)
        except CredentialsError as error:  # the others would meet the same
            look.take(dict.fromkeys(look.unanswered(names), error))
            return look.observation
        gets.extend(look.unanswered(wanted))
    for name, seen in in_parallel(
        gets, client.get_operation, max_concurrency=max_concurrency, until=until, clock=client.clock
    ):
        look.take({name: seen})
    return look.observation


class _Look:
    """One look at some operations: what it has shown so far.

    :param client: whom to ask.
    :param pages: by project, what a listing takes.
    :param on_answers: told, as it comes, what was seen or met, by name.
    """

    def __init__(
        self, client: EarthEngineOperationsClient, pages: MutableMapping[str, float], on_answers: OnAnswers
    ) -> None:
        self.observation = Observation()
        self._client = client
        self._pages = pages
        self._on_answers = on_answers

    def take(self, answers: Mapping[str, Operation | EarthEngineError]) -> None:
        for name, seen in answers.items():
            self.observation.take(name, seen)
        self._on_answers(answers)

    def unanswered(self, names: Collection[str]) -> list[str]:
        answered = self.observation.operations.keys() | self.observation.errors.keys()
        return [name for name in names if name not in answered]

    def list(self, project_id: str, wanted: Collection[str]) -> None:
        """List a project; what is unanswered after that is to be asked for one by one.

        :raises CredentialsError: there is no token.
        """
        try:
            self._pages[project_id] = self._read_pages(project_id, wanted)
        except CredentialsError:
            raise
        except EarthEngineError as error:
            if error.retryable or isinstance(error, UnauthenticatedError):
                self.take(dict.fromkeys(self.unanswered(wanted), error))
                return
            # What a listing is refused with says nothing of the operations: a 404 is not theirs.
            with log_fields(project=project_id, http_status=getattr(error, "http_status", None)):
                log.warning("Operations of %s cannot be listed, each is asked for by itself. %s", project_id, error)
            if isinstance(error, PermissionDeniedError | UnimplementedError):
                self._pages[project_id] = math.inf
        except Exception as error:  # noqa: BLE001 - it would take the report with it
            self.take(dict.fromkeys(self.unanswered(wanted), _unexpected(error, first=True)))

    def _read_pages(self, project_id: str, wanted: Collection[str]) -> int:
        """Read pages until all that is wanted was seen, or as many GETs would have done; return how many were read.

        Matched by operation id, as a listing may name the project by its number.
        """
        missing = {operation_id(name): name for name in wanted}
        count = 0
        for count, page in enumerate(self._client.list_pages(project_id), start=1):
            found: dict[str, Operation | EarthEngineError] = {}
            for operation in page:
                name = missing.pop(operation.name.partition("/operations/")[2], None)
                if name is not None:
                    found[name] = replace(operation, name=name)
            self.take(found)
            if not missing or count >= len(missing):
                break
        return count


def poll(
    client: EarthEngineOperationsClient, watch: Watch, *, max_concurrency: int = DEFAULT_CONCURRENCY
) -> list[Operation]:
    """Ask once for what a watch still waits for; return the operations in which something changed.

    It ends at the watch's deadline, or after two seconds where that is later.

    :param client: whom to ask.
    :param watch: the watch; it takes in what was seen.
    :param max_concurrency: requests at once.
    """
    return _poll(client, watch, max_concurrency=max_concurrency, now=client.clock.time())


def _poll(client: EarthEngineOperationsClient, watch: Watch, *, max_concurrency: int, now: float) -> list[Operation]:
    until = None
    if watch.deadline is not None:
        until = client.clock.monotonic() + max(watch.deadline - now, _LAST_LOOK)
    observation = observe(client, watch.pending, pages=watch.pages, max_concurrency=max_concurrency, until=until)
    changed = watch.learn(observation.operations, observation.errors)
    tell_confirmed(client.observer, changed, requested_at=watch.requested_at, now=client.clock.time())
    return changed


def wait(
    client: EarthEngineOperationsClient,
    watch: Watch,
    *,
    poll_interval: float,
    max_concurrency: int = DEFAULT_CONCURRENCY,
    on_poll: Callable[[list[Operation]], None] = lambda _changed: None,
    sleep: Callable[[float], None] | None = None,
) -> Verdict:
    """Poll until the watch ends.

    :param client: whom to ask.
    :param watch: the watch.
    :param poll_interval: seconds between polls.
    :param max_concurrency: requests at once.
    :param on_poll: told after each poll in which operations something changed.
    :param sleep: what waits between polls; raise in it to stop. Default: the client's clock.
    :raises InvalidInputError: ``poll_interval`` is not greater than 0, or ``max_concurrency`` no whole number of at
        least 1.
    """
    require_positive("poll_interval", poll_interval)
    clock = client.clock
    ahead = clock.time() - clock.monotonic()  # what the time of day is set to while this waits ends nothing

    def now() -> float:
        return clock.monotonic() + ahead

    with client.observer.span(WAIT, watch.names, now=clock.time) as span:
        while True:
            on_poll(_poll(client, watch, max_concurrency=max_concurrency, now=now()))
            verdict = watch.verdict(now=now())
            if verdict is not Verdict.WAITING:
                conclude_wait(client.observer, span, watch, verdict)
                return verdict
            (sleep or clock.sleep)(watch.wait_before_poll(now=now(), poll_interval=poll_interval))


def conclude_wait(observer: Observer, span: Span, watch: Watch, verdict: Verdict) -> None:
    """Tell that a wait has ended by itself, and what became of the operations.

    :param observer: whom.
    :param span: the wait's.
    :param watch: what was waited for.
    :param verdict: why it ended.
    """
    report = watch.report()
    tell_outcomes(observer, report)
    span.conclude(report, error=None if verdict is Verdict.SETTLED else verdict.value)
