"""Some of the boundaries with a real process, really killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundaries.dying import Shared
from tests.boundaries.test_boundaries import World, check_reattached, world
from tests.boundaries.walking import Boundaries

__all__ = ["world"]

pytestmark = pytest.mark.usefixtures("connection")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("at", "how", "is_retained"),
    [(8, "SIGKILL", True), (11, "exit", False), (13, "SIGKILL", True), (15, "SIGKILL", False), (24, "exit", True)],
)
def test_the_next_try_of_a_killed_process(world: World, tmp_path: Path, at: int, how: str, is_retained: bool) -> None:
    world.task_parameters = {"is_retained": is_retained}
    task = world.task()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.boundaries.dying",
            str(tmp_path),
            str(at),
            how,
            json.dumps(world.task_parameters),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (1 if how == "exit" else -9), done.stderr
    assert "Traceback" not in done.stderr
    Shared(tmp_path / "shared.json").read(task)
    rows = task.run(Boundaries())
    assert rows is not None
    check_reattached(world, task, rows, f"{at} {how}")
