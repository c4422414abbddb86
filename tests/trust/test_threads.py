"""One hook and one client used from many threads, copied, closed meanwhile, and from an event loop."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import ConnectionFailedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection")


def add(emulator: Emulator, count: int) -> list[str]:
    """Add operations whose description is their name."""
    names = [f"projects/one/operations/OP{number}" for number in range(count)]
    for number, name in enumerate(names):
        emulator.add_operation(f"OP{number}", description=name)
    return names


def test_many_threads_read_the_connection_and_fetch_a_token_once_and_lose_no_answer(emulator: Emulator) -> None:
    names = add(emulator, 200)
    emulator.latency = 0.005
    together = threading.Barrier(16)

    def get(numbers: range) -> list[str | None]:
        together.wait(60)
        return [hook.get_operation(names[number]).description for number in numbers]

    with (
        patch.object(BaseHook, "get_connection", autospec=True, side_effect=BaseHook.get_connection) as read,
        EarthEngineOperationsHook() as hook,
        ThreadPoolExecutor(16) as pool,
    ):
        found = list(pool.map(get, [range(first, 200, 16) for first in range(16)]))
    assert [seen for first in range(16) for seen in found[first]] == [
        names[number] for first in range(16) for number in range(first, 200, 16)
    ]
    assert read.call_count == 1
    assert (emulator.count("token"), emulator.count("get")) == (1, 200)


def test_a_token_that_many_threads_are_refused_is_fetched_once(emulator: Emulator) -> None:
    names = add(emulator, 64)
    with EarthEngineOperationsHook() as hook, ThreadPoolExecutor(16) as pool:
        assert [seen.description for seen in pool.map(hook.get_operation, names)] == names
        emulator.revoke_tokens()
        assert [seen.description for seen in pool.map(hook.get_operation, names)] == names
    assert emulator.count("token") == 2


def test_closing_while_others_use_it_loses_and_mixes_no_answer(emulator: Emulator) -> None:
    names = add(emulator, 50)
    emulator.latency = 0.002
    done = threading.Event()

    def get(first: int) -> int:
        answered = 0
        for name in names[first:] + names[:first]:
            try:
                assert hook.get_operation(name).description == name
                answered += 1
            except ConnectionFailedError:
                pass
        return answered

    def close() -> int:
        count = 0
        while not done.wait(0.005):
            hook.close()
            count += 1
        return count

    hook = EarthEngineOperationsHook()
    with ThreadPoolExecutor(9) as pool:
        closing = pool.submit(close)
        getting = [pool.submit(get, 6 * number) for number in range(8)]
        finished, hanging = wait(getting, timeout=120)
        done.set()
        assert not hanging
        assert closing.result() > 3
        # Each call is sent again where closing broke it, as where a line breaks.
        assert sum(each.result() for each in finished) > 0.5 * 8 * len(names)
    hook.close()


# Copies


def test_a_hook_is_copied_and_pickled_as_it_was_made(
    emulator: Emulator, server: EmulatorServer, set_connection: SetConnection
) -> None:
    set_connection("other", impersonation_chain=None)
    (name,) = add(emulator, 1)
    hook = EarthEngineOperationsHook("other", project_id="two", impersonation_chain=["robot@one.example"])
    hook.get_operation(name)
    pickled = pickle.dumps(hook)
    for secret in (server.service_account_info()["private_key"].splitlines()[1], "ya29.", "private_key"):
        assert secret.encode() not in pickled
    for other in (copy.copy(hook), copy.deepcopy(hook), pickle.loads(pickled)):
        assert (other.earthengine_conn_id, other.project_id) == ("other", "two")
        assert other._impersonation_chain == ["robot@one.example"]
        assert other._client is None
        assert other._lock is not hook._lock
        assert other.get_operation(name).description == name
        other.close()
    hook.close()


def test_what_a_subclass_adds_is_copied_too() -> None:
    class Own(EarthEngineOperationsHook):
        def __init__(self) -> None:
            super().__init__()
            self.more = 5

    assert copy.deepcopy(Own()).more == 5


def test_a_client_is_not_copied() -> None:
    with EarthEngineOperationsHook() as hook:
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a client holds connections and a token, and is not copied"):
                make(hook.get_conn())


def test_what_airflow_copies_can_be_copied_after_it_ran(emulator: Emulator, context: Any) -> None:
    (name,) = add(emulator, 1)
    operator = EarthEngineCancelOperationsOperator(task_id="cancel", operations=name)
    operator.execute(context)
    sensor = EarthEngineOperationsSensor(
        task_id="wait", operations=name, poke_interval=0.02, timeout=60, deferrable=False
    )
    sensor.execute(context)
    notifier = EarthEngineCancelOperationsNotifier(operations=name)
    notifier(context)
    for each in (operator, sensor, notifier):
        assert copy.deepcopy(each).operations == name
    before = emulator.count("cancel")
    copy.deepcopy(operator).execute(context)
    assert emulator.count("cancel") == before + 1


# The event loop

_watched: set[int] = set()
_blocking: list[str] = []
_BLOCKS = frozenset({"socket.connect", "socket.getaddrinfo", "time.sleep", "subprocess.Popen", "os.system"})


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _BLOCKS and threading.get_ident() in _watched:
        _blocking.append(f"{event} {args!r}")


sys.addaudithook(_audit)  # there is no way to remove it: it looks at watched threads only


@contextmanager
def unblocked() -> Iterator[list[str]]:
    """Note what this thread does that would block an event loop."""
    _blocking.clear()
    _watched.add(threading.get_ident())
    try:
        yield _blocking
    finally:
        _watched.discard(threading.get_ident())


def test_the_detector_detects() -> None:
    with unblocked() as blocking, EarthEngineOperationsHook() as hook:
        hook.get_conn().close()
        assert not blocking
        hook.cancel_operations([])
        with pytest.raises(Exception, match="HTTP 404"):
            hook.get_operation("projects/one/operations/GONE")
        assert any("socket.connect" in each for each in blocking)


def test_a_trigger_blocks_the_event_loop_with_nothing(emulator: Emulator) -> None:
    names = [emulator.add_operation(run_seconds=0.3) for _ in range(20)]

    async def run() -> list[Any]:
        trigger = EarthEngineOperationsTrigger(operations=names, poll_interval=0.05, cancel_on_kill=False)
        return [event async for event in trigger.run()]

    with unblocked() as blocking:
        (event,) = asyncio.run(run())
    assert event.payload["verdict"] == "settled"
    assert blocking == []


def test_a_notifier_blocks_the_event_loop_with_nothing(emulator: Emulator, context: Any) -> None:
    (name,) = add(emulator, 1)
    notifier = EarthEngineCancelOperationsNotifier(operations=name)
    notifier.context = context

    async def wait_for_it() -> None:
        await notifier

    with unblocked() as blocking:
        asyncio.run(wait_for_it())
    assert emulator.cancel_requested(name)
    assert blocking == []


def test_hooks_in_the_event_loop(emulator: Emulator) -> None:
    names = add(emulator, 20)

    async def run() -> list[str | None]:
        hook = EarthEngineOperationsHook()
        await asyncio.gather(*(hook.load() for _ in range(5)))
        seen = await asyncio.gather(*(asyncio.to_thread(hook.get_operation, name) for name in names))
        await asyncio.to_thread(hook.close)
        return [operation.description for operation in seen]

    with unblocked() as blocking:
        assert asyncio.run(run()) == names
    assert blocking == []
    assert emulator.count("token") == 1
