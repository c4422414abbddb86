"""Owner: an operator of the user's own, which starts operations and defers to our trigger."""

from __future__ import annotations

import time
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, Context

from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.e2e.starting import COUNT, start


class StartAndWait(BaseOperator):
    """Does as docs/trigger.md says: pushes what it owns, and defers."""

    def execute(self, context: Context) -> None:
        """Start, record, and wait in the triggerer."""
        if context["ti"].try_number > 1:
            time.sleep(5)  # so that the old trigger has to look more than once whose its operations are
        names = [start(number) for number in range(COUNT)]
        context["ti"].xcom_push(key="earthengine_operations", value=names)
        self.defer(trigger=EarthEngineOperationsTrigger(operations=names, poll_interval=2), method_name="resume")

    def resume(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ARG002 - Airflow's signature
        """Return what became of them."""
        return event["report"]


with DAG("start_and_wait", schedule=None):
    StartAndWait(task_id="work")
