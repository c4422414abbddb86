"""Which Airflow is installed, how it is pinned, and which tests it cannot run; asked without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = [
    "AIRFLOW",
    "CANNOT_RUN",
    "HAS_NO_FIELDS",
    "HAS_NO_SDK",
    "IS_AIRFLOW_2",
    "OTHERS_WARNINGS",
    "PINS",
    "READS_NO_BAD_EXTRAS",
    "RESCHEDULE_ASKS_DATABASE",
]

_VERSION: Final = version("apache-airflow")

AIRFLOW: Final = (int(_VERSION.split(".")[0]), int(_VERSION.split(".")[1]))
"""Its major and minor version."""

IS_AIRFLOW_2: Final = AIRFLOW < (3, 0)

_CI = Path(__file__).parents[2] / ".ci"

_OWN = _CI / f"airflow-{_VERSION}.txt"

PINS: Final = _OWN if _OWN.exists() else _CI / "constraints.txt"
"""What it was installed with, as pip's constraints."""

CANNOT_RUN: Final[Mapping[str, str]] = (
    {"example_deadline": "airflow.sdk has Deadline Alerts from 3.2 on"} if AIRFLOW < (3, 2) else {}
) | ({"example_dag_callback": "Airflow 3.0's DAG processor answers for no XCom"} if AIRFLOW == (3, 0) else {})
"""Example DAGs that this Airflow cannot run, and why."""

HAS_NO_SDK: Final = "Airflow 2 has no task SDK"
HAS_NO_FIELDS: Final = "Airflow 2's log lines have no fields"
READS_NO_BAD_EXTRAS: Final = "Airflow 3.0 and 3.1 do not find a connection whose extra is no JSON object"
RESCHEDULE_ASKS_DATABASE: Final = "a sensor of Airflow 2 that reschedules asks the database"

_BAD_EXTRAS = ("ignore:Encountered JSON value in `extra`", "ignore:Encountered non-JSON in `extra`")  # tests' input
_BASE_HOOK = "ignore:Using Connection.get_connection_from_secrets"  # that of this Airflow does
_STANDARD_PROVIDER = "ignore:The `airflow.operators.branch.BaseBranchOperator`"  # which asks this Airflow for it
_TEST_CLIENT = (  # a package of Airflow's imports it
    "ignore:Using `httpx` with `starlette.testclient`",
    "ignore:The anyio.abc.BlockingPortal alias",
)

_BY_AIRFLOW: Final[Mapping[tuple[int, int], tuple[str, ...]]] = {
    (2, 11): _BAD_EXTRAS,
    (3, 0): (_STANDARD_PROVIDER, *_TEST_CLIENT, _BASE_HOOK),
    (3, 1): (_STANDARD_PROVIDER, *_TEST_CLIENT),
}

OTHERS_WARNINGS: Final = _BY_AIRFLOW.get(AIRFLOW, ())
"""Filters, by the beginning of the text, for what Airflow itself imports, or a test asks for; others are errors."""
