from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_eeops.retained import RetainedOperations

A, B, C = (f"projects/one/operations/{letter}" for letter in "ABC")


class Store:
    """Airflow's task state store: shared by the tries of a task."""

    def __init__(self, values: dict[str, Any] | None = None, *, broken: bool = False) -> None:
        self.values = values or {}
        self.broken = broken
        self.writes = 0

    def get(self, key: str, default: Any = None) -> Any:
        self._fail()
        return self.values.get(key, default)

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        assert retention is None
        self._fail()
        self.writes += 1
        self.values[key] = value

    def _fail(self) -> None:
        if self.broken:
            raise RuntimeError("the API server is away")


def test_the_next_try_reads_what_the_earlier_ones_recorded() -> None:
    store = Store()
    RetainedOperations(store, try_number=1).keep([A])
    second = RetainedOperations(store, try_number=2)
    assert second.of_earlier_tries == [A]
    second.keep([B, C])
    assert RetainedOperations(store, try_number=2).of_earlier_tries == [A], "a try resumed after a deferral is itself"
    assert RetainedOperations(store, try_number=3).of_earlier_tries == [A, B, C]


def test_what_is_dropped_is_not_read_again() -> None:
    store = Store()
    RetainedOperations(store, try_number=1).keep([A, B])
    second = RetainedOperations(store, try_number=2)
    second.keep([A, C])
    second.drop([A])
    assert second.of_earlier_tries == [B]
    assert store.values == {"earthengine_operations": {"1": [B], "2": [A, C]}}


def test_nothing_is_written_that_is_there_already() -> None:
    store = Store()
    retained = RetainedOperations(store, try_number=1)
    retained.keep([A])
    retained.keep([A])
    retained.drop([B])
    assert store.writes == 1


def test_without_a_store_nothing_is_retained() -> None:
    retained = RetainedOperations(None, try_number=2)
    retained.keep([A])
    retained.drop([A])
    assert retained.of_earlier_tries == []


@pytest.mark.parametrize("value", ["rubbish", ["x"], {"1": "x"}])
def test_what_somebody_else_wrote_is_logged_and_replaced(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = Store({"earthengine_operations": value})
    retained = RetainedOperations(store, try_number=2)
    assert retained.of_earlier_tries == []
    assert "of another shape" in caplog.text
    retained.keep([A])
    assert store.values["earthengine_operations"] == {"2": [A]}


def test_a_store_that_fails_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    retained = RetainedOperations(Store(broken=True), try_number=2)
    assert retained.of_earlier_tries == []
    retained.keep([A])
    assert "could not be read" in caplog.text
    assert "could not be written" in caplog.text
