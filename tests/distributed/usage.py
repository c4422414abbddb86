"""What processes use, as the kernel counts it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["usage_of"]

_TICKS = os.sysconf("SC_CLK_TCK")


def usage_of(pids: Iterable[int]) -> dict[str, float]:
    """Return seconds of CPU, with those of children that have ended, and MiB of memory, what is shared divided.

    :param pids: ids of the processes.
    """
    seconds = mebibytes = 0.0
    for pid in pids:
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, stat[11:15])) / _TICKS
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            mebibytes += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024
    return {"cpu_seconds": round(seconds, 1), "mebibytes": round(mebibytes)}
