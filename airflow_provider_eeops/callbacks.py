"""Whose operations a callback may cancel: pure decisions about what Airflow says."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from airflow_provider_eeops._compat import STATE_FOLLOWS_CALLBACK
from airflow_provider_eeops.exceptions import TaskKilledError
from airflow_provider_eeops.instances import Instance, Run, States

__all__ = ["Caller", "caller_of", "find_instances", "is_about_run", "may_cancel", "run_of"]

_MAPPED = re.compile(r"(.+)_(\d+)", re.DOTALL)

_AT_ONCE = 100
"""Task ids in one question: they travel in a URL."""


class Caller(Enum):
    """Who calls the callback."""

    #: The process of the try itself, which failed or skipped. Airflow hears of it when the process has ended.
    ENDING = auto()
    #: The process of the try itself, which is to be retried. Airflow knows: the next try may start any moment.
    RETRYING = auto()
    #: The DAG processor, however long after.
    ELSEWHERE = auto()
    #: The triggerer, because the run missed a deadline.
    DEADLINE = auto()


# A try that is under way, or one that resumes: what it recorded is its own.
_RESUMES = frozenset({"deferred", "up_for_reschedule", "awaiting_input"})

# A later try cannot have recorded anything since, or has ended too. Not "success", which a later try may have come to;
# not "scheduled" and "queued", in which a deferred task that resumes is as well.
_ENDED = frozenset({"failed", "skipped", "upstream_failed", "removed", "up_for_retry", "restarting", None})


def may_cancel(state: str | None, caller: Caller) -> bool:
    """Whether what a task instance recorded may be cancelled, and is not a later try's, nor handed on.

    A try's XComs are deleted when the next one starts. So the state must have been read after the names: then no
    later try can have recorded them, unless it is under way by this state, or has ended.

    :param state: the task instance's state.
    :param caller: who calls the callback.
    """
    match caller:
        case Caller.ENDING:
            return state not in _RESUMES
        case Caller.RETRYING:
            return state not in _RESUMES | {"running"}
        case Caller.ELSEWHERE:
            return state in _ENDED
        case Caller.DEADLINE:
            return state != "success"


def is_about_run(context: Mapping[str, Any]) -> bool:
    """Whether the callback is a DAG's, not a task's; the context may hold a task instance all the same.

    :param context: the callback's context.
    """
    # Airflow gives a reason to the callbacks of a DAG only, and an exception to those in a task's own process only.
    return "ti" not in context or ("reason" in context and "exception" not in context)


def run_of(context: Mapping[str, Any]) -> Run | None:
    """Say which run the callback is about; None if the context does not say.

    :param context: the callback's context.
    """
    if "ti" in context:
        return Run(context["ti"].dag_id, context["ti"].run_id)
    if "dag" in context and "run_id" in context:
        return Run(context["dag"].dag_id, context["run_id"])
    dag_run = context.get("dag_run")
    if isinstance(dag_run, Mapping) and "dag_id" in dag_run and "dag_run_id" in dag_run:  # a deadline's
        return Run(dag_run["dag_id"], dag_run["dag_run_id"])
    return None


def caller_of(context: Mapping[str, Any]) -> Caller:
    """Say who calls the callback.

    :param context: the callback's context.
    """
    if "deadline" in context and "ti" not in context:
        return Caller.DEADLINE
    if "exception" not in context or is_about_run(context):
        return Caller.ELSEWHERE
    if isinstance(context["exception"], TaskKilledError):
        return Caller.ELSEWHERE  # ended from outside: by now a later try may run, and have recorded its own
    if STATE_FOLLOWS_CALLBACK:
        return Caller.ENDING
    return Caller.RETRYING if getattr(context["ti"], "state", None) == "up_for_retry" else Caller.ENDING


def find_instances(ask: Callable[[Sequence[str] | None], States]) -> dict[Instance, str | None]:
    """Find the task instances of a run, and their states.

    A key such as ``export_1`` is a task's, or the second instance of the mapped task ``export``, or both at once;
    what the supervisor answers about one task alone is certain.

    :param ask: asks for the states of some tasks of the run; of all if None.
    """
    every = ask(None)
    perhaps_mapped: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for key in every:
        if match := _MAPPED.fullmatch(key):
            perhaps_mapped[match[1]].append((key, int(match[2])))
    found: dict[Instance, str | None] = {}
    mapped: list[str] = []
    for task_id, keys in perhaps_mapped.items():
        own = ask([task_id])
        for key, map_index in keys:
            if key in own:
                found[Instance(task_id, map_index)] = own[key]
                mapped.append(key)
    found |= {Instance(key): state for key, state in every.items() if key not in set(mapped)}
    for first in range(0, len(mapped), _AT_ONCE):
        some = mapped[first : first + _AT_ONCE]
        hidden = ask(some)  # tasks whose keys the mapped instances took
        found |= {Instance(key): hidden[key] for key in some if key in hidden}
    return found
