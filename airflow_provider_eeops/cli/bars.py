"""A progress bar where somebody looks on and the work is long."""

from __future__ import annotations

import sys
from typing import Any, Self

__all__ = ["Bar"]

_MANY = 20
"""Operations that take long enough to look on."""

_LEAST_WIDTH = 60
"""Characters that all of a bar needs."""


class Bar:
    """A bar on stderr while inside; none if that is no terminal or the work is short.

    :param what: what is counted.
    :param total: how many there are; None if that is not known before the end.
    :param is_long: whether it takes long however few they are.
    """

    def __init__(self, what: str, total: int | None, *, is_long: bool = False) -> None:
        self._what = what
        self._is_long = is_long
        self._total = total
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if (
            (self._is_long or self._total is None or self._total > _MANY)
            and sys.stderr is not None
            and sys.stderr.isatty()
        ):
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                ProgressColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            console = Console(stderr=True)
            columns: tuple[ProgressColumn, ...] = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            if console.width < _LEAST_WIDTH:  # all of them would be cut, the count too
                columns = (MofNCompleteColumn(),)
            self._progress = Progress(*columns, console=console, transient=True)
            self._task = self._progress.add_task(self._what, total=self._total)
            self._progress.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self) -> None:
        """Count one more."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def reach(self, count: int) -> None:
        """Show so many as done.

        :param count: how many.
        """
        if self._progress is not None:
            self._progress.update(self._task, completed=count)
