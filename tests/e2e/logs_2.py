"""The logs of an Airflow 2: text, with the DAG processor's in a folder that is named after the scheduler."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from tests.e2e.logs import Logs

__all__ = ["Airflow2Logs"]

_ENTRY = re.compile(r"\[(?P<time>\d{4}-\d\d-\d\dT[^\]]+)\] \{[^}]+\} (?P<level>[A-Z]+) - ")


class Airflow2Logs(Logs):
    """The logs of one Airflow 2.

    :param home: AIRFLOW_HOME.
    """

    callbacks = "scheduler"

    def executing_since(self, dag_id: str, run_id: str) -> float | None:
        """When the owner's first try began to execute."""
        log = self._root / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=work" / "attempt=1.log"
        for line in log.read_text(errors="replace").splitlines():
            if "Exporting env vars" in line and (entry := _ENTRY.match(line)):
                return datetime.fromisoformat(entry["time"]).timestamp()
        return None

    def told_at_error(self, lines: Sequence[str]) -> list[str]:
        """Those of the lines that were logged at ERROR, a traceback's too: each is a line of its own here."""
        found: list[str] = []
        at_error = False
        for line in lines:
            if entry := _ENTRY.match(line):
                at_error = entry["level"] == "ERROR"
            if at_error:
                found.append(line)
        return found
