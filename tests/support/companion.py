"""A Python process that does what it is asked: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Companion", "serve"]

_MARK = "answer: "


class Companion:
    """Starts a module that calls :func:`serve`; leaving the block ends it. May be asked from several threads.

    :param module: what to run.
    :param env: its environment.
    :param output: file for what it prints besides.
    :param cwd: its folder, from which it imports.
    """

    def __init__(self, module: str, *, env: Mapping[str, str], output: Path, cwd: Path) -> None:
        self.module = module
        self._env = {**env, "PYTHONPATH": str(cwd)}
        self._output = output
        self._cwd = cwd
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=self._env,
                cwd=self._cwd,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        process.kill()  # it keeps nothing
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def ask(self, command: str, **given: Any) -> Any:
        """Have it do something; return what it answers.

        :raises RuntimeError: it failed.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with self._one_at_a_time:
            try:
                print(json.dumps([command, given]), file=process.stdin, flush=True)
            except BrokenPipeError:
                pass
            else:
                for line in process.stdout:
                    if line.startswith(_MARK):
                        return json.loads(line.removeprefix(_MARK))
        raise RuntimeError(f"{self.module} failed:\n{self._output.read_text(errors='replace')[-4000:]}")


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Do what is asked until nobody asks any more.

    :param commands: what there is to do, by name.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # what else is printed here is no answer
    for line in sys.stdin:
        command, given = json.loads(line)
        print(_MARK + json.dumps(commands[command](**given)), file=answers, flush=True)
