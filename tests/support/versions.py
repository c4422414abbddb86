"""Which Airflow is installed, how it is pinned, and which tests it cannot run; asked without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = ["AIRFLOW", "CANNOT_RUN", "IS_AIRFLOW_2", "PINS"]

_VERSION: Final = version("apache-airflow")

AIRFLOW: Final = tuple(int(part) for part in _VERSION.split(".")[:2])
"""Its major and minor version."""

IS_AIRFLOW_2: Final = AIRFLOW < (3, 0)

_CI = Path(__file__).parents[2] / ".ci"

_OWN = _CI / f"airflow-{_VERSION}.txt"

PINS: Final = _OWN if _OWN.exists() else _CI / "constraints.txt"
"""What it was installed with, as pip's constraints."""

CANNOT_RUN: Final[Mapping[str, str]] = {
    example: reason
    for example, (since, reason) in {
        "example_deadline": ((3, 2), "airflow.sdk has Deadline Alerts from 3.2 on"),
    }.items()
    if since > AIRFLOW
}
"""Example DAGs that need a later Airflow, and why."""
