"""What the processes of the triggerer use."""

from __future__ import annotations

from typing import Any

import psutil

__all__ = ["usage"]

MIB = 1024 * 1024


def usage(pid: int) -> dict[str, float]:
    """Measure the process that runs the triggers by itself, and all together.

    :param pid: of the triggerer.
    """
    supervisor = psutil.Process(pid)
    processes = [supervisor, *supervisor.children(recursive=True)]
    found = [_of(process) for process in processes]
    runner = max(found[1:], key=lambda each: each["threads"], default=dict.fromkeys(found[0], 0.0))
    own = {f"runner {what}": value for what, value in runner.items()}
    return own | {f"all {what}": sum(each[what] for each in found) for what in found[0]}


def _of(process: Any) -> dict[str, float]:
    try:
        with process.oneshot():
            memory = process.memory_full_info()
            return {
                "RSS": memory.rss / MIB,
                "PSS": memory.pss / MIB,
                "USS": memory.uss / MIB,
                "sockets": float(len(process.net_connections(kind="inet"))),
                "descriptors": float(process.num_fds() - _trigger_logs(process)),
                "threads": float(process.num_threads()),
            }
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return dict.fromkeys(("RSS", "PSS", "USS", "sockets", "descriptors", "threads"), 0.0)


def _trigger_logs(process: Any) -> int:
    """How many files it has open because so many triggers run: Airflow keeps the log of each open until it ends."""
    return sum(".log.trigger." in file.path for file in process.open_files())
