"""Callbacks whose input is bad, in the DAG processor, where one that hangs keeps its file's DAGs from being parsed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

from tests.e2e.observing import NotYetError
from tests.e2e.place import Place
from tests.support.versions import IS_AIRFLOW_2

__all__ = ["BAD_INPUT_DAGS", "BadInput", "try_bad_input"]

BAD_INPUT_DAGS = (
    *(() if IS_AIRFLOW_2 else ("bad_deadline",)),
    "bad_neighbour",
    "bad_template_dag_callback",
    "bad_xcom_dag_callback",
    "bad_xcom_task_callback",
)

_PARSED = 150.0
"""Seconds in which the file is parsed again, which it is every 20 s on a machine that does nothing else."""


@dataclass
class BadInput:
    """What came of them.

    :param ended: state of each DAG's run.
    :param parsed: DAGs of the file that were parsed again after the callbacks.
    :param log: what the callbacks logged, in the DAG processor and in the workers.
    :param killed: whether Airflow killed a process of the DAG processor, as it does with one that hangs for 50 s.
    :param problems: what did not come in time.
    """

    ended: dict[str, str] = field(default_factory=dict)
    parsed: set[str] = field(default_factory=set)
    log: str = ""
    killed: bool = False
    problems: list[str] = field(default_factory=list)


def try_bad_input(place: Place) -> BadInput:
    """Run each DAG of the file to its failure, and wait until the file is parsed again."""
    found = BadInput()
    try:
        for dag in BAD_INPUT_DAGS:
            place.require_dag(dag)
        runs = {dag: place.airflow.trigger(dag) for dag in BAD_INPUT_DAGS}
        for dag, run_id in runs.items():
            place.observer.wait(f"the end of {dag}", partial(_failed, place, dag, run_id), seconds=120)
            found.ended[dag] = "failed"
        over = time.time()
        place.observer.wait("the callbacks' log", lambda: _called(place), seconds=30)
        place.observer.wait(
            "the file to be parsed again", lambda: _parsed_since(place, over) >= set(BAD_INPUT_DAGS), seconds=_PARSED
        )
        found.parsed = _parsed_since(place, over)
        found.log = place.logs.outside_tasks() + "".join(place.logs.of_run(*run) for run in runs.items())
    except NotYetError as error:
        found.problems.append(str(error))
    outputs = place.airflow.home.glob("dag-processor-*.log")
    found.killed = any("illing it" in output.read_text(errors="replace") for output in outputs)
    return found


def _failed(place: Place, dag: str, run_id: str) -> bool:
    run = place.observer.run(dag, run_id)
    return run is not None and run.state == "failed"


def _called(place: Place) -> bool:
    return "rendered to nothing" in place.logs.outside_tasks()


def _parsed_since(place: Place, moment: float) -> set[str]:
    return {dag for dag, parsed in place.database.parsed().items() if parsed > moment and dag in BAD_INPUT_DAGS}
