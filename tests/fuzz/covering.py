"""The fewest inputs that go wherever all go. libFuzzer's own merge starts itself anew, which a module cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

__all__ = ["fewest"]

Step = tuple[str, int, int]


def fewest(harness: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Choose inputs, the shortest first, each of which takes a step in the package that those before did not.

    :param harness: what is run.
    :param inputs: the inputs.
    """
    chosen: list[bytes] = []
    known: set[Step] = set()
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        steps = _steps(harness, data)
        if not steps <= known:
            known |= steps
            chosen.append(data)
    return chosen


def _steps(harness: Callable[[bytes], None], data: bytes) -> set[Step]:
    """The pairs of lines of the package that ran one after the other."""
    steps: set[Step] = set()

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if "airflow_provider_eeops" not in name:
            return None
        last = 0

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                steps.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        harness(data)
    finally:
        sys.settrace(before)
    return steps
