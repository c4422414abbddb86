import threading
import time

import requests

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.emulation import Served


def test_wait_lasts_until_the_operation_is_done() -> None:
    emulator = Emulator(pending_seconds=0, run_seconds=0.3, require_token=False)
    with EmulatorServer(emulator) as server:
        name = emulator.add_operation()
        began = time.monotonic()
        answer = requests.post(f"{server.base_url}/v1/{name}:wait", json={"timeout": "20s"}, timeout=30)
    assert answer.json()["metadata"]["state"] == "SUCCEEDED"
    assert 0.2 < time.monotonic() - began < 5


def test_wait_ends_when_the_operation_is_removed(served: Served) -> None:
    name = served.emulator.add_operation()
    timer = threading.Timer(0.2, served.emulator.remove_operation, [name])
    timer.start()
    assert served.post(f"{name}:wait", {"timeout": "20s"}).status_code == 404
    timer.join()


def test_wait_ends_when_the_server_stops(served: Served) -> None:
    name = served.emulator.add_operation()
    timer = threading.Timer(0.2, served.server.stop)
    timer.start()
    began = time.monotonic()
    answer = served.post(f"{name}:wait", {"timeout": "20s"})
    timer.join()
    assert answer.json()["metadata"]["state"] == "PENDING"
    assert time.monotonic() - began < 5
