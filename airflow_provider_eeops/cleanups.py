"""Whether the tasks that are to cancel what a task started run when that task has failed."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["tasks_that_do_not_run", "warn_of_cleanups_that_do_not_run"]

log = logging.getLogger(__name__)

# Not "one_success" and the like, which depend on other tasks too.
_WANT_SUCCESS = frozenset({"all_success", "none_failed", "none_failed_min_one_success"})
_WANTS_SETUP = "all_done_setup_success"
"""The rule of a teardown: only the failure of its setup keeps it from running."""


def warn_of_cleanups_that_do_not_run(task: Any) -> None:
    """Log what a trigger rule keeps from running, in the log of the task that fails: nothing else of it is seen.

    :param task: the task that fails.
    """
    try:
        kept = tasks_that_do_not_run(task)
    except Exception:  # it must not hide why the task failed
        log.debug("The tasks after this one could not be looked at.", exc_info=True)
        return
    for task_id, rule in kept.items():
        remedy = (
            "do not make this task its setup"
            if rule == _WANTS_SETUP
            else f"make it a teardown, {task_id}.as_teardown(), or give it trigger_rule='all_done'"
        )
        log.warning("Task %s does not run when this one fails, as its trigger_rule is %s: %s.", task_id, rule, remedy)


def tasks_that_do_not_run(task: Any) -> dict[str, str]:
    """Find the tasks that cancel operations and do not run when a task before them has failed, with their rules.

    :param task: the task that fails.
    """
    from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

    found: dict[str, str] = {}
    seen = {task.task_id}
    not_run = [task]
    while not_run:
        before = not_run.pop()
        for after in before.downstream_list:
            rule = str(getattr(after.trigger_rule, "value", after.trigger_rule))
            if after.task_id in seen or not (rule in _WANT_SUCCESS or (rule == _WANTS_SETUP and before.is_setup)):
                continue
            seen.add(after.task_id)
            not_run.append(after)
            kind = getattr(after, "operator_class", type(after))  # a mapped task's is its own
            if isinstance(kind, type) and issubclass(kind, EarthEngineCancelOperationsOperator):
                found[after.task_id] = rule
    return found
