"""An emulator in a process of its own, for many operations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from tests.support.processes import ProcessGroup, emulator, wait_until

__all__ = ["LATENCY", "PROJECT", "ManyOperations", "emulating"]

LATENCY = 0.1
PROJECT = "emulator-project"

_ADDRESS = re.compile(r"emulator at (http://\S+?),")


class ManyOperations:
    """The control API of an emulator, for thousands of operations and requests.

    :param process: the emulator.
    :param base_url: its address.
    :param key_path: its service account's key.
    """

    def __init__(self, process: ProcessGroup, base_url: str, key_path: Path) -> None:
        self.process = process
        self.base_url = base_url
        self.key_path = key_path
        self._session = requests.Session()
        self._session.trust_env = False

    def connection_extras(self, **more: Any) -> dict[str, Any]:
        """Extras of a connection to it."""
        return {"base_url": self.base_url, "project": PROJECT, "key_path": str(self.key_path), **more}

    def add(self, count: int, **parameters: Any) -> list[str]:
        """Add so many operations; return their names."""
        return list(self._ask("POST", "operations", json={"count": count, **parameters})["names"])

    def clear(self) -> None:
        """Forget all operations."""
        self._ask("DELETE", "operations")

    def ended_at(self) -> dict[str, float]:
        """When each operation ended that has, seconds since the epoch."""
        found = self._ask("GET", "operations")["operations"]
        return {
            each["name"]: datetime.fromisoformat(each["endTime"]).timestamp() for each in found if "endTime" in each
        }

    def mark(self) -> int:
        """The number of the next request."""
        return int(self._ask("GET", "counts")["next"])

    def counts_since(self, mark: int) -> Mapping[str, Mapping[str, int]]:
        """Requests from a number on, by method and status."""
        counts: Mapping[str, Mapping[str, int]] = self._ask("GET", f"counts?since={mark}")["counts"]
        return counts

    def requests_since(self, mark: int) -> list[dict[str, Any]]:
        """The request log from a number on."""
        return list(self._ask("GET", f"requests?since={mark}")["requests"])

    def _ask(self, verb: str, path: str, **arguments: Any) -> Any:
        answer = self._session.request(verb, f"{self.base_url}/emulator/{path}", timeout=60, **arguments)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def emulating(folder: Path, *options: str) -> Iterator[ManyOperations]:
    """Start an emulator with the latency of all benchmarks; stop it when the block ends.

    :param folder: for its key and its output.
    :param options: more options of its command line.
    """
    fixed = ("--latency", str(LATENCY), "--pending-seconds", "0", "--run-seconds", "inf", "--queue-limit", "100000")
    with emulator(0, directory=folder, options=[*fixed, *options]) as process:
        wait_until("the emulator", lambda: _is_up(process), seconds=30)
        found = _ADDRESS.search(process.tail())
        assert found is not None
        yield ManyOperations(process, found[1], folder / "key.json")


def _is_up(process: ProcessGroup) -> bool:
    process.check_running()
    return _ADDRESS.search(process.tail()) is not None
