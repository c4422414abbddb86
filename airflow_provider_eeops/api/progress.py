"""How far many requests are, said at a rate that a person can read."""

from __future__ import annotations

__all__ = ["Progress"]

_SECONDS_BETWEEN = 10.0


class Progress:
    """Counts what is done of many, and has something to say of it every ten seconds.

    :param total: how many there are.
    :param now: the moment it begins, in seconds.
    """

    def __init__(self, total: int, *, now: float) -> None:
        self._total = total
        self._began = self._said = now
        self._done = 0

    def count(self, *, now: float) -> str | None:
        """Count one more; return what there is to say, if it is time to.

        :param now: seconds, of the clock it began with.
        """
        self._done += 1
        if now - self._said < _SECONDS_BETWEEN or self._done == self._total:
            return None
        self._said = now
        rate = self._done / (now - self._began)
        left = (self._total - self._done) / rate
        return f"{self._done} of {self._total}, {rate:.1f} a second, about {left:.0f} s left"
