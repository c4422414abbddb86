"""Checks of parameters that are known when the DAG file is parsed."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta

from airflow_provider_eeops.exceptions import InvalidInputError

__all__ = ["require_choice", "require_count", "require_moment", "require_positive", "seconds"]


def require_positive(name: str, value: float) -> float:
    """Return a number greater than 0.

    :param name: the parameter.
    :param value: its value.
    :raises InvalidInputError: naming both.
    """
    if not _is_finite(value) or value <= 0:
        raise InvalidInputError(f"{name} is {value!r}: it must be a number greater than 0")
    return value


def require_count(name: str, value: float) -> int:
    """Return a whole number of at least 1.

    :param name: the parameter.
    :param value: its value.
    :raises InvalidInputError: naming both.
    """
    if not _is_finite(value) or value < 1 or value != int(value):
        raise InvalidInputError(f"{name} is {value!r}: it must be a whole number of at least 1")
    return int(value)


def require_moment(name: str, value: float | None) -> float | None:
    """Return seconds since the epoch; None means never.

    :param name: the parameter.
    :param value: its value.
    :raises InvalidInputError: naming both.
    """
    if value is not None and not _is_finite(value):
        raise InvalidInputError(f"{name} is {value!r}: it must be seconds since the epoch, or None")
    return value


def seconds(name: str, value: float | timedelta | None) -> float | None:
    """Return a duration in seconds; None means no limit.

    :param name: the parameter.
    :param value: seconds, or a timedelta.
    :raises InvalidInputError: it is not greater than 0.
    """
    if value is None:
        return None
    return require_positive(name, value.total_seconds() if isinstance(value, timedelta) else value)


def require_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return a value that is one of the choices.

    :param name: the parameter.
    :param value: its value.
    :param choices: what it may be.
    :raises InvalidInputError: naming all of these.
    """
    if value not in choices:
        raise InvalidInputError(f"{name} is {value!r}: it must be one of {', '.join(map(repr, choices))}")
    return value


def _is_finite(value: object) -> bool:
    """Whether it is a number; True and False are none, though Python counts with them."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False
