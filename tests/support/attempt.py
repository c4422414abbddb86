"""Calls that may fail in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["attempt"]

E = TypeVar("E", bound=Exception)


def attempt(call: Callable[..., Any], *arguments: Any, error: type[E]) -> tuple[Any, E | None]:
    """Call, and return what came of it, or else the error; any other error is a finding.

    :param call: what to call.
    :param arguments: what with.
    :param error: what it may raise.
    """
    try:
        return call(*arguments), None
    except error as met:
        return None, met
