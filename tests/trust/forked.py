"""What a test of forks does in a process of its own: python -m tests.trust.forked SCENARIO, which prints JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import requests

from airflow_provider_eeops.api import pace
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.settings import Settings

__all__ = ["SCENARIOS"]

_SECONDS = 40


class Child:
    """A forked process that does some work, and says what came of it.

    :param work: returns what can be said in JSON.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(write, json.dumps(work()).encode())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                os.write(write, json.dumps(f"{type(error).__name__}: {error}").encode())
            finally:
                os._exit(0)
        os.close(write)

    def result(self) -> Any:
        """Wait for it; a child that hangs is killed."""
        until, told = time.monotonic() + _SECONDS, b""
        while True:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                os.kill(self._pid, signal.SIGKILL)
                told = b'"it hangs"'
                break
            some = os.read(self._read, 65536)
            if not some:
                break
            told += some
        os.close(self._read)
        os.waitpid(self._pid, 0)
        return json.loads(told)


def _extras() -> dict[str, Any]:
    extras: dict[str, Any] = json.loads(os.environ["EEOPS_TEST_EXTRAS"])
    return extras


def _names() -> list[str]:
    names: list[str] = json.loads(os.environ["EEOPS_TEST_NAMES"])
    return names


def _client() -> EarthEngineOperationsClient:
    settings = Settings.from_extras(_extras())
    return connect(settings, load_credentials(settings).credentials)


def _get_all(client: EarthEngineOperationsClient, *, rounds: int) -> list[str]:
    """Get each; return what was not the answer to what was asked."""
    wrong: list[str] = []

    def get(name: str) -> None:
        try:
            if (seen := client.get_operation(name).description) != name:
                wrong.append(f"{name}: {seen}")
        except Exception as error:  # noqa: BLE001 - is told
            wrong.append(f"{name}: {error}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(get, _names() * rounds))
    return wrong[:5]


def shared_client() -> Any:
    """Parent and children use one client at once, after the parent has opened connections."""
    with _client() as client:
        wrong = _get_all(client, rounds=1)
        busy = threading.Thread(target=lambda: wrong.extend(_get_all(client, rounds=6)))
        busy.start()
        children = [Child(lambda: _get_all(client, rounds=2)) for _ in range(3)]
        of_children = [child.result() for child in children]
        busy.join()
        wrong += _get_all(client, rounds=1)
    return {"parent": wrong, "children": of_children}


def held_locks() -> Any:
    """All locks are held by a thread at the moment of the fork."""
    from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

    held, done = threading.Event(), threading.Event()
    with EarthEngineOperationsHook() as hook:
        client = hook.get_conn()
        transport: Any = client._transport
        (name, *_) = _names()
        hook.get_operation(name)
        locks = (hook._lock, transport._tokens._lock, transport._pace._lock, pace._shared_lock)

        def hold() -> None:
            with ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock)
                held.set()
                done.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        children = [
            Child(lambda: client.get_operation(name).description),
            Child(lambda: hook.get_operation(name).description),
            Child(lambda: EarthEngineOperationsHook().get_operation(name).description),
        ]
        results = [child.result() for child in children]
        done.set()
        holder.join()
        return {"name": name, "children": results, "parent": hook.get_operation(name).description}


def token_under_way() -> Any:
    """A thread waits for a token while the process forks."""
    (name, *_) = _names()
    with _client() as client:
        failed: list[str] = []

        def get() -> None:
            try:
                client.get_operation(name)
            except Exception as error:  # noqa: BLE001 - is told
                failed.append(type(error).__name__)

        waiting = threading.Thread(target=get)
        waiting.start()
        control = f"{_extras()['base_url']}/emulator/requests"
        until = time.monotonic() + 20
        while not requests.get(control, timeout=10).json()["requests"] and time.monotonic() < until:
            time.sleep(0.01)
        child = Child(lambda: client.get_operation(name).description)
        result = child.result()
        waiting.join()
        return {"name": name, "child": result, "parent": failed}


def grandchildren() -> Any:
    """Forks of forks."""
    (name, *_) = _names()
    with _client() as client:
        client.get_operation(name)

        def generation(left: int) -> Any:
            seen = [client.get_operation(name).description]
            return seen + (Child(lambda: generation(left - 1)).result() if left else [])

        return {"name": name, "seen": Child(lambda: generation(3)).result()}


def exits_in_block() -> Any:
    """A process that was forked in a block of ``track_operations`` leaves it, as by ``sys.exit``."""
    from airflow_provider_eeops.tracking import track_operations
    from tests.support.task_instance import FakeTaskInstance
    from tests.support.this_airflow import set_current_context

    context: Any = {"ti": FakeTaskInstance()}
    (name, *_) = _names()

    with set_current_context(context):
        read, write = os.pipe()
        parent = os.getpid()
        try:
            with track_operations() as tracker:
                tracker.add(name)
                pid = os.fork()
                if pid == 0:
                    sys.exit(0)
                os.close(write)
                os.read(read, 1)
                os.waitpid(pid, 0)
                seen = str(tracker.hook.get_operation(name).state)
        finally:
            if os.getpid() != parent:
                os._exit(0)
    return {"state": seen}


def sessions() -> Any:
    """Children of a process with a session of Google's client use it, and begin sessions of their own."""
    import ee

    from airflow_provider_eeops.session import earthengine_session

    def start() -> str:
        table = ee.FeatureCollection([ee.Feature(None, {"a": 1})])
        task = ee.batch.Export.table.toDrive(table, description=f"process {os.getpid()}")
        task.start()
        return str(task.operation_name)

    def of(project_id: str) -> str:
        with earthengine_session(project_id=project_id):
            return start()

    with earthengine_session(project_id="one"):
        children = [Child(work) for work in (start, lambda: of("one"), lambda: of("two"))]
        found = {"parent": start(), "children": [child.result() for child in children]}
        return {**found, "later": start()}


SCENARIOS: dict[str, Callable[[], Any]] = {
    scenario.__name__: scenario
    for scenario in (shared_client, held_locks, token_under_way, grandchildren, exits_in_block, sessions)
}

if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))
