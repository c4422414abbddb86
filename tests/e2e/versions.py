"""What the Airflow that is installed cannot run: rows by key, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tests.e2e.matrix import HEARTBEAT
from tests.support.versions import IS_AIRFLOW_2

__all__ = ["ALONE", "AT_ONCE", "CANNOT_RUN", "LATER", "SECONDS", "TOLD", "TOLD_BY"]

TOLD = HEARTBEAT * (2 if IS_AIRFLOW_2 else 1)
"""Seconds in which a worker learns that its task was ended."""

TOLD_BY = (
    f"the second heartbeat, of {HEARTBEAT} s, tells the worker"
    if IS_AIRFLOW_2
    else f"a heartbeat of {HEARTBEAT} s tells the worker"
)

LATER = 10 if IS_AIRFLOW_2 else 0
"""Seconds by which a task of Airflow 2 starts later: it imports Airflow anew."""

ALONE = ("18 task",) if IS_AIRFLOW_2 else ()
"""Rows that load the machine so that others beside it would be late."""

AT_ONCE = 4 if IS_AIRFLOW_2 else 7
"""Rows side by side: a process of Airflow 2 takes longer to start."""


SECONDS = 1100 if IS_AIRFLOW_2 else 900
"""What the suite may take."""

_NO_API_SERVER = "a task of Airflow 2 asks the database: there is no API server that could be down"

CANNOT_RUN: Mapping[str, str] = (
    {
        "17 task": "Airflow 2 has no Deadline Alerts",
        "17 @task.earthengine": "Airflow 2 has no Deadline Alerts",
        "19a task": _NO_API_SERVER,
        "19a sensor": _NO_API_SERVER,
        "19a @task.earthengine": _NO_API_SERVER,
        "19b task": _NO_API_SERVER,
    }
    if IS_AIRFLOW_2
    else {}
)
