"""Airflow's database where it is PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tests.support.airflow_database import AirflowDatabase

__all__ = ["PostgresDatabase"]


class PostgresDatabase(AirflowDatabase):
    """The PostgreSQL database of an Airflow.

    :param url: its address, as SQLAlchemy has it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(Path())
        self._engine = create_engine(url, poolclass=NullPool)

    def _once(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(sql.replace("?", "%s"), values).fetchall()
        return [tuple(map(_as_text, row)) for row in rows]

    def _changed(self, sql: str, values: tuple[Any, ...]) -> int:
        with self._engine.begin() as connection:
            return int(connection.exec_driver_sql(sql.replace("?", "%s"), values).rowcount)


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
