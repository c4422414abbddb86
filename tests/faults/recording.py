"""What a run has seen, for the page."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.case import Method
from tests.faults.page import Told

__all__ = ["Recorded"]


@dataclass
class Recorded:
    """What was seen of each row and scene."""

    rows: dict[tuple[str, Method], Told] = field(default_factory=dict)
    scenes: dict[str, str] = field(default_factory=dict)
