"""Cancels or gets operations in a process of its own, ours or with Google's client; prints the figures as JSON.

``python -m tests.benchmarks.clients KIND``, with what to do as JSON on the standard input. KIND is one of

``api``      ours: ``cancel_operations`` without a look afterwards, as the threads around Google's client have none
``hook``     ours, as the operator does it: the connection's pace and concurrency unless given, with a look afterwards
``observe``  ours: one poll of all operations
``threads``  ``ee.data.cancelOperation`` in threads; one thread is the plain loop
``gets``     ``ee.data.getOperation`` in threads
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.measuring import cpu_of_this_process, rss_of_this_process

__all__ = ["main"]

# One call that is not measured opens the connection and has a token fetched; then the call that is.
Work = tuple[Callable[[], object], Callable[[], Iterable[str]]]


def _api(given: dict[str, Any], names: list[str]) -> Work:
    from airflow_provider_eeops.api.cancelling import cancel_operations

    client = _client(given)

    def cancel() -> Iterable[str]:
        report = cancel_operations(client, names, max_concurrency=given["concurrency"], look_after=False)
        return [result.outcome.value for result in report.results]

    return lambda: client.get_operation(names[0]), cancel


def _observe(given: dict[str, Any], names: list[str]) -> Work:
    from airflow_provider_eeops.api.polling import poll
    from airflow_provider_eeops.api.watching import Watch

    client = _client(given)

    def ask() -> Iterable[str]:
        watch = Watch(tuple(names))
        poll(client, watch)
        return [result.outcome.value for result in watch.report().results]

    return lambda: client.get_operation(names[0]), ask


def _hook(given: dict[str, Any], names: list[str]) -> Work:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(dir=given["folder"])  # read when Airflow is imported
    os.environ["AIRFLOW_CONN_BENCHMARK"] = json.dumps({"conn_type": "earthengine", "extra": given["extras"]})
    from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

    hook = EarthEngineOperationsHook("benchmark")
    more = {"max_concurrency": given["concurrency"]} if given.get("concurrency") else {}

    def cancel() -> Iterable[str]:
        return [result.outcome.value for result in hook.cancel_operations(names, **more).results]

    return lambda: hook.get_operation(names[0]), cancel


def _threads(given: dict[str, Any], names: list[str]) -> Work:
    ee = _initialized(given)
    return lambda: ee.data.getOperation(names[0]), lambda: _in_threads(ee.data.cancelOperation, names, given)


def _gets(given: dict[str, Any], names: list[str]) -> Work:
    ee = _initialized(given)
    return lambda: ee.data.getOperation(names[0]), lambda: _in_threads(ee.data.getOperation, names, given)


def _in_threads(call: Callable[[str], object], names: list[str], given: dict[str, Any]) -> list[str]:
    def outcome(name: str) -> str:
        call(name)
        return "answered"

    if given["concurrency"] == 1:
        return [outcome(name) for name in names]
    with ThreadPoolExecutor(given["concurrency"]) as executor:
        return list(executor.map(outcome, names))


def _client(given: dict[str, Any]) -> Any:
    from airflow_provider_eeops.api.client import connect
    from airflow_provider_eeops.api.credentials import load_credentials
    from airflow_provider_eeops.api.settings import Settings

    settings = Settings.from_extras(given["extras"])
    return connect(settings, load_credentials(settings).credentials)


def _initialized(given: dict[str, Any]) -> Any:
    import ee
    from google.oauth2 import service_account

    extras = given["extras"]
    credentials = service_account.Credentials.from_service_account_file(
        extras["key_path"], scopes=["https://www.googleapis.com/auth/earthengine"]
    )
    ee.Initialize(credentials, url=extras["base_url"], project=extras["project"])
    return ee


KINDS = {"api": _api, "hook": _hook, "observe": _observe, "threads": _threads, "gets": _gets}


def main() -> int:
    """Do what is asked for; print seconds, CPU seconds, bytes of memory and what came of the operations."""
    given = json.load(sys.stdin)
    warm, work = KINDS[sys.argv[1]](given, given["names"])
    warm()
    memory, cpu, began = rss_of_this_process(), cpu_of_this_process(), time.perf_counter()
    outcomes = Counter(work())
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu": cpu_of_this_process() - cpu,
        "memory": max(0, rss_of_this_process(peak=True) - memory),
        "outcomes": outcomes,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
