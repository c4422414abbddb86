"""Processes that a test, the demo or ``make standalone`` starts, and stops by their id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ProcessGroup", "emulator", "free_port", "listens", "of_session", "parent_of", "wait_until"]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(what: str, ready: Callable[[], bool], *, seconds: float, every: float = 0.25) -> None:
    """Return when it is ready.

    :raises TimeoutError: naming what was waited for.
    """
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def of_session(session: int) -> list[int]:
    """Ids of the processes of a session, whatever their groups: Airflow puts each task into a group of its own."""
    return [pid for pid in _processes() if (stat := _stat(pid)) and stat[3] == str(session) and stat[0] != "Z"]


def parent_of(pid: int) -> int:
    """Id of a process's parent."""
    stat = _stat(pid)
    if stat is None:
        raise ProcessLookupError(f"no process {pid}")
    return int(stat[1])


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """State, parent, group and session of a process, and what follows; its name may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


class ProcessGroup:
    """A command in a session and group of its own, its output in a file; leaving the block stops all of it.

    :param command: the command.
    :param output: file for its output.
    :param env: its environment; this process's if None.
    """

    def __init__(self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.output = output
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, which is the group's too."""
        assert self._process is not None
        return self._process.pid

    def check_running(self) -> None:
        """Raise if it has ended, with the end of its output."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.command[:4]} ended with {self._process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its output."""
        return self.output.read_text(errors="replace")[-4000:]

    def members(self) -> list[int]:
        """Ids of the processes that it consists of; none once it was stopped."""
        return [] if self._process is None else of_session(self.pid)

    def send(self, number: int) -> None:
        """Send a signal to each of its processes."""
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, *, seconds: float = 20.0) -> None:
        """SIGTERM to the group; SIGKILL to what is left after so many seconds, in whatever group."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        until = time.monotonic() + seconds
        while self._group_lives() and time.monotonic() < until:
            self._process.poll()
            time.sleep(0.1)
        self.send(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def emulator(port: int, *, directory: Path, options: Sequence[str] = ()) -> ProcessGroup:
    """The emulator as its users start it; its service account's key is ``key.json`` in the directory.

    :param port: port on 127.0.0.1.
    :param directory: for the key and the output.
    :param options: more options of its command line.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return ProcessGroup(
        [
            *(sys.executable, "-m", "airflow_provider_eeops.emulator", "--port", str(port)),
            *("--service-account-key", str(directory / "key.json"), *options),
        ],
        output=directory / "emulator.log",
    )
