"""What a forked process makes anew: it has none of its parent's threads, so nobody lets go of a lock that one held."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Renewable", "renew_when_forked"]


class Renewable(Protocol):
    """Has locks or connections."""

    def renew(self) -> None:
        """Make them anew; called in the forked process, which has one thread then. It takes no lock."""


_living: WeakSet[Renewable] = WeakSet()


def renew_when_forked(thing: Renewable) -> None:
    """Have a thing renewed in each process that is forked from this one, for as long as it lives.

    :param thing: what has locks or connections.
    """
    _living.add(thing)


def _renew() -> None:
    for thing in list(_living):
        thing.renew()


os.register_at_fork(after_in_child=_renew)
