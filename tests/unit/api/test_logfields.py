from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from airflow_provider_eeops.api import logfields
from airflow_provider_eeops.api.logfields import log_fields


@pytest.fixture
def _without_structlog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "structlog.contextvars", None)
    logfields._bound.cache_clear()
    yield
    logfields._bound.cache_clear()


@pytest.mark.usefixtures("_without_structlog")
def test_where_no_log_has_a_place_for_fields_a_line_is_its_sentence() -> None:
    with log_fields(operation="projects/one/operations/A", outcome="cancelled") as nothing:
        assert nothing is None
