"""When a wait ends: decisions from moments given as seconds since the epoch, which mean the same in every process."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["backstop", "deadline_of"]

_BACKSTOP = 120.0
"""Seconds after our deadline at which Airflow's own deferral timeout ends a wait whose triggerer is gone."""


def deadline_of(timeout: float | None, *, now: float, limit: float | None = None) -> float | None:
    """Say when a wait ends that begins now; None if never.

    :param timeout: seconds it may take; None for no limit.
    :param now: the moment it begins.
    :param limit: another moment at which it ends; None for none.
    """
    moments = [] if timeout is None else [now + timeout]
    if limit is not None:
        moments.append(limit)
    return min(moments, default=None)


def backstop(deadline: float | None, *, now: float) -> timedelta | None:
    """Airflow's own deferral timeout, some time after our deadline: it only counts if no trigger runs.

    :param deadline: when the wait ends; None for never.
    :param now: the present moment.
    """
    return None if deadline is None else timedelta(seconds=max(0.0, deadline - now) + _BACKSTOP)
