"""Whose the operations of a trigger are: decisions only, made from the states and the XComs that Airflow holds.

The proof is the task's own XCom ``earthengine_operations``: a try records there what it owns, and Airflow deletes it
when the next try begins. An operation that the XCom of a later try lists is that try's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from airflow_provider_eeops.instances import Instance, States

__all__ = ["Judgement", "all_ended", "judge_killed"]

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States of a task instance after which nothing of it runs."""

_HANDED_ON = frozenset({"success", "skipped"})


@dataclass(frozen=True)
class Judgement:
    """What a trigger that was told to go may do.

    :param cancel: operations that nobody owns any more.
    :param undecided: the next try is on its way, and may own the others: look again.
    """

    cancel: tuple[str, ...] = ()
    undecided: bool = False


def judge_killed(
    names: Sequence[str],
    *,
    state: str | None,
    recorded: Collection[str] | None,
    sources_ended: bool,
    was_undecided: bool = False,
) -> Judgement:
    """Decide whose the operations of a trigger are, once Airflow has told the trigger to go.

    Airflow tells it so when a person ended or cleared the task, and also when another triggerer takes over.

    :param names: operations that the trigger waits for.
    :param state: state of the task instance, None if it was cleared and not scheduled yet.
    :param recorded: operations that the XCom of the task instance lists; None if there is no such XCom.
    :param sources_ended: whether all tasks that the operations are known to come from have ended; one that has not was
        cleared too, and starts others.
    :param was_undecided: whether the next try was on its way at an earlier look; if it has succeeded since, what
        it recorded was its own, and is handed on.
    """
    if was_undecided and state in _HANDED_ON:
        return Judgement(cancel=tuple(name for name in names if name not in (recorded or ())))
    if state in _ENDED:
        return Judgement(cancel=tuple(names))
    if state is None and not sources_ended:
        return Judgement(cancel=tuple(names))
    others = () if recorded is None else tuple(name for name in names if name not in recorded)
    if others:
        return Judgement(cancel=others)  # the next try owns other operations
    # Deferred on the very same: by another triggerer, or by a next try that waits for them too.
    return Judgement(undecided=state != "deferred")


def all_ended(states: States, task_ids: Collection[str], *, map_index: int) -> bool:
    """Whether these tasks have ended, of a mapped one the instance of the same index if it has one.

    :param states: states of task instances, as Airflow keys them.
    :param task_ids: the tasks.
    :param map_index: index of who asks.
    """
    for task_id in task_ids:
        same = Instance(task_id, map_index).key
        keys = [same] if same in states else [key for key in states if task_id in (key, key.rpartition("_")[0])]
        if any(states[key] not in _ENDED for key in keys):
            return False
    return True
