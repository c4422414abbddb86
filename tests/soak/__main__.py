"""Soaks one triggerer, judges, prints the figures: ``python -m tests.soak``.

Ends with 0 if all is right, 1 if a figure is missed, 2 if it could not run to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.benchmarks.measuring import ROOT
from tests.benchmarks.results import missed, plain
from tests.soak.figures import figures, told
from tests.soak.running import Options, soak

__all__ = ["main"]

_MISSED, _NOT_RUN = 1, 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
_MOST_BESIDES = 175
"""Seconds that starting, draining and judging may take, besides the time that is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the figures, write them as JSON; return the exit code."""
    given = _parser().parse_args(argv)
    options = Options(60 * given.minutes, operations=given.operations, seed=given.seed)
    # Airflow is imported by several processes here; without bytecode each takes seconds.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".cache" / "bytecode")
    signal.setitimer(signal.ITIMER_REAL, options.seconds + _MOST_BESIDES)
    try:
        with _folder(given.keep) as folder:
            run, server = soak(options, folder)
        part, wrong = figures(run, server)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it was, it is no figure
        traceback.print_exception(error)
        print("The soak could not run to its end.")
        return _NOT_RUN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(f"\n{plain(part)}")
    for line in wrong:
        print(f"wrong: {line}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(told(run, server, part, options), indent=1))
    print(f"\nwritten: {given.output}")
    for line in missed([part]):
        print(f"missed: {line}")
    return _MISSED if missed([part]) else 0


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="eeops-soak-") as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True)
        yield keep.resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Soak one triggerer in operations.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long operations come and go; at least 2")
    parser.add_argument("--operations", type=int, default=500, help="how many there are at a time")
    parser.add_argument("--seed", type=int, default=5, help="of what is drawn")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave Airflow's files and logs there")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "soak" / "soak.json", help="for the figures")
    return parser


def _end(number: int, _frame: FrameType | None) -> None:
    """End as an error does, so that every process that was started is stopped; once is enough."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    for each in _SIGNALS:
        signal.signal(each, _end)
    sys.exit(main())
