"""The only file that asks which Airflow this is: names that common-compat does not have."""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2.11, and 3.0 to 3.1, where it is not in the SDK
    from airflow.exceptions import AirflowRescheduleException

__all__ = ["AirflowRescheduleException"]
