"""What a task started, where its next try, its own resumption and every cleanup can read it.

From Airflow 3.3 on the record is kept in the task state store, which the tries of a task share; XCom, which Airflow
clears when the next try begins, has the names for everybody else. Before 3.3 there is XCom alone: a next try learns
from Earth Engine what was started, by asking for the same starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_eeops.api.intents import Intent
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.starts import Asked, Identity, Start
from airflow_provider_eeops.xcom import STARTING_KEY, pull_own, push_operations

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

_KEY = "earthengine_exports"

_GIVEN_KEY = f"{_KEY}_given"

_PAGE = 250
"""Positions in one value of the store: of thousands, only those that change are written."""


class Ledger:
    """The starts of a task by position, and the operations that it was given.

    What goes wrong with the store is logged: XCom has the names too, and Earth Engine knows the request ids.

    :param context: the task's context.
    :param project_id: project that the exports are started in.
    """

    def __init__(self, context: Context, *, project_id: str | None) -> None:
        self._ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._project_id = project_id
        self._changed: set[int] = set()
        self._pages = 0
        self._pushed: tuple[list[str], list[Any]] | None = None
        self._given: dict[str, None] = {}
        self._given_now: set[str] = set()
        self._stored_given: list[str] = []
        self.starts: dict[int, Start] = {}
        self.identity = _identity(self._ti)
        self._read_store()

    @property
    def is_retained(self) -> bool:
        """Whether the next try can read what this one records."""
        return self._store is not None

    @property
    def names(self) -> list[str]:
        """Operations that the task owns, those that it started in the order of their positions."""
        started = [start.name for _, start in sorted(self.starts.items()) if start.name is not None]
        return list(dict.fromkeys([*started, *self._given]))

    @property
    def given_before(self) -> list[str]:
        """Operations that an earlier try was given, and this one was not yet."""
        return [name for name in self._stored_given if name not in self._given_now]

    @property
    def intents(self) -> dict[int, Intent]:
        """Starts of which it is not known whether there is an operation, by position."""
        return {
            position: Intent(self._project_id, start.type, start.description, start.since, start.until)
            for position, start in sorted(self.starts.items())
            if start.name is None and self._project_id is not None
        }

    def give(self, names: Iterable[str]) -> None:
        """Take in operations that were started elsewhere.

        :param names: operation names.
        """
        names = list(names)
        self._given.update(dict.fromkeys(names))
        self._given_now.update(names)

    def take_back(self, names: Iterable[str]) -> None:
        """Take out operations that were given, and have ended.

        :param names: operation names.
        """
        for name in names:
            self._given.pop(name, None)

    def intend(self, some: Sequence[Asked], *, now: float) -> None:
        """Record starts that are about to be made.

        :param some: the starts.
        :param now: seconds since the epoch.
        """
        for asked in some:
            since = now if asked.since is None else asked.since
            self._put(asked.position, Start(asked.attempt, since, now, asked.export.description, asked.export.type))
        self.save()

    def learn(self, position: int, operation: Operation) -> None:
        """Take in the answer to a start, from any thread; :meth:`save` records it.

        :param position: of the export.
        :param operation: what was started.
        """
        self._put(position, replace(self.starts[position], name=operation.name))

    def forget(self, positions: Iterable[int]) -> None:
        """Take out positions that have no operation.

        :param positions: of exports.
        """
        for position in positions:
            if self.starts.pop(position, None) is not None:
                self._changed.add(position // _PAGE)

    def save(self) -> None:
        """Write what has changed: the names to XCom too, as this is what a cleanup reads."""
        for page in sorted(self._changed):
            self._changed.discard(page)  # first: a thread may change it while it is written
            try:
                self._write(page)
            except BaseException:  # a timeout: it is to be written yet
                self._changed.add(page)
                raise
        self._write_given()
        intents = [intent.to_dict() for intent in self.intents.values()]
        pushed = (self.names, intents)
        if pushed != self._pushed:
            push_operations(self._ti, pushed[0])
            self._ti.xcom_push(key=STARTING_KEY, value=intents)
            self._pushed = pushed

    def hand_over(self) -> None:
        """Let the resumption of a deferred task read the record, where there is no store."""
        if self._store is None:
            self._ti.xcom_push(key=_KEY, value=_packed(self.starts, self.identity.series))

    def take_over(self) -> None:
        """Read what was recorded before the task deferred."""
        if not self.starts:
            self._take(pull_own(self._ti, _KEY), where="XCom")

    def close(self) -> None:
        """Forget all: the task has succeeded, and exports anew when it is cleared."""
        self.starts = {}
        keys = [*map(_page_key, range(self._pages)), *([_GIVEN_KEY] if self._stored_given else [])]
        for key in keys:
            try:
                self._store.delete(key)
            except Exception:
                log.exception("What was recorded of the exports could not be deleted from the task state store.")

    def _put(self, position: int, start: Start) -> None:
        self.starts[position] = start
        self._changed.add(position // _PAGE)

    def _read_store(self) -> None:
        if self._store is None:
            return
        try:
            while (value := self._store.get(_page_key(self._pages))) is not None:
                self._take(value, where="the task state store")
                self._pages += 1
            given = self._store.get(_GIVEN_KEY)
            if isinstance(given, list) and all(isinstance(name, str) for name in given):
                self._stored_given = given
                self._given.update(dict.fromkeys(given))
        except Exception:
            log.exception("What an earlier try recorded could not be read from the task state store.")
            self._store = None

    def _take(self, value: Any, *, where: str) -> None:
        if value is None:
            return
        try:
            series, starts = _unpacked(value)
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("What %s has under %s was written by somebody else: passed over.", where, _KEY)
            return
        self.identity = self.identity._replace(series=series)
        self.starts.update(starts)

    def _write(self, page: int) -> None:
        if self._store is None:
            return
        try:
            while self._pages < page:  # read on to where the first is missing
                self._set(self._pages)
            self._set(page)
        except Exception:
            log.exception("The starts could not be written to the task state store.")
            self._store = None

    def _write_given(self) -> None:
        started = {start.name for start in self.starts.values()}
        given = [name for name in self._given if name not in started]
        if self._store is None or given == self._stored_given:
            return
        try:
            self._store.set(_GIVEN_KEY, given)
            self._stored_given = given
        except Exception:
            log.exception("The operations that were started elsewhere could not be written to the task state store.")
            self._store = None

    def _set(self, page: int) -> None:
        first = page * _PAGE
        of_page = {
            position: self.starts[position] for position in range(first, first + _PAGE) if position in self.starts
        }
        self._store.set(_page_key(page), _packed(of_page, self.identity.series))
        self._pages = max(self._pages, page + 1)


def _identity(ti: Any) -> Identity:
    """Say whose starts these are. Airflow raises ``max_tries`` when a task is cleared, and at no retry."""
    series = max(0, int(getattr(ti, "max_tries", 0) or 0) - int(getattr(ti.task, "retries", 0) or 0))
    return Identity(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, series)


def _page_key(page: int) -> str:
    return f"{_KEY}_{page}"


def _packed(starts: Mapping[int, Start], series: int) -> dict[str, Any]:
    return {"series": series, "starts": {str(position): start.to_json() for position, start in starts.items()}}


def _unpacked(value: Any) -> tuple[int, dict[int, Start]]:
    return int(value["series"]), {int(key): Start.from_json(start) for key, start in value["starts"].items()}
