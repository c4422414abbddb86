"""Links from a task's page to where Earth Engine shows its operations.

A task that knows its operations stores the addresses in XCom, from where Airflow's page reads them. Operator and
sensor declare the links; for any other task, which tracked operations, :class:`EarthEnginePlugin` has them. Every
process of Airflow loads it, so this module loads nothing else of the package until it is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowPlugin, BaseOperatorLink
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

__all__ = ["LINKS", "EarthEnginePlugin", "EarthEngineTaskManagerLink", "EarthEngineTasksLink", "push_links"]

log = logging.getLogger(__name__)

_TASK_MANAGER = "https://code.earthengine.google.com/tasks"
_TASKS = "https://console.cloud.google.com/earth-engine/tasks"


class EarthEngineTasksLink(BaseOperatorLink):
    """The Cloud Console's page of the project's Earth Engine tasks."""

    name = "Earth Engine tasks (Cloud Console)"

    @property
    def xcom_key(self) -> str:
        """XCom key of the address; Airflow 3 stores there what :meth:`get_link` returns."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address that the task stored; empty if it had no operations.

        :param operator: the task.
        :param ti_key: its task instance: the running one in a worker, the key of one in the API server.
        """
        from airflow_provider_eeops._compat import stored_xcom
        from airflow_provider_eeops.xcom import pull_own

        del operator
        is_running = hasattr(ti_key, "xcom_pull")
        return (pull_own(ti_key, self.xcom_key) if is_running else stored_xcom(ti_key, self.xcom_key)) or ""


class EarthEngineTaskManagerLink(EarthEngineTasksLink):
    """Earth Engine's own Task Manager, which shows the tasks of whoever looks."""

    name = "Earth Engine Task Manager"


LINKS = (EarthEngineTasksLink(), EarthEngineTaskManagerLink())


def push_links(context: Context, names: Sequence[str]) -> None:
    """Store the addresses for a task's operations: those of the first one's project.

    A task that was told ``do_xcom_push=False`` stores none. What goes wrong here is logged: no task fails for a link.

    :param context: the task's context.
    :param names: operation names.
    """
    ti: Any = context["ti"]
    if not names or not getattr(ti.task, "do_xcom_push", True):
        return
    from airflow_provider_eeops.api.names import project_of

    addresses = (f"{_TASKS}?project={quote(project_of(names[0]), safe='')}", _TASK_MANAGER)
    try:
        for link, address in zip(LINKS, addresses, strict=True):
            ti.xcom_push(key=link.xcom_key, value=address)
    except Exception:
        log.exception("The links to Earth Engine's pages could not be stored.")


class EarthEnginePlugin(AirflowPlugin):
    """Has the links for every task that stored them, whatever its operator.

    Not on Airflow 2, which would show a button that leads nowhere on the page of every other task.
    """

    name = "earthengine"
    global_operator_extra_links: list[Any] = list(LINKS) if AIRFLOW_V_3_0_PLUS else []
