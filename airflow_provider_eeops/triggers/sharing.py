"""What the triggers of one process share: the client of a connection, and one poll for each project."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_eeops.api.client import PAGE_SIZE, EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.names import project_of
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.polling import observe
from airflow_provider_eeops.api.watching import Plan, Verdict, Watch, plan_requests
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError, UnauthenticatedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.telemetry import telemetry

__all__ = ["Follower", "SharedConnection", "follow", "shared_connection"]

log = logging.getLogger(__name__)

_SETTLING_SECONDS = 10.0
"""How long after it came nobody is told of what a poll showed, if its own is not due before: Airflow fails a task that
resumes before its scheduler noticed that it deferred."""

_ROUNDS = 8
"""Polls of a project that may be under way at once: what is answered late is left behind by those that follow."""

_READ_SECONDS = 30.0
"""What reading a connection and its credentials may take."""

_LEAST_SECONDS = 1.0
"""Between two polls of one follower, whatever is wrong."""

_REREAD_LEAST_SECONDS = 10.0
"""How old what was read must be, to be read again as its credentials were refused."""

_LAST_LOOK = 2.0
"""Seconds after its deadline that a watch waits for the poll that is due then."""

_REREAD_SECONDS = 300.0
"""How old what was read of a connection may be: a key may be replaced while triggers wait."""

T = TypeVar("T")


class _Key(NamedTuple):
    conn_id: str
    impersonation_chain: str | tuple[str, ...] | None


_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, SharedConnection]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_connection(
    conn_id: str, impersonation_chain: str | Sequence[str] | None
) -> AsyncIterator[SharedConnection]:
    """Use a connection together with all who use it in this event loop; the last one out closes it.

    :param conn_id: id of the connection.
    :param impersonation_chain: service account to impersonate, or a chain of them.
    """
    chain = impersonation_chain
    key = _Key(conn_id, chain if chain is None or isinstance(chain, str) else tuple(chain))
    connections = _connections.setdefault(asyncio.get_running_loop(), {})
    connection = connections.get(key)
    if connection is None:
        connection = connections[key] = SharedConnection(key)
    connection.users += 1
    try:
        yield connection
    finally:
        connection.users -= 1
        if not connection.users:
            del connections[key]
            connection.close()


@asynccontextmanager
async def follow(
    connection: SharedConnection, watch: Watch, *, poll_interval: float, max_concurrency: int
) -> AsyncIterator[Follower]:
    """Have a watch learn from the polls of its projects.

    :param connection: whose polls.
    :param watch: what is waited for.
    :param poll_interval: seconds between polls at most, and before the first.
    :param max_concurrency: requests at once, if nobody else allows more.
    """
    follower = Follower(watch, poll_interval=poll_interval, max_concurrency=max_concurrency)
    project_ids = dict.fromkeys(map(project_of, watch.names))
    try:
        for project_id in project_ids:
            connection.poller(project_id).add(follower)
        yield follower
    finally:
        for project_id in project_ids:
            connection.drop(project_id, follower)


class SharedConnection:
    """A connection's client, read and authenticated once for all who share it.

    :param key: id of the connection, and whom to impersonate.
    """

    def __init__(self, key: _Key) -> None:
        self.users = 0
        self._key = key
        self._pollers: dict[str, _Poller] = {}
        self._read_in: _ReadIn | None = None
        self._reading: asyncio.Task[_ReadIn] | None = None
        self._is_distrusted = False
        self._good_until = -math.inf
        # A few threads, as each makes requests from more of its own.
        self._kills = ThreadPoolExecutor(8, thread_name_prefix="eeops-kills")

    async def client(self) -> EarthEngineOperationsClient:
        """Return the client, made on first use, and made anew after some minutes and after credentials were refused."""
        return (await self._current()).client

    async def cancel(self, call: Callable[[EarthEngineOperationsClient], T]) -> T:
        """Call with a client that requests cancellation, in a thread that no poll waits for.

        :param call: what makes the requests.
        """
        try:
            read_in = await self._current()
        except Exception:  # what was read before may do
            if self._read_in is None:
                raise
            read_in = self._read_in
        # A pace of its own: that of the polls may be held for longer than a kill can wait.
        client = read_in.killing
        context = contextvars.copy_context()  # by which Airflow tells in which task's log a line belongs
        return await asyncio.get_running_loop().run_in_executor(self._kills, context.run, call, client)

    async def _current(self) -> _ReadIn:
        read_in = self._read_in
        if read_in is not None and time.monotonic() < self._good_until:
            return read_in
        if self._reading is None or self._reading.done():
            # A task of its own: who waits for it may be cancelled, and its error is told to all who wait.
            self._reading = asyncio.get_running_loop().create_task(self._read(), context=contextvars.Context())
        try:
            return await asyncio.shield(self._reading)
        except Exception as error:
            if read_in is None or self._is_distrusted:
                raise
            if self._good_until < time.monotonic():
                self._good_until = time.monotonic() + _REREAD_SECONDS
                log.warning("Connection %s cannot be read again, what was read before serves: %s", self._key[0], error)
            return read_in

    async def _read(self) -> _ReadIn:
        hook = EarthEngineOperationsHook(self._key.conn_id, impersonation_chain=self._key.impersonation_chain)
        async with asyncio.timeout(_READ_SECONDS):
            await hook.load()
            now_read = await asyncio.to_thread(_ReadIn.of, hook)
        before, self._read_in = self._read_in, now_read
        self._is_distrusted = False
        self._good_until = now_read.at + _REREAD_SECONDS
        if before is not None:
            if before.hook.settings != hook.settings:
                log.info("Connection %s has changed.", self._key.conn_id)
            await asyncio.to_thread(before.close)
        return self._read_in

    def distrust(self, client: EarthEngineOperationsClient) -> None:
        """Read the connection again before the next poll, as the credentials of this client were refused.

        :param client: the client.
        """
        if self._read_in is not None and client is self._read_in.client:
            self._is_distrusted = True
            self._good_until = self._read_in.at + _REREAD_LEAST_SECONDS

    def poller(self, project_id: str) -> _Poller:
        """Return who polls a project."""
        poller = self._pollers.get(project_id)
        if poller is None:
            poller = self._pollers[project_id] = _Poller(self, project_id)
        return poller

    def drop(self, project_id: str, follower: Follower) -> None:
        """Let a follower go; nobody polls a project that has none left.

        :param project_id: the project.
        :param follower: who goes.
        """
        poller = self._pollers.get(project_id)
        if poller is None:
            return
        poller.remove(follower)
        if not poller.followers:
            poller.close()
            self.forget(poller)

    def forget(self, poller: _Poller) -> None:
        """Have who comes next polled by another.

        :param poller: who polls no more.
        """
        for project_id in [each for each, known in self._pollers.items() if known is poller]:
            del self._pollers[project_id]

    def close(self) -> None:
        """Close the client's connections, off the event loop. Requests under way end by themselves."""
        if self._reading is not None:
            self._reading.cancel()
        if self._read_in is not None:
            with suppress(RuntimeError):  # the interpreter shuts down, and takes no more work
                self._kills.submit(self._read_in.close)
        self._kills.shutdown(wait=False)


class _ReadIn(NamedTuple):
    """What was made of a connection as it was at one moment."""

    hook: EarthEngineOperationsHook
    client: EarthEngineOperationsClient
    killing: EarthEngineOperationsClient
    at: float

    @classmethod
    def of(cls, hook: EarthEngineOperationsHook) -> _ReadIn:
        """Load the credentials, which may take seconds."""
        client = hook.get_conn()
        pace = Pace(hook.settings.requests_per_second)
        killing = connect(hook.settings, hook.credentials, pace=pace, observer=telemetry())
        return cls(hook, client, killing, time.monotonic())

    def close(self) -> None:
        """Close the connections."""
        self.hook.close()
        self.killing.close()


class Follower:
    """A watch that learns from shared polls.

    :param watch: what is waited for.
    :param poll_interval: seconds between polls at most, and before the first.
    :param max_concurrency: requests at once.
    """

    def __init__(self, watch: Watch, *, poll_interval: float, max_concurrency: int) -> None:
        self.watch = watch
        self.poll_interval = poll_interval
        self.max_concurrency = max_concurrency
        self._settled_at = time.monotonic() + min(poll_interval, _SETTLING_SECONDS)
        self._changed: list[Operation] = []
        self._failure: BaseException | None = None
        self._is_told = False
        self._news = asyncio.Event()

    def due(self, after: float) -> float:
        """The moment of ``time.monotonic()`` at which it needs a poll, after one at another moment."""
        return after + self.watch.wait_before_poll(
            now=time.time() + after - time.monotonic(), poll_interval=self.poll_interval
        )

    def learn(self, answers: Mapping[str, Operation | EarthEngineError]) -> None:
        """Take in what a poll showed of its operations."""
        operations = {name: seen for name, seen in answers.items() if isinstance(seen, Operation)}
        errors = {name: met for name, met in answers.items() if not isinstance(met, Operation)}
        try:
            changed = self.watch.learn(operations, errors)
        except Exception as error:  # noqa: BLE001 - it is this one's, and no other's
            self.fail(error)
            return
        if changed or errors or self.watch.verdict(now=time.time()) is not Verdict.WAITING:
            self._changed.extend(changed)
            self._tell()

    def _tell(self) -> None:
        seconds = self._settled_at - time.monotonic()
        if seconds <= 0 or self.watch.verdict(now=time.time()) is Verdict.TIMED_OUT:
            self._news.set()
        elif not self._is_told:
            self._is_told = True
            asyncio.get_running_loop().call_later(seconds, self._news.set)

    def fail(self, error: BaseException) -> None:
        """End the wait with an error."""
        self._failure = error
        self._news.set()

    async def news(self) -> list[Operation] | None:
        """Wait for a poll that showed a change, failed or ended the watch; return the operations that changed.

        None if the time of the watch was over before there was one.
        """
        deadline = self.watch.deadline
        seconds = None if deadline is None else max(0.0, deadline - time.time()) + _LAST_LOOK
        try:
            # Not wait_for: in Python 3.11 it may swallow a cancellation that comes with the event.
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return None
        if self._failure is not None:
            raise self._failure
        self._news.clear()
        changed, self._changed = self._changed, []
        return changed


class _Poller:
    """Polls one project for all its followers, as often as the one of them who asks most often.

    :param connection: whose client to ask with.
    :param project_id: the project.
    """

    def __init__(self, connection: SharedConnection, project_id: str) -> None:
        self.followers: dict[Follower, float] = {}
        """When each needs a poll; never while it is in one."""
        self._connection = connection
        self._project_id = project_id
        self._pages: dict[str, float] = {}
        self._pages_at = time.monotonic()
        self._next = math.inf
        self._sooner = asyncio.Event()
        self._rounds: set[asyncio.Task[None]] = set()
        self._is_closed = False
        # Threads of its own: a project that answers late delays no other.
        self._executor = ThreadPoolExecutor(_ROUNDS, thread_name_prefix="eeops-poll")
        self._task = self._begin(self._run())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A context of its own: that of a trigger would send its log to that trigger's task.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        task.add_done_callback(self._ended)
        return task

    def add(self, follower: Follower) -> None:
        self._set_due(follower, follower.due(time.monotonic()))

    def remove(self, follower: Follower) -> None:
        self.followers.pop(follower, None)

    def close(self) -> None:
        self._is_closed = True
        for task in (self._task, *self._rounds):
            task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let nobody wait for polls that do not come any more."""
        self._rounds.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Project %s is not polled any more.", self._project_id, exc_info=error)
            self._connection.forget(self)
            for follower in self.followers:
                follower.fail(error)

    def _set_due(self, follower: Follower, due: float) -> None:
        self.followers[follower] = due
        if due < self._next:
            self._sooner.set()

    async def _run(self) -> None:
        while not self._is_closed:
            self._next = min(self.followers.values(), default=math.inf)
            self._sooner.clear()
            seconds = self._next - time.monotonic()
            if seconds > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(seconds, _REREAD_SECONDS)):
                        await self._sooner.wait()
                continue
            round_ = self._begin(self._poll())
            self._rounds.add(round_)
            await asyncio.sleep(0)  # it takes its followers

    async def _poll(self) -> None:
        now = time.monotonic()
        if now - self._pages_at > _REREAD_SECONDS:  # a listing that was refused may be allowed by now
            self._pages, self._pages_at = {key: each for key, each in self._pages.items() if each != math.inf}, now
        # Who is in a poll that goes on still is not in another: a poll counts once, succeeded or failed.
        dues = {follower: due for follower, due in self.followers.items() if due != math.inf}
        asked = _Asked(
            {
                follower: [name for name in follower.watch.pending if project_of(name) == self._project_id]
                for follower in dues
            }
        )
        for follower in dues:
            self.followers[follower] = math.inf
        if asked.names:
            await self._ask(asked, dues)

    async def _ask(self, asked: _Asked, dues: Mapping[Follower, float]) -> None:
        client: EarthEngineOperationsClient | None = None
        began = asked_at = time.monotonic()
        loop = asyncio.get_running_loop()

        def tell(answers: Mapping[str, Operation | EarthEngineError]) -> None:
            for follower, its_own in asked.take(answers):
                if follower in self.followers:
                    # Errors only if it was due, as it counts failed polls at its own interval; else it stays due.
                    seen = {name: answer for name, answer in its_own.items() if isinstance(answer, Operation)}
                    counts = dues[follower] <= asked_at
                    follower.learn(its_own if counts else seen)
                    due = self._due(follower, began, asked, client)
                    self._set_due(follower, due if counts or len(seen) == len(its_own) else min(due, dues[follower]))

        def tell_as_they_come(answers: Mapping[str, Operation | EarthEngineError]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(tell, answers)

        try:
            client = await self._connection.client()
            began = time.monotonic()
            observation = await loop.run_in_executor(
                self._executor,
                partial(
                    observe,
                    client,
                    asked.names,
                    pages=self._pages,
                    max_concurrency=asked.max_concurrency,
                    on_answers=tell_as_they_come,  # who waits for an answer that is late keeps no other waiting
                ),
            )
        except Exception as error:  # noqa: BLE001 - a poll that failed, and counts as one
            tell(dict.fromkeys(asked.names, _of_the_poll(error, self._project_id)))
            return
        if any(isinstance(error, CredentialsError | UnauthenticatedError) for error in observation.errors.values()):
            self._connection.distrust(client)

    def _due(
        self, follower: Follower, began: float, asked: _Asked, client: EarthEngineOperationsClient | None
    ) -> float:
        """When a follower needs the next poll."""
        if follower.watch.verdict(now=time.time()) not in {Verdict.WAITING, Verdict.POLLS_FAILED}:
            return math.inf
        if client is None:
            return max(follower.due(began), time.monotonic() + min(follower.poll_interval, _LEAST_SECONDS))
        is_refused = self._pages.get(self._project_id) == math.inf
        requests = len(asked.names) if is_refused else asked.plan(self._pages).requests(PAGE_SIZE, self._pages)
        # Half of the time at most is spent asking, however many requests a poll takes.
        rest = 2 * requests / client.requests_per_second
        return max(follower.due(began), began + rest, time.monotonic() + min(follower.poll_interval, _LEAST_SECONDS))


class _Asked:
    """Who is in a poll, and what each has not been told of yet.

    :param wanted: the operations of each.
    """

    def __init__(self, wanted: Mapping[Follower, Sequence[str]]) -> None:
        self.max_concurrency = max((follower.max_concurrency for follower in wanted), default=1)
        self._answers: dict[Follower, dict[str, Operation | EarthEngineError]] = {follower: {} for follower in wanted}
        self._wanted = {follower: len(set(names)) for follower, names in wanted.items()}
        self._who: defaultdict[str, list[Follower]] = defaultdict(list)
        for follower, names in wanted.items():
            for name in dict.fromkeys(names):
                self._who[name].append(follower)
        self._plan: Plan | None = None

    @property
    def names(self) -> Collection[str]:
        """All operations that are asked for, each once."""
        return self._who.keys()

    def plan(self, pages: Mapping[str, float]) -> Plan:
        """The requests, as they were planned first."""
        if self._plan is None:
            self._plan = plan_requests(self.names, pages=pages)
        return self._plan

    def take(
        self, answers: Mapping[str, Operation | EarthEngineError]
    ) -> Iterator[tuple[Follower, Mapping[str, Operation | EarthEngineError]]]:
        """Take answers; yield who has all of its own now: a poll counts once for each, succeeded or failed."""
        for name, answer in answers.items():
            for follower in self._who[name]:
                its_own = self._answers[follower]
                if name not in its_own:
                    its_own[name] = answer
                    if len(its_own) == self._wanted[follower]:
                        yield follower, its_own


def _of_the_poll(error: Exception, project_id: str) -> EarthEngineError:
    """Make of an error one that says nothing of the operations: a connection that cannot be used now may be later."""
    if isinstance(error, CredentialsError):
        return error
    if isinstance(error, EarthEngineError | AirflowNotFoundException | TimeoutError):
        return CredentialsError(f"the connection cannot be used: {error}", retryable=True)
    log.error("Operations of %s could not be asked for.", project_id, exc_info=error)
    return EarthEngineError(f"an error that was not expected: {type(error).__name__}")
