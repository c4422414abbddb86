"""What the triggers of one process share: the client of a connection, and one poll for each project."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_eeops.api.client import PAGE_SIZE, EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.names import project_of
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.polling import OnAnswers, observe
from airflow_provider_eeops.api.watching import Verdict, Watch, plan_requests
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError, UnauthenticatedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

__all__ = ["Follower", "SharedConnection", "follow", "shared_connection"]

log = logging.getLogger(__name__)

_SETTLING_SECONDS = 10.0
"""How long after it came nobody is told of what a poll showed, if its own is not due before: Airflow fails a task that
resumes before its scheduler noticed that it deferred."""

_LAST_LOOK = 2.0
"""Seconds after its deadline that a watch waits for the poll that is due then."""

_REREAD_SECONDS = 300.0
"""How old what was read of a connection may be: a key may be replaced while triggers wait."""

_LEAST_POLL_SECONDS = 10.0
"""What a poll may take besides what its requests need at their pace: the next one asks again."""

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
        # A few threads, as each makes requests from more of its own.
        self._kills = ThreadPoolExecutor(8, thread_name_prefix="eeops-kills")

    async def client(self) -> EarthEngineOperationsClient:
        """Return the client, made on first use, and made anew after some minutes and after credentials were refused."""
        return (await self._current()).client

    async def cancel(self, call: Callable[[EarthEngineOperationsClient], T]) -> T:
        """Call with a client that requests cancellation, in a thread that no poll waits for.

        :param call: what makes the requests.
        """
        # A pace of its own: that of the polls may be held for longer than a kill can wait.
        client = (await self._current()).killing
        context = contextvars.copy_context()  # by which Airflow tells in which task's log a line belongs
        return await asyncio.get_running_loop().run_in_executor(self._kills, context.run, call, client)

    async def _current(self) -> _ReadIn:
        read_in = self._read_in
        if read_in is not None and not self._is_distrusted and time.monotonic() - read_in.at < _REREAD_SECONDS:
            return read_in
        if self._reading is None or self._reading.done():
            self._is_distrusted = False
            # A task of its own: who waits for it may be cancelled, and its error is told to all who wait.
            self._reading = asyncio.get_running_loop().create_task(self._read(), context=contextvars.Context())
        return await asyncio.shield(self._reading)

    async def _read(self) -> _ReadIn:
        hook = EarthEngineOperationsHook(self._key.conn_id, impersonation_chain=self._key.impersonation_chain)
        await hook.load()
        before, self._read_in = self._read_in, await asyncio.to_thread(_ReadIn.of, hook)
        if before is not None:
            if before.hook.settings != hook.settings:
                log.info("Connection %s has changed.", self._key.conn_id)
            await asyncio.to_thread(before.close)
        return self._read_in

    def distrust(self) -> None:
        """Read the connection again before the next request, as its credentials were refused."""
        self._is_distrusted = True

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
            del self._pollers[project_id]
            poller.close()

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
        killing = connect(hook.settings, hook.credentials, pace=Pace(hook.settings.requests_per_second))
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
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._news.set)
        else:
            self._news.set()

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
        """When each needs a poll."""
        self._connection = connection
        self._project_id = project_id
        self._pages: dict[str, float] = {}
        self._pages_at = time.monotonic()
        self._next = math.inf
        self._sooner = asyncio.Event()
        self._is_closed = False
        # A thread of its own: a project that answers late delays no other.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="eeops-poll")
        # A context of its own: that of a trigger would send its log to that trigger's task.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        self._task.add_done_callback(self._ended)

    def add(self, follower: Follower) -> None:
        due = self.followers[follower] = follower.due(time.monotonic())
        if due < self._next:
            self._sooner.set()

    def remove(self, follower: Follower) -> None:
        self.followers.pop(follower, None)

    def close(self) -> None:
        self._is_closed = True
        self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let nobody wait for polls that do not come any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Project %s is not polled any more.", self._project_id, exc_info=error)
            for follower in self.followers:
                follower.fail(error)

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
            await asyncio.sleep(0)  # whatever is wrong, the event loop has its turn
            await self._poll()

    async def _poll(self) -> None:
        began = time.monotonic()
        if began - self._pages_at > _REREAD_SECONDS:  # a listing that was refused may be allowed by now
            self._pages, self._pages_at = {}, began
        asked = _Asked(
            {
                follower: [name for name in follower.watch.pending if project_of(name) == self._project_id]
                for follower in self.followers
            }
        )
        for follower in asked.idle:
            self.followers[follower] = math.inf
        if not asked.names:
            return
        seconds = 0.0

        def tell(answers: Mapping[str, Operation | EarthEngineError]) -> None:
            for follower, its_own in asked.take(answers):
                if follower in self.followers:
                    # Half of the time at most is spent asking, however many requests a poll takes.
                    self.followers[follower] = max(follower.due(began), began + 2 * seconds)
                    follower.learn(its_own)

        try:
            client = await self._connection.client()
            plan = plan_requests(asked.names, pages=self._pages)
            seconds = plan.requests(page_size=PAGE_SIZE, pages=self._pages) / client.requests_per_second
            await self._observe(client, asked, tell, until=began + _LEAST_POLL_SECONDS + 3 * seconds)
        except Exception as error:  # noqa: BLE001 - a poll that failed, and counts as one
            failure = _of_the_poll(error, self._project_id)
            self._connection.distrust()
            tell(dict.fromkeys(asked.names, failure))

    async def _observe(
        self, client: EarthEngineOperationsClient, asked: _Asked, tell: OnAnswers, *, until: float
    ) -> None:
        loop = asyncio.get_running_loop()

        def tell_as_they_come(answers: Mapping[str, Operation | EarthEngineError]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(tell, answers)

        observation = await loop.run_in_executor(
            self._executor,
            partial(
                observe,
                client,
                asked.names,
                pages=self._pages,
                max_concurrency=asked.max_concurrency,
                until=until,
                on_answers=tell_as_they_come,  # who waits for an answer that is late keeps no other waiting
            ),
        )
        self._pages.update(observation.pages)
        if any(isinstance(error, CredentialsError | UnauthenticatedError) for error in observation.errors.values()):
            self._connection.distrust()


class _Asked:
    """Who is in a poll, and what each has not been told of yet.

    :param wanted: the operations of each.
    """

    def __init__(self, wanted: Mapping[Follower, Sequence[str]]) -> None:
        self.idle = [follower for follower, names in wanted.items() if not names]
        self.max_concurrency = max((follower.max_concurrency for follower in wanted), default=1)
        self._answers: dict[Follower, dict[str, Operation | EarthEngineError]] = {follower: {} for follower in wanted}
        self._left = {follower: len(names) for follower, names in wanted.items()}
        self._who: defaultdict[str, list[Follower]] = defaultdict(list)
        for follower, names in wanted.items():
            for name in names:
                self._who[name].append(follower)

    @property
    def names(self) -> Collection[str]:
        """All operations that are asked for, each once."""
        return self._who.keys()

    def take(
        self, answers: Mapping[str, Operation | EarthEngineError]
    ) -> Iterator[tuple[Follower, Mapping[str, Operation | EarthEngineError]]]:
        """Take answers; yield who has all of its own now: a poll counts once for each, succeeded or failed."""
        for name, answer in answers.items():
            for follower in self._who[name]:
                its_own = self._answers[follower]
                if name not in its_own:
                    its_own[name] = answer
                    if len(its_own) == self._left[follower]:
                        yield follower, its_own


def _of_the_poll(error: Exception, project_id: str) -> EarthEngineError:
    """Make of an error one that says nothing of the operations: a connection that cannot be used now may be later."""
    if isinstance(error, CredentialsError):
        return error
    if isinstance(error, EarthEngineError | AirflowNotFoundException):
        return CredentialsError(f"the connection cannot be used: {error}", retryable=True)
    log.error("Operations of %s could not be asked for.", project_id, exc_info=error)
    return EarthEngineError(f"an error that was not expected: {type(error).__name__}")
