"""Runs in peace: one of each DAG, to which nothing happens. None of their operations may ever be touched."""

from __future__ import annotations

import threading

from tests.e2e.cases import Case
from tests.e2e.observing import Observer
from tests.e2e.place import Place
from tests.e2e.starting import add_operation

__all__ = ["InPeace", "touched_in_peace"]

PEACE = "peace-"
"""How the descriptions of their operations begin."""

_NOT = ("cleanup", "operator", "mapped", "many")
"""DAGs that cancel by themselves, or that are large."""

_LIMITED = ("timeout", "polls_fail")
"""DAGs whose waits have a limit: they are given operations that end before it."""


class InPeace:
    """Starts them.

    :param place: where.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def start_beside(self, case: Case) -> None:
        """Start a run of the case's DAG, if there is none yet, in which a Python task succeeds, and a sensor waits."""
        dag = case.row.dag
        self._place.require_dag(dag)
        with self._lock:
            if dag in self._begun or any(word in dag for word in _NOT) or _outlives_its_limit(dag):
                return
            self._begun.add(dag)
        soon = {"run_seconds": 3} if any(word in dag for word in _LIMITED) else {}
        url = self._place.emulator.base_url
        names = [add_operation(url, f"{PEACE}{dag}/given/{number}", **soon) for number in range(2)]
        conf = {"row": f"{PEACE}{dag}", "run": "peace", "do": "succeed", "operations": names}
        self._place.airflow.trigger(dag, conf)


def _outlives_its_limit(dag: str) -> bool:
    """Whether it starts exports, which take their time, and has a limit."""
    return dag.startswith("exporting") and any(word in dag for word in (*_LIMITED, "deadline"))


def touched_in_peace(observer: Observer) -> list[str]:
    """Descriptions of their operations that somebody asked to cancel."""
    return [op["description"] for op in observer.operations(PEACE) if observer.asked("cancel", op["name"])]
