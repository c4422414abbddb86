import gc
import socket
import threading
import warnings

import pytest
import requests

from airflow_provider_eeops.emulator import Emulator, EmulatorServer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_only_loopback(host: str) -> None:
    with pytest.raises(ValueError, match="loopback address only"):
        EmulatorServer(Emulator(), host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_hosts(host: str) -> None:
    try:
        server = EmulatorServer(Emulator(), host=host).start()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with server_stopped(server):
        assert requests.get(f"{server.base_url}/emulator/health", timeout=30).status_code == 200


class server_stopped:  # noqa: N801 - a context manager
    def __init__(self, server: EmulatorServer) -> None:
        self.server = server

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.server.stop()


def test_address_only_when_started() -> None:
    server = EmulatorServer(Emulator())
    with pytest.raises(RuntimeError, match="not been started"):
        _ = server.base_url
    with server, pytest.raises(RuntimeError, match="started already"):
        server.start()


def test_a_taken_port() -> None:
    with EmulatorServer(Emulator()) as server:
        port = int(server.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            EmulatorServer(Emulator(), port=port).start()


def test_stop_leaves_nothing_behind_and_start_works_again() -> None:
    threads = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        emulator = Emulator(require_token=False)
        server = EmulatorServer(emulator)
        for _ in range(3):
            with server, requests.Session() as session:
                url = f"{server.base_url}/v1/{emulator.add_operation()}"
                assert session.get(url, timeout=30).status_code == 200
                port = int(server.base_url.rpartition(":")[2])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
        server.stop()
        gc.collect()
    assert set(threading.enumerate()) == threads


def test_the_port_can_be_used_again_at_once() -> None:
    emulator = Emulator(require_token=False)
    with EmulatorServer(emulator) as server:
        requests.get(f"{server.base_url}/emulator/health", timeout=30)
        port = int(server.base_url.rpartition(":")[2])
    with EmulatorServer(emulator, port=port) as server:
        assert requests.get(f"{server.base_url}/emulator/health", timeout=30).status_code == 200


def test_many_threads_at_once() -> None:
    emulator = Emulator(require_token=False, run_seconds=1e9)
    names = [emulator.add_operation() for _ in range(200)]

    def cancel(part: list[str]) -> None:
        with requests.Session() as session:
            for name in part:
                assert session.post(f"{server.base_url}/v1/{name}:cancel", timeout=30).json() == {}

    with EmulatorServer(emulator) as server:
        workers = [threading.Thread(target=cancel, args=[names[start::8]]) for start in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert emulator.count("cancel") == 200
    assert [record.number for record in emulator.requests] == list(range(200))
    assert all(emulator.cancel_requested(name) for name in names)
