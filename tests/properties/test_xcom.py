from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, overload

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.exceptions import InvalidInputError, InvalidOperationNameError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.xcom import pull_from_tasks, pull_own, push_operations, unknown_task
from tests.properties.anything import ANYTHING, JSON, NAMES
from tests.properties.trying import fewer
from tests.support.attempt import attempt

A = "projects/one/operations/A"


class _LazySequence(Sequence[Any]):
    """What a pull from a mapped task returns: each item is asked for when it is reached, and asking may fail."""

    def __init__(self, items: list[Any], fails_at: int | None) -> None:
        self._items = items
        self._fails_at = fails_at

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...

    def __getitem__(self, index: Any) -> Any:
        if index == self._fails_at:
            raise RuntimeError("the API server did not answer")
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


LAZY = st.builds(
    _LazySequence, st.lists(st.one_of(NAMES, JSON, st.none()), max_size=4), st.one_of(st.none(), st.integers(0, 4))
)
PULLED = st.one_of(JSON, LAZY, st.lists(NAMES), ANYTHING)


class _Instance:
    """A task instance of a DAG in which each task pushed something."""

    task_id = "cancel"
    map_index = -1

    def __init__(self, pushed: dict[tuple[str, str], Any]) -> None:
        self.pushed = pushed
        task_dict = {task_id: _TASK for task_id, _ in pushed}
        self.task = SimpleNamespace(
            get_closest_mapped_task_group=lambda: None,
            dag=SimpleNamespace(dag_id="d", task_dict=task_dict, get_task=task_dict.__getitem__),
        )

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        del map_indexes
        return self.pushed.get((task_ids, key))

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[self.task_id, key] = json.loads(json.dumps(value))


_TASK = SimpleNamespace(get_closest_mapped_task_group=lambda: None)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[EarthEngineOperationsHook]:
    extras = {"base_url": "http://127.0.0.1:1", "is_anonymous": True, "project": "one"}
    monkeypatch.setenv("AIRFLOW_CONN_EARTHENGINE_DEFAULT", json.dumps({"conn_type": "earthengine", "extra": extras}))
    with EarthEngineOperationsHook() as hook:
        yield hook


def assert_sound(parsed: ParsedNames) -> None:
    assert len(set(parsed.names)) == len(parsed.names)
    assert all(type(name) is str and name.startswith("projects/") for name in parsed.names)
    assert all(isinstance(error, InvalidOperationNameError) and error.value for error in parsed.invalid)


@given(returned=PULLED, tracked=PULLED, other=st.lists(NAMES, max_size=3))
@fewer(one_in=1, shared=True)
def test_whatever_tasks_pushed_gives_names_or_refusals(
    hook: EarthEngineOperationsHook, returned: Any, tracked: Any, other: list[str]
) -> None:
    pushed = {
        ("export", "return_value"): returned,
        ("export", "earthengine_operations"): tracked,
        ("other", "return_value"): other,
    }
    parsed = pull_from_tasks(_Instance(pushed), ["export", "other"], hook=hook)
    assert_sound(parsed)
    assert set(other) <= set(parsed.names)


@given(tracked=st.lists(NAMES, max_size=5), returned=JSON)
@fewer(one_in=2, shared=True)
def test_what_was_tracked_counts_whatever_was_returned(
    hook: EarthEngineOperationsHook, tracked: list[str], returned: Any
) -> None:
    instance = _Instance({("cancel", "return_value"): returned})
    push_operations(instance, tracked)
    assert pull_own(instance) == tracked
    parsed = pull_from_tasks(instance, "cancel", hook=hook)
    assert set(tracked) <= set(parsed.names)
    assert parsed.invalid == []


@given(items=st.lists(NAMES, min_size=1, max_size=5, unique=True), fails_at=st.one_of(st.none(), st.integers(0, 4)))
@fewer(one_in=2, shared=True)
def test_items_of_mapped_tasks_are_found_up_to_one_that_cannot_be_had(
    hook: EarthEngineOperationsHook, items: list[str], fails_at: int | None
) -> None:
    instance = _Instance({("export", "return_value"): _LazySequence(items, fails_at)})
    parsed = pull_from_tasks(instance, "export", hook=hook)
    reached = len(items) if fails_at is None else fails_at
    assert parsed.names == items[:reached]
    assert [str(error) for error in parsed.invalid if "could not be read (RuntimeError)" not in str(error)] == []
    assert len(parsed.invalid) == (reached < len(items))


@given(task_ids=st.one_of(ANYTHING, st.text(max_size=20)))
@example(5)
@example(None)
@example([None, "export", ["export"]])
@fewer(one_in=1, shared=True)
def test_task_ids_may_be_anything(hook: EarthEngineOperationsHook, task_ids: Any) -> None:
    instance = _Instance({("export", "return_value"): A})
    parsed, error = attempt(lambda: pull_from_tasks(instance, task_ids, hook=hook), error=InvalidInputError)
    if error is None:
        assert_sound(parsed)
        assert set(parsed.names) <= {A}
    message = str(unknown_task("x" if error is None else str(error)[:50], ["export"], where="DAG d"))
    assert message.startswith("xcom_task_ids names ")


@given(known=st.lists(st.text(max_size=20), max_size=5), task_id=ANYTHING)
def test_an_unknown_task_is_named(known: list[str], task_id: Any) -> None:
    error = unknown_task(task_id, known, where="DAG d")
    assert error.value
    assert str(error).startswith("xcom_task_ids ")
    assert len(str(error)) < 2000
