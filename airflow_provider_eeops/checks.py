"""Checks of parameters that are known when the DAG file is parsed."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta

__all__ = ["require_choice", "require_positive", "seconds"]


def require_positive(name: str, value: float) -> float:
    """Return a number greater than 0.

    :param name: the parameter.
    :param value: its value.
    :raises ValueError: naming both.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}: it must be a number greater than 0")
    return value


def seconds(name: str, value: float | timedelta | None) -> float | None:
    """Return a duration in seconds; None means no limit.

    :param name: the parameter.
    :param value: seconds, or a timedelta.
    :raises ValueError: it is not greater than 0.
    """
    if value is None:
        return None
    return require_positive(name, value.total_seconds() if isinstance(value, timedelta) else value)


def require_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return a value that is one of the choices.

    :param name: the parameter.
    :param value: its value.
    :param choices: what it may be.
    :raises ValueError: naming all of these.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(repr, choices))}")
    return value
