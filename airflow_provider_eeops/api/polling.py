"""Asks for the state of operations, as :mod:`.watching` decides, and waits for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.names import operation_id
from airflow_provider_eeops.api.watching import Verdict, Watch, plan_requests
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError, UnauthenticatedError

__all__ = ["DEFAULT_CONCURRENCY", "Observation", "in_parallel", "observe", "poll", "wait"]

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 8
"""Requests at once; well below the 40 that Earth Engine allows a project."""

T = TypeVar("T")


@dataclass
class Observation:
    """What one poll showed.

    :param operations: what was seen, by name.
    :param errors: what was met instead, by name.
    :param unlistable: projects whose listing was refused.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    errors: dict[str, EarthEngineError] = field(default_factory=dict)
    unlistable: set[str] = field(default_factory=set)

    def take(self, name: str, seen: Operation | EarthEngineError) -> None:
        """Note what was seen or met."""
        if isinstance(seen, Operation):
            self.operations[name] = seen
        else:
            self.errors[name] = seen


def in_parallel(
    names: Collection[str], call: Callable[[str], T], *, max_concurrency: int
) -> Iterator[tuple[str, T | EarthEngineError]]:
    """Call once for each name, some at a time; yield what came of each, in order. One error stops no other.

    Left early (a timeout, a kill), it starts no further calls and does not wait for those under way.

    :param names: operation names.
    :param call: what to do with one; its errors of ours are yielded.
    :param max_concurrency: calls at once.
    """

    def attempt(name: str) -> T | EarthEngineError:
        try:
            return call(name)
        except EarthEngineError as error:
            return error

    executor = ThreadPoolExecutor(max_workers=max_concurrency, thread_name_prefix="eeops")
    try:
        futures: list[tuple[str, Future[T | EarthEngineError]]] = [
            (name, executor.submit(attempt, name)) for name in names
        ]
        for name, future in futures:
            yield name, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def observe(
    client: EarthEngineOperationsClient,
    names: Collection[str],
    *,
    unlistable: Collection[str] = (),
    max_concurrency: int = DEFAULT_CONCURRENCY,
) -> Observation:
    """Ask once for the state of each operation.

    :param client: whom to ask.
    :param names: operation names.
    :param unlistable: projects known to refuse a listing.
    :param max_concurrency: requests at once.
    """
    observation = Observation()
    plan = plan_requests(names, unlistable=unlistable)
    gets = list(plan.gets)
    for project_id, wanted in plan.listings.items():
        try:
            found = _listed(client, project_id, wanted)
        except EarthEngineError as error:
            if error.retryable or isinstance(error, (CredentialsError, UnauthenticatedError)):
                observation.errors.update(dict.fromkeys(wanted, error))
                continue
            # What a listing is refused with says nothing of the operations: a 404 is not theirs.
            log.warning("Operations of %s cannot be listed, each is asked for by itself. %s", project_id, error)
            observation.unlistable.add(project_id)
            found = {}
        observation.operations.update(found)
        gets.extend(name for name in wanted if name not in found)
    for name, seen in in_parallel(gets, client.get_operation, max_concurrency=max_concurrency):
        observation.take(name, seen)
    return observation


def _listed(client: EarthEngineOperationsClient, project_id: str, wanted: Collection[str]) -> dict[str, Operation]:
    """Read pages until all that is wanted was seen, or as many GETs would have done.

    Matched by operation id, as a listing may name the project by its number.
    """
    missing = {operation_id(name): name for name in wanted}
    found: dict[str, Operation] = {}
    for count, page in enumerate(client.list_pages(project_id), start=1):
        for operation in page:
            name = missing.pop(operation.name.partition("/operations/")[2], None)
            if name is not None:
                found[name] = replace(operation, name=name)
        if not missing or count >= len(missing):
            break
    return found


def poll(
    client: EarthEngineOperationsClient, watch: Watch, *, max_concurrency: int = DEFAULT_CONCURRENCY
) -> list[Operation]:
    """Ask once for what a watch still waits for; return the operations in which something changed.

    :param client: whom to ask.
    :param watch: the watch; it takes in what was seen.
    :param max_concurrency: requests at once.
    """
    observation = observe(client, watch.pending, unlistable=watch.unlistable, max_concurrency=max_concurrency)
    watch.unlistable |= observation.unlistable
    return watch.learn(observation.operations, observation.errors)


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
    """
    clock = client.clock
    while True:
        on_poll(poll(client, watch, max_concurrency=max_concurrency))
        verdict = watch.verdict(now=clock.time())
        if verdict is not Verdict.WAITING:
            return verdict
        (sleep or clock.sleep)(watch.wait_before_poll(now=clock.time(), poll_interval=poll_interval))
