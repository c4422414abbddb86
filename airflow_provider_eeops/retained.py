"""What the tries of a task recorded, where the next try can read it: XCom forgets a try when the next one begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

__all__ = ["RetainedOperations"]

log = logging.getLogger(__name__)

_KEY = "earthengine_operations"


class RetainedOperations:
    """Operations by try, in Airflow's task state store, which Airflow has from 3.3 on; before, nothing is retained.

    What goes wrong with the store is logged: XCom has the names too.

    See https://airflow.apache.org/docs/apache-airflow/stable/ (AIP-103).

    :param store: the ``task_state_store`` of the task's context, None if it has none.
    :param try_number: the try that is running.
    """

    def __init__(self, store: Any, *, try_number: int) -> None:
        self._store = store
        self._own = str(try_number)
        self._by_try: dict[str, list[str]] = {}
        if store is None:
            return
        try:
            self._by_try = _checked(store.get(_KEY))
        except Exception:
            log.exception("What an earlier try recorded could not be read from the task state store.")

    @property
    def of_earlier_tries(self) -> list[str]:
        """Operations that other tries than this one recorded."""
        return [name for number, names in self._by_try.items() if number != self._own for name in names]

    def keep(self, names: Sequence[str]) -> None:
        """Retain the operations that this try recorded so far.

        :param names: operation names.
        """
        self._write({**self._by_try, self._own: list(names)})

    def drop(self, names: Sequence[str]) -> None:
        """Forget operations of earlier tries.

        :param names: operation names.
        """
        gone = set(names)
        left = {
            number: [name for name in of_try if number == self._own or name not in gone]
            for number, of_try in self._by_try.items()
        }
        self._write({number: of_try for number, of_try in left.items() if of_try})

    def _write(self, by_try: dict[str, list[str]]) -> None:
        if by_try == self._by_try:
            return
        self._by_try = by_try
        if self._store is None:
            return
        try:
            self._store.set(_KEY, by_try)
        except Exception:
            log.exception("The recorded operations could not be written to the task state store.")


def _checked(value: Any) -> dict[str, list[str]]:
    """Take what this module wrote; anything else was written by somebody else."""
    if value is None:
        return {}
    if isinstance(value, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in value.values()
    ):
        return value
    raise ValueError(f"{_KEY} in the task state store is a {type(value).__name__} of another shape")
