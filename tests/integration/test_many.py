"""Five thousand names in one task, two of which are no use."""

from __future__ import annotations

import json

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import CancellationFailedError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.support.task_instance import FakeTaskInstance

COUNT = 5000


def test_five_thousand_names(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(require_token=False, run_seconds=100_000, cancel_seconds=100_000, queue_limit=COUNT)
    names = [emulator.add_operation() for _ in range(COUNT)]
    ti = FakeTaskInstance()
    with EmulatorServer(emulator) as server:
        extra = {"base_url": server.base_url, "is_anonymous": True, "requests_per_second": 10_000}
        monkeypatch.setenv("AIRFLOW_CONN_MANY", json.dumps({"conn_type": "earthengine", "extra": extra}))
        task = EarthEngineCancelOperationsOperator(
            task_id="cancel",
            earthengine_conn_id="many",
            operations=[names[:2500], "no operation", "projects/emulator-project/operations/GONE", names[2500:]],
        )
        with pytest.raises(CancellationFailedError) as caught:
            task.execute({"ti": ti})  # type: ignore[typeddict-item]
    assert caught.value.report.counts == {"cancel_requested": COUNT, "not_found": 1, "error": 1}
    assert ti.returned == caught.value.report.to_dict()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- projects/emulator-project/operations/GONE",
        "- 'no operation'",
    ]
    assert emulator.count("cancel") == COUNT + 1
    assert emulator.count("list") + emulator.count("get") < COUNT / 100, "looked for on pages, not one by one"
