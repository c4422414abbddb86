"""A try in a process of its own, which is killed: python -m tests.boundaries.dying FOLDER BOUNDARY SIGNAL PARAMETERS.

What it pushed and stored is in a file of the folder, as Airflow has it elsewhere too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.boundaries.walking import Boundaries, Requests, Task
from tests.support.clock import AdvancingClock

__all__ = ["Shared"]


class Shared:
    """XComs and the task state store in a file, written anew with each change.

    :param file: the file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, task: Task) -> None:
        """Write what the task's tries share."""
        xcoms = [[*at, value] for at, value in task.xcoms.items()]
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"xcoms": xcoms, "values": task.values, "try_number": task.try_number}))
        new.replace(self._file)

    def read(self, task: Task) -> None:
        """Have a task go on with it."""
        shared = json.loads(self._file.read_text())
        task.xcoms.update({(task_id, index, key): value for task_id, index, key, value in shared["xcoms"]})
        task.values.update(shared["values"])
        task.try_number = shared["try_number"]


class _Written(Boundaries):
    """Writes at each boundary, and dies at one."""

    def __init__(self, task: Task, shared: Shared, at: int, how: str) -> None:
        super().__init__(at, die=self._end)
        self._task = task
        self._shared = shared
        self._how = how

    def cross(self, label: str) -> None:
        if label.startswith("after"):
            self._shared.write(self._task)
        super().cross(label)

    def _end(self) -> None:
        if self._how == "exit":
            os._exit(1)
        os.kill(os.getpid(), getattr(signal, self._how))
        time.sleep(60)


def main(folder: str, at: str, how: str, **task: Any) -> None:
    """Make the first try of a task."""
    clock = AdvancingClock()
    with Requests(clock).patched() as requests:
        made = Task(None, clock, requests, **task)  # type: ignore[arg-type] # the emulator is in another process
        shared = Shared(Path(folder) / "shared.json")
        shared.write(made)
        made.run(_Written(made, shared, int(at), how))


if __name__ == "__main__":
    main(*sys.argv[1:4], **json.loads(sys.argv[4]))
