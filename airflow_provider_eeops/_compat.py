"""The only file that asks which Airflow this is: names that common-compat does not have."""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2.11, and 3.0 to 3.1, where it is not in the SDK
    from airflow.exceptions import AirflowRescheduleException

__all__ = ["TRIGGERS_HAVE_ON_KILL", "AirflowRescheduleException"]

TRIGGERS_HAVE_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3; before, a trigger that is told to go is only cancelled, whoever told it so."""
