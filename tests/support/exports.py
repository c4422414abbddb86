"""Exports of the real client that need no initialisation, and Airflow's task state store in memory."""

from __future__ import annotations

import copy
import json
from typing import Any

import ee.batch

__all__ = ["MemoryStore", "image_export", "table_export"]

EXPRESSION = {"result": "0", "values": {"0": {"constantValue": 1}}}


def image_export(description: str = "an image", *, bucket: str = "bucket", **config: Any) -> Any:
    """Make an ``ee.batch.Task`` that was not started."""
    return _task(ee.batch.Task.Type.EXPORT_IMAGE, description, bucket, config)


def table_export(description: str = "a table", *, bucket: str = "bucket", **config: Any) -> Any:
    """Make an ``ee.batch.Task`` that was not started."""
    return _task(ee.batch.Task.Type.EXPORT_TABLE, description, bucket, config)


def _task(type_: Any, description: str, bucket: str, config: dict[str, Any]) -> Any:
    destination = {"cloudStorageDestination": {"bucket": bucket, "filenamePrefix": description}}
    body = {"expression": EXPRESSION, "description": description, "fileExportOptions": destination, **config}
    return ee.batch.Task(None, type_, ee.batch.Task.State.UNSUBMITTED, body)


class MemoryStore:
    """What the tries of a task share from Airflow 3.3 on; values are copied as JSON, as there."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.writes: list[int] = []
        self.is_broken = False

    def get(self, key: str, default: Any = None) -> Any:
        self._check()
        return json.loads(self.values[key]) if key in self.values else copy.copy(default)

    def set(self, key: str, value: Any) -> None:
        self._check()
        self.values[key] = json.dumps(value)
        self.writes.append(len(self.values[key]))

    def delete(self, key: str) -> None:
        self._check()
        self.values.pop(key, None)

    def _check(self) -> None:
        if self.is_broken:
            raise RuntimeError("the API server is away")
