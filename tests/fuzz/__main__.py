"""Fuzz each harness for its share of the time, and say how far each got: ``make fuzz``.

What is found lies in ``.cache/fuzz-findings``, and the exit code is 1. With ``--keep`` the inputs that went where no
seed had are added to the seeds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import seeds
from tests.fuzz.covering import fewest
from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.structure import WORDS

FINDINGS = Path(".cache/fuzz-findings")
AT_ONCE = 2
LARGEST_SEED = 512
MOST_SEEDS = 40


def fuzz(harness: str, corpus: Path, seconds: int) -> int:
    """Fuzz one harness; return libFuzzer's exit code.

    :param harness: which.
    :param corpus: where its inputs are, and are put.
    :param seconds: how long.
    """
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    options = [
        f"-max_total_time={seconds}",
        "-max_len=2048",
        "-timeout=30",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    ran = _target(harness, *options, f"-dict={words}", f"-artifact_prefix={FINDINGS}/{harness}-", str(corpus))
    executed = re.findall(r"number_of_executed_units: (\d+)", ran.stderr)
    coverage = re.findall(r"cov: (\d+)", ran.stderr)
    print(
        f"{harness}: {executed[-1] if executed else 'an unknown number of'} inputs in {seconds} s, coverage"
        f" {coverage[0] if coverage else '?'} -> {coverage[-1] if coverage else '?'}, exit code {ran.returncode}"
    )
    if ran.returncode:
        print(ran.stderr[-4000:])
    return ran.returncode


def widening(harness: str, corpus: Path) -> Iterator[seeds.Seed]:
    """The fewest small inputs that go wherever the small ones of the corpus go.

    :param harness: which.
    :param corpus: where its inputs are.
    """
    inputs = [path.read_bytes() for path in corpus.iterdir() if path.stat().st_size <= LARGEST_SEED]
    yield from (seeds.Seed(harness, data) for data in fewest(HARNESSES[harness], inputs)[:MOST_SEEDS])


def _target(harness: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.target", harness, *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass"))


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all harnesses together (default: 600)")
    parser.add_argument("--keep", action="store_true", help="add to the seeds what went where none had")
    arguments = parser.parse_args()
    share = max(1, arguments.seconds * AT_ONCE // len(HARNESSES))
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(AT_ONCE) as executor:
        corpora = {harness: Path(place, harness) for harness in HARNESSES}
        for corpus in corpora.values():
            corpus.mkdir()
        for number, seed in enumerate(seeds.read()):
            (corpora[seed.harness] / f"seed-{number}").write_bytes(seed.data)
        codes = list(executor.map(lambda harness: fuzz(harness, corpora[harness], share), HARNESSES))
        if arguments.keep:
            found = [seed for harness, corpus in corpora.items() for seed in widening(harness, corpus)]
            seeds.write([*seeds.read(), *found])
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
