"""The inputs that found something or went where no other had: one file, a line each."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["Seed", "read", "write"]

_FILE = Path(__file__).with_name("seeds.jsonl")


class Seed(NamedTuple):
    """One input of one harness."""

    harness: str
    data: bytes


def read() -> list[Seed]:
    """The seeds that are kept."""
    lines = map(json.loads, _FILE.read_text(encoding="ascii").splitlines())
    return [Seed(line["harness"], base64.b64decode(line["data"])) for line in lines]


def write(seeds: list[Seed]) -> None:
    """Keep these.

    :param seeds: the seeds.
    """
    lines = [json.dumps({"harness": harness, "data": base64.b64encode(data).decode()}) for harness, data in seeds]
    _FILE.write_text("\n".join([*sorted(set(lines)), ""]), encoding="ascii")
