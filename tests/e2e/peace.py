"""Runs in peace: one of each DAG, to which nothing happens. None of their operations may ever be touched."""

from __future__ import annotations

from collections.abc import Iterable

from tests.e2e.observing import Observer
from tests.e2e.place import Place
from tests.e2e.starting import add_operation

__all__ = ["start_in_peace", "touched_in_peace"]

PEACE = "peace-"
"""How the descriptions of their operations begin."""

_NOT = ("cleanup", "operator", "mapped", "many")
"""DAGs that cancel by themselves, or that are large."""

_LIMITED = ("timeout", "polls_fail")
"""DAGs whose waits have a limit: they are given operations that end before it."""


def start_in_peace(place: Place, dags: Iterable[str]) -> None:
    """Start a run of each DAG in which a Python task succeeds, and a sensor waits.

    :param place: where.
    :param dags: which.
    """
    for dag in sorted(dags):
        if any(word in dag for word in _NOT):
            continue
        soon = {"run_seconds": 3} if any(word in dag for word in _LIMITED) else {}
        names = [add_operation(place.emulator.base_url, f"{PEACE}{dag}/given/{number}", **soon) for number in range(2)]
        conf = {"row": f"{PEACE}{dag}", "run": "peace", "do": "succeed", "operations": names}
        place.airflow.trigger(dag, conf)


def touched_in_peace(observer: Observer) -> list[str]:
    """Descriptions of their operations that somebody asked to cancel."""
    return [op["description"] for op in observer.operations(PEACE) if observer.asked("cancel", op["name"])]
