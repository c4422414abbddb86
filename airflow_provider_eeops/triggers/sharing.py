"""What the triggers of one process share: the client of a connection, and one poll for each project."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.names import project_of
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, Observation, observe
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError, UnauthenticatedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

__all__ = ["Follower", "SharedConnection", "follow", "shared_connection"]

log = logging.getLogger(__name__)

_SETTLING_SECONDS = 10.0
"""How long nobody is told of what others see, if its own poll is not due before: Airflow fails a task that resumes
before its scheduler noticed that it deferred."""

_LAST_LOOK = 2.0
"""Seconds after its deadline that a watch waits for the poll that is due then."""

_REREAD_SECONDS = 300.0
"""How old what was read of a connection may be: a key may be replaced while triggers wait."""

_AT_ONCE = 200
"""Followers that are told of a poll before the event loop has its turn."""

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
    for project_id in project_ids:
        connection.poller(project_id).add(follower)
    try:
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
        self._hook: EarthEngineOperationsHook | None = None
        self._client: EarthEngineOperationsClient | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._executor = ThreadPoolExecutor(DEFAULT_CONCURRENCY, thread_name_prefix="eeops-shared")

    async def client(self) -> EarthEngineOperationsClient:
        """Return the client, made on first use, and made anew if the connection has changed."""
        async with self._reading:
            if self._client is None or time.monotonic() - self._read_at > _REREAD_SECONDS:
                self._client = await self._read()
            return self._client

    async def _read(self) -> EarthEngineOperationsClient:
        hook = EarthEngineOperationsHook(self._key.conn_id, impersonation_chain=self._key.impersonation_chain)
        await hook.load()
        self._read_at = time.monotonic()
        if self._hook is None or self._hook.settings != hook.settings:
            if self._hook is not None:
                log.info("Connection %s has changed.", self._key.conn_id)
                self._hook.close()
            self._hook = hook
        return await self.run(self._hook.get_conn)

    def distrust(self) -> None:
        """Read the connection again before the next poll, as its credentials were refused."""
        self._read_at = float("-inf")

    async def run(self, function: Callable[[], T]) -> T:
        """Call in a thread that no poll waits for.

        :param function: what to call.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

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
        poller = self._pollers[project_id]
        poller.remove(follower)
        if not poller.followers:
            del self._pollers[project_id]
            poller.close()

    def close(self) -> None:
        """Close the client's connections. Requests under way end by themselves."""
        self._executor.shutdown(wait=False)
        if self._hook is not None:
            self._hook.close()


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
        self.takes_part_at = time.monotonic() + min(poll_interval, _SETTLING_SECONDS)
        self._changed: list[Operation] = []
        self._failure: Exception | None = None
        self._news = asyncio.Event()

    def due(self, after: float) -> float:
        """The moment of ``time.monotonic()`` at which it needs a poll, after one at another moment."""
        return after + self.watch.wait_before_poll(
            now=time.time() + after - time.monotonic(), poll_interval=self.poll_interval
        )

    def learn(self, names: Iterable[str], observation: Observation) -> None:
        """Take in what a poll showed of some of its operations."""
        operations = {name: observation.operations[name] for name in names if name in observation.operations}
        errors = {name: observation.errors[name] for name in names if name in observation.errors}
        try:
            changed = self.watch.learn(operations, errors)
        except Exception as error:  # noqa: BLE001 - it is this one's, and no other's
            self._failure = error
            self._news.set()
            return
        if changed or errors or self.watch.verdict(now=time.time()) is not Verdict.WAITING:
            self._changed.extend(changed)
            self._news.set()

    async def news(self) -> list[Operation] | None:
        """Wait for a poll that showed a change, failed or ended the watch; return the operations that changed.

        None if the time of the watch was over before there was one.
        """
        deadline = self.watch.deadline
        seconds = None if deadline is None else max(0.0, deadline - time.time()) + _LAST_LOOK
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
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
        self._next = float("inf")
        self._sooner = asyncio.Event()
        # A thread of its own: a project that answers late delays no other.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="eeops-poll")
        # A context of its own: that of a trigger would send its log to that trigger's task.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    def add(self, follower: Follower) -> None:
        due = self.followers[follower] = follower.due(time.monotonic())
        if due < self._next:
            self._sooner.set()

    def remove(self, follower: Follower) -> None:
        self.followers.pop(follower, None)

    def close(self) -> None:
        self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            self._next = min(self.followers.values(), default=float("inf"))
            self._sooner.clear()
            seconds = self._next - time.monotonic()
            if seconds > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._sooner.wait(), min(seconds, _REREAD_SECONDS))
                continue
            await self._poll()

    async def _poll(self) -> None:
        began = time.monotonic()
        asked = {
            follower: [name for name in follower.watch.pending if project_of(name) == self._project_id]
            for follower, due in self.followers.items()
            if due <= began or follower.takes_part_at <= began
        }
        observation = await self._observe(
            list(dict.fromkeys(name for names in asked.values() for name in names)),
            max_concurrency=max(follower.max_concurrency for follower in asked),
        )
        ended = time.monotonic()
        # Half of the time at most is spent asking, however long an answer takes.
        rest = 2 * (ended - began)
        for count, (follower, names) in enumerate(asked.items(), start=1):
            if follower in self.followers:
                self.followers[follower] = max(follower.due(began), began + rest)
                follower.learn(names, observation)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _observe(self, names: Sequence[str], *, max_concurrency: int) -> Observation:
        if not names:
            return Observation()
        try:
            client = await self._connection.client()
            ask = partial(observe, client, names, pages=self._pages, max_concurrency=max_concurrency)
            observation = await asyncio.get_running_loop().run_in_executor(self._executor, ask)
        except EarthEngineError as error:
            observation = Observation(errors=dict.fromkeys(names, error))
        except Exception as error:
            log.exception("Operations of %s could not be asked for.", self._project_id)
            unexpected = EarthEngineError(f"an error that was not expected: {type(error).__name__}")
            observation = Observation(errors=dict.fromkeys(names, unexpected))
        self._pages.update(observation.pages)
        if any(isinstance(error, CredentialsError | UnauthenticatedError) for error in observation.errors.values()):
            self._connection.distrust()
        return observation
