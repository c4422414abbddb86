"""Where Airflow's logs say what became of an operation: that place is who asked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

__all__ = ["Logs"]

_OUTCOME = r": (cancel requested|cancelled|finished first|not confirmed|not found|permission denied|unsupported|error)"
_TASK_LOG = re.compile(
    r"task_id=(?P<task>[^/]+)/(?:map_index=\d+/)?attempt=(?P<attempt>\d+)\.log(?P<trigger>\.trigger)?"
)


class Logs:
    """The logs of one Airflow.

    :param home: AIRFLOW_HOME.
    """

    callbacks = "dag_processor"
    """How the folder begins in which the DAG processor logs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._root = home / "logs"

    def of_run(self, dag_id: str, run_id: str) -> str:
        """The text of all logs of a run."""
        folder = self._root / f"dag_id={dag_id}" / f"run_id={run_id}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log*")))

    def has_trigger(self, dag_id: str, run_id: str, job: int) -> bool:
        """Whether a triggerer's job has logged for a run."""
        folder = self._root / f"dag_id={dag_id}" / f"run_id={run_id}"
        return any(folder.rglob(f"*.log.trigger.{job}.log"))

    def seen_by_trigger(self, dag_id: str, run_id: str, names: Sequence[str], *, since: float) -> bool:
        """Whether a trigger has logged the state of each of these operations, in a log that was written since then."""
        folder = self._root / f"dag_id={dag_id}" / f"run_id={run_id}"
        texts = [path.read_text(errors="replace") for path in folder.rglob("*.log.trigger.*") if _changed(path) > since]
        return any(all(f"{name}: " in text for name in names) for text in texts)

    def executing_since(self, dag_id: str, run_id: str) -> float | None:
        """When the owner's first try had parsed its DAG file; before 3.3, when it logged for the first time after."""
        log = self._root / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=work" / "attempt=1.log"
        lines = log.read_text(errors="replace").splitlines()
        parsed = [line for line in lines if "Worker startup parse complete" in line]
        after = [line for before, line in pairwise(lines) if "Filling up the DagBag" in before]
        for line in [*parsed, *after]:
            return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
        return None

    def errors(self, dag_id: str, run_id: str, names: Sequence[str]) -> set[str]:
        """Names that the owner's first try, or its trigger, logged at ERROR."""
        folder = self._root / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=work"
        lines = [
            line for path in folder.rglob("attempt=1.log*") for line in path.read_text(errors="replace").splitlines()
        ]
        lines += [line for path in self._triggerers() for line in path.read_text(errors="replace").splitlines()]
        return {name for name in names for line in self.told_at_error(lines) if f"{name}: error" in line}

    def told_at_error(self, lines: Sequence[str]) -> list[str]:
        """Those of the lines that were logged at ERROR."""
        return [line for line in lines if '"level":"error"' in line or "[error " in line]

    def outside_tasks(self) -> str:
        """The text of the logs of callbacks."""
        return "\n".join(path.read_text(errors="replace") for path in self._outside_tasks())

    def who(self, dag_id: str, run_id: str, names: Sequence[str]) -> dict[str, set[str]]:
        """Names whose outcome a log has, by the place of the log, in order of time."""
        folder = self._root / f"dag_id={dag_id}" / f"run_id={run_id}"
        found: dict[str, set[str]] = {}
        # SQLite gives the id of a trigger that has gone to the next one, by which Airflow chooses the log of a line.
        of_others = [path for path in self._root.rglob("*.log.trigger.*") if not path.is_relative_to(folder)]
        for path in sorted([*folder.rglob("*.log*"), *self._outside_tasks(), *of_others], key=_changed):
            text = path.read_text(errors="replace")
            told = {name for name in names if re.search(re.escape(name) + _OUTCOME, text)}
            if told:
                place = "triggerer" if path in of_others else self._place(path)
                found.setdefault(place, set()).update(told)
        return found

    def _outside_tasks(self) -> list[Path]:
        top = len(self._root.parts)
        found = [path for path in self._root.rglob("*.log*") if not path.parts[top].startswith("dag_id=")]
        return [*found, *self._triggerers()]

    def _triggerers(self) -> list[Path]:
        """Where a triggerer writes what belongs to no trigger that it still has."""
        return list(self._home.glob("triggerer-*.log"))

    def _place(self, path: Path) -> str:
        if path.parent == self._home:
            return "triggerer"
        within = path.relative_to(self._root).as_posix()
        if (task := _TASK_LOG.search(within)) is None:
            return "DAG processor" if within.startswith(self.callbacks) else "triggerer"
        where = "trigger" if task["trigger"] else "worker"
        owner = (task["task"], task["attempt"]) == ("work", "1")
        return where if owner else f"{where} ({task['task']}, try {task['attempt']})"


def _changed(path: Path) -> float:
    return path.stat().st_mtime
