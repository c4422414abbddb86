"""Measures, judges against the figures to reach, writes docs/benchmarks.md: ``python -m tests.benchmarks``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tests.benchmarks import cancelling, growth, imports, installing, page, watching
from tests.benchmarks.cancelling import Scale
from tests.benchmarks.measuring import ROOT, progress
from tests.benchmarks.results import Part, missed, plain

__all__ = ["main"]

PARTS: Mapping[str, Callable[[Scale], Part]] = {
    "cancel": cancelling.cancel,
    "quota": cancelling.quota,
    "confirm": cancelling.confirm,
    "watch": watching.watch,
    "growth": growth.growth,
    "imports": imports.imports,
    "install": installing.install,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 if a figure was missed, after all was written."""
    options = _parser().parse_args(argv)
    chosen = options.only or list(PARTS)
    whole = len(chosen) == len(PARTS) and not (options.quick or options.watch_seconds)
    output: Path = options.output or (ROOT / "docs" if whole else ROOT / ".cache" / "benchmarks")
    # Airflow is imported by many processes here; without bytecode each takes seconds, whatever is measured.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".cache" / "bytecode")
    parts = []
    with tempfile.TemporaryDirectory(prefix="eeops-benchmarks-") as folder:
        scale = Scale(Path(folder), with_google=options.with_google)
        if options.quick:
            scale = replace(scale, operations=200, rounds=1, watch_seconds=45)
        if options.watch_seconds:
            scale = replace(scale, watch_seconds=options.watch_seconds)
        for name in chosen:
            began = time.monotonic()
            progress(f"{name} begins")
            parts.append(PARTS[name](scale))
            progress(f"{name} took {time.monotonic() - began:.0f} s")
    for part in parts:
        print(f"\n{plain(part)}")
    page.write(parts, output, arguments=sys.argv[1:] if argv is None else argv)
    print(f"\nwritten: {output / 'benchmarks.md'}")
    for line in missed(parts):
        print(f"missed: {line}")
    return 1 if missed(parts) else 0


def _names(text: str) -> list[str]:
    """Read names of parts, commas between."""
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Benchmarks against the emulator.")
    parser.add_argument("--only", type=_names, help=f"these parts only, with commas between: {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="200 operations in place of 3000, to develop with")
    parser.add_argument("--watch-seconds", type=float, help="how long triggers are watched, of each kind")
    parser.add_argument("--with-google", action="store_true", help="install Google's provider (1.2 GiB) and measure it")
    parser.add_argument("--output", type=Path, help="folder for the page; docs for a whole run, else .cache/benchmarks")
    return parser


def _end(_number: int, _frame: FrameType | None) -> None:
    """End as an error does, so that every process that was started is stopped."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
