"""What a forked process makes anew: it has none of its parent's threads, so nobody lets go of a lock that one held."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["renew_when_forked"]

T = TypeVar("T")

_living: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def renew_when_forked(thing: T, renew: Callable[[T], None]) -> None:
    """Have a thing renewed in each process that is forked from this one, for as long as it lives.

    :param thing: what has locks or connections.
    :param renew: makes them anew; called in the forked process, which has one thread then. It takes no lock, and holds
        no reference to the thing.
    """
    _living[thing] = renew


def _renew() -> None:
    for thing, renew in list(_living.items()):
        renew(thing)


os.register_at_fork(after_in_child=_renew)
