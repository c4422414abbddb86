"""Processes that are measured: children that print one line of JSON, and CPU and memory of a tree of processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["MIB", "ROOT", "Usage", "cpu_of_this_process", "json_of", "progress", "rss_of_this_process", "run", "tree"]

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024

_BEGAN = time.monotonic()


def progress(text: str) -> None:
    """Print one line, with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


@dataclass(frozen=True)
class Usage:
    """What a tree of processes has used.

    :param cpu: seconds of user and system time so far.
    :param cpu_below: those of all but the process at the top.
    :param pss: bytes of memory now, shared pages divided among those who share them.
    :param processes: how many there are.
    """

    cpu: float
    cpu_below: float
    pss: int
    processes: int


def tree(pid: int) -> Usage:
    """Measure a process and all below it."""
    cpu, below, pss, count = 0.0, 0.0, 0, 0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            times, memory = process.cpu_times(), process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        cpu += times.user + times.system
        below += times.user + times.system if process != root else 0
        pss += memory.pss
        count += 1
    return Usage(cpu, below, pss, count)


def cpu_of_this_process() -> float:
    """Seconds of user and system time, of all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_of_this_process(*, peak: bool = False) -> int:
    """Bytes of memory, now or at most so far."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(psutil.Process().memory_info().rss)


def run(
    command: Sequence[str],
    *,
    seconds: float,
    env: Mapping[str, str] | None = None,
    given: str | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command to its end; return what it printed.

    :param command: the command.
    :param seconds: how long it may take.
    :param env: variables of its environment besides this process's.
    :param given: its standard input.
    :param cwd: its folder.
    :raises RuntimeError: it failed.
    """
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        input=given or "",
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=cwd or ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"{list(command)[:6]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def json_of(module: str, *arguments: str, seconds: float, **options: Any) -> Any:
    """Run a module of this package in a process of its own; return the JSON that its last line is."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    return json.loads(run(command, seconds=seconds, **options).splitlines()[-1])
