"""Where operation names travel between tasks: the XCom key that tracked operations have, and how to read it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_eeops._compat import get_task_states
from airflow_provider_eeops.api.models import Outcome
from airflow_provider_eeops.api.names import ParsedNames, operation_id
from airflow_provider_eeops.exceptions import InvalidOperationNameError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.recovering import add_recovered, intents_in

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.api.models import OperationResult, Report

__all__ = [
    "OPERATIONS_KEY",
    "RETURN_VALUE",
    "STARTING_KEY",
    "pull_from_instance",
    "pull_from_tasks",
    "pull_own",
    "pull_recorded",
    "push_operations",
    "push_owned",
    "push_report",
    "push_result",
    "source_task_ids",
    "task_ids_among",
    "task_states",
    "unknown_task",
    "what_was_pulled",
    "with_starting_of",
]

OPERATIONS_KEY = "earthengine_operations"
"""XCom key of the operations a task started."""

STARTING_KEY = "earthengine_starting"
"""XCom key of the starts that a task may have made, and had no answer to."""

RETURN_VALUE = "return_value"
"""XCom key of what a task returns."""

log = logging.getLogger(__name__)


def push_operations(ti: Any, names: Sequence[str]) -> None:
    """Push the operations that a task started so far.

    :param ti: the task instance.
    :param names: operation names.
    """
    ti.xcom_push(key=OPERATIONS_KEY, value=list(names))


def source_task_ids(operations: Any) -> list[str]:
    """Tasks whose XComs a parameter refers to, before it is rendered; none for a template, which does not tell.

    :param operations: what the task was given when the DAG was parsed.
    """
    from airflow.providers.common.compat.sdk import XComArg

    return sorted({operator.task_id for operator, _ in XComArg.iter_xcom_references(operations)})


def task_ids_among(results: Iterable[OperationResult], task: Any) -> list[str]:
    """Task ids that were given for operations: the server knows no such operation, and the DAG has such a task.

    :param results: what became of the operations.
    :param task: a task of the DAG.
    """
    known = task.dag.task_dict if task.has_dag() else {}
    ids = (operation_id(result.name) for result in results if result.outcome is Outcome.NOT_FOUND)
    return [id_ for id_ in ids if id_ in known]


def what_was_pulled(task_ids: Any, key: str | None) -> str:
    """Say what :func:`pull_from_tasks` looked for and did not find.

    :param task_ids: the upstream tasks.
    :param key: XCom key; None for both.
    """
    tasks = task_ids if isinstance(task_ids, str) else ", ".join(map(str, task_ids))
    if not tasks:
        return "xcom_task_ids is empty, or its template rendered to nothing"
    if key is None:
        return f"{tasks} pushed none, neither as {RETURN_VALUE} nor, by track_operations, as {OPERATIONS_KEY}"
    import difflib

    near = difflib.get_close_matches(key, (RETURN_VALUE, OPERATIONS_KEY), n=1)
    meant = f" (did you mean {near[0]!r}?)" if near and near[0] != key else ""
    return f"{tasks} pushed none as {key!r}{meant}"


def push_owned(context: Context, names: Sequence[str]) -> None:
    """Push the operations that a waiting task owns, for callbacks, cleanups, and as proof of whose they are.

    A task that was told ``do_xcom_push=False`` pushes none.

    :param context: the task's context.
    :param names: operation names.
    """
    ti: Any = context["ti"]
    if getattr(ti.task, "do_xcom_push", True):
        push_operations(ti, names)


def push_report(context: Context, report: Report) -> bool:
    """Push a report as the task's return value now, as a task that fails, skips or defers returns nothing.

    A task that was told ``do_xcom_push=False`` pushes none. What goes wrong here is logged: it must not hide why the
    task fails.

    :param context: the task's context.
    :param report: the report.
    :return: whether it is there.
    """
    return push_result(context, report.to_dict())


def push_result(context: Context, value: Any) -> bool:
    """Push a task's return value now, as :func:`push_report` does.

    :param context: the task's context.
    :param value: the value.
    :return: whether it is there.
    """
    ti: Any = context["ti"]
    if not getattr(ti.task, "do_xcom_push", True):
        return False
    try:
        ti.xcom_push(key=RETURN_VALUE, value=value)
    except Exception:
        log.exception("The report could not be pushed to XCom.")
        return False
    return True


def pull_own(ti: Any, key: str = OPERATIONS_KEY) -> Any:
    """Pull what this very task instance pushed; without ``map_indexes`` its mapped siblings' would come too.

    :param ti: the task instance.
    :param key: XCom key.
    """
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


def pull_from_tasks(
    ti: Any, task_ids: str | Iterable[str], *, hook: EarthEngineOperationsHook, key: str | None = None
) -> ParsedNames:
    """Pull the operations that upstream tasks pushed, failed or not, all mapped instances.

    From a task in the mapped task group that the pulling task is in too, only what the same instance of the group
    pushed. A task that the DAG does not have is in the result as invalid.

    :param ti: the pulling task instance.
    :param task_ids: the upstream tasks.
    :param hook: reads the names.
    :param key: XCom key. Default: both ``return_value`` and :data:`OPERATIONS_KEY`. Where a task has the latter, the
        former may be anything: only operation names in it count.
    """
    found: list[Any] = []
    unknown: list[InvalidOperationNameError] = []
    for task_id in _each(task_ids):
        try:
            scope = _scope(ti, task_id)
        except InvalidOperationNameError as error:
            unknown.append(error)
            continue
        if key is not None:
            found.append(ti.xcom_pull(task_ids=task_id, key=key, **scope))
            continue
        returned = ti.xcom_pull(task_ids=task_id, key=RETURN_VALUE, **scope)
        tracked = ti.xcom_pull(task_ids=task_id, key=OPERATIONS_KEY, **scope)
        found += _sifted(task_id, returned, tracked, hook)
    parsed = hook.parse(found)
    parsed.invalid += unknown
    return parsed if key is not None else _with_starting(ti, task_ids, parsed, hook)


def _with_starting(ti: Any, task_ids: Any, parsed: ParsedNames, hook: EarthEngineOperationsHook) -> ParsedNames:
    """Add what came of starts that the tasks had no answer to: a worker that was lost recorded no more of them."""
    known = [task_id for task_id in _each(task_ids) if type(task_id) is str and task_id in ti.task.dag.task_dict]
    pulled = [ti.xcom_pull(task_ids=task_id, key=STARTING_KEY, **_scope(ti, task_id)) for task_id in known]
    intents = intents_in(pulled)
    if not intents:
        return parsed
    of_siblings = hook.parse([ti.xcom_pull(task_ids=task_id, key=OPERATIONS_KEY) for task_id in known])
    return add_recovered(parsed, intents, hook, taken=of_siblings.names)


def pull_recorded(run: Run, instance: Instance, *, key: str = OPERATIONS_KEY) -> Any:
    """Pull what one task instance of a run pushed. It needs no task instance, and works wherever a callback runs.

    :param run: the run.
    :param instance: the task instance.
    :param key: XCom key.
    """
    from airflow.providers.common.compat.sdk import XCom

    return XCom.get_one(
        dag_id=run.dag_id, run_id=run.run_id, task_id=instance.task_id, map_index=instance.map_index, key=key
    )


def pull_from_instance(run: Run, instance: Instance, *, hook: EarthEngineOperationsHook) -> ParsedNames:
    """Pull the operations of one task instance of a run, as :func:`pull_from_tasks` does without a key.

    :param run: the run.
    :param instance: the task instance.
    :param hook: reads the names.
    """
    returned = pull_recorded(run, instance, key=RETURN_VALUE)
    parsed = hook.parse(_sifted(str(instance), returned, pull_recorded(run, instance), hook))
    return with_starting_of(run, instance, parsed, hook)


def with_starting_of(run: Run, instance: Instance, parsed: ParsedNames, hook: EarthEngineOperationsHook) -> ParsedNames:
    """Add what came of starts that one task instance of a run had no answer to.

    Of a mapped one none is taken for its own, as its siblings may start the same: they are named as invalid.

    :param run: the run.
    :param instance: the task instance.
    :param parsed: what it recorded.
    :param hook: whose connection to look with.
    """
    intents = intents_in(pull_recorded(run, instance, key=STARTING_KEY))
    return add_recovered(parsed, intents, hook, is_certain=instance.map_index < 0)


def task_states(run: Run, task_ids: Sequence[str] | None = None) -> dict[str, str | None]:
    """Ask Airflow for the states of the task instances of a run, by key.

    :param run: the run.
    :param task_ids: of these tasks alone. Default: all.
    """
    return get_task_states(run.dag_id, run.run_id, task_ids)


def unknown_task(task_id: Any, known: Iterable[str], *, where: str) -> InvalidOperationNameError:
    """Make the error for a task id that names no task.

    :param task_id: the task id.
    :param known: those that do.
    :param where: what has no such task.
    """
    if not issubclass(type(task_id), str):
        kind = f"a {type(task_id).__name__}"
        return InvalidOperationNameError(f"xcom_task_ids holds {kind}: give task ids, as text", value=kind)
    task_id, known = str.__str__(task_id), list(known)
    import difflib

    near = difflib.get_close_matches(task_id, known, n=3, cutoff=0.5)
    near += [each for each in known if each.endswith(f".{task_id}") and each not in near]
    return InvalidOperationNameError(
        f"xcom_task_ids names {task_id!r}: {where} has no such task"
        + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""),
        value=repr(task_id),
    )


def _sifted(source: str, returned: Any, tracked: Any, hook: EarthEngineOperationsHook) -> list[Any]:
    """Where a task tracked operations, what it returned may be anything: only operation names in it count."""
    if tracked is None:
        return [returned]
    certain = hook.parse(returned, accept_ids=False)
    if certain.invalid:
        log.info("Task %s returned something else than operations; taking those it tracked.", source)
    return [certain.names, tracked]


def _each(task_ids: Any) -> list[Any]:
    """Read one task id or several; what is none of these is refused with those that name no task."""
    try:
        each = [task_ids] if isinstance(task_ids, str) else list(islice(task_ids, _MOST_TASKS + 1))
    except Exception:  # noqa: BLE001 - whatever its class does
        each = [task_ids]
    if len(each) > _MOST_TASKS:  # an iterator may have no end
        each = [task_ids]
    return [str.__str__(task_id) if issubclass(type(task_id), str) else task_id for task_id in each]


_MOST_TASKS = 100_000


def _scope(ti: Any, task_id: str) -> dict[str, int]:
    """Say which mapped instances of a task to pull from: the own one within a mapped task group, else all."""
    dag = ti.task.dag
    if type(task_id) is not str or task_id not in dag.task_dict:
        raise unknown_task(task_id, dag.task_dict, where=f"DAG {dag.dag_id}")
    group = ti.task.get_closest_mapped_task_group()
    upstream = dag.get_task(task_id).get_closest_mapped_task_group()
    same = group is not None and upstream is not None and group.group_id == upstream.group_id
    return {"map_indexes": ti.map_index} if same else {}
