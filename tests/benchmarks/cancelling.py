"""To cancel thousands of operations: ours, Google's client in a loop and in threads, Google's command line; a quota."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.emulating import PROJECT, ManyOperations, emulating
from tests.benchmarks.measuring import json_of, progress, run, tree
from tests.benchmarks.results import Part, Row, at_least, at_most, number

__all__ = ["FAST", "Scale", "cancel", "confirm", "environment", "figures_of", "quota"]

FAST = 100_000
"""Requests a second of a connection that has no quota to keep to."""

_SAMPLE = 100
_QUOTA = 100
_CONCURRENCIES = (16, 32)
_REQUESTED = {"cancel_requested", "cancelled"}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    :param folder: for what the parts leave on disk.
    :param operations: how many operations.
    :param rounds: how often what is compared is measured, one after the other; the best counts.
    :param watch_seconds: how long triggers are watched.
    :param with_google: install Google's provider and measure it.
    """

    folder: Path
    operations: int = 3000
    rounds: int = 3
    watch_seconds: float = 300.0
    with_google: bool = False


def environment() -> Mapping[str, str]:
    """Whatever else Google's client asks for fails at once."""
    return {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1", "PYTHONWARNINGS": "ignore"}


def figures_of(kind: str, server: ManyOperations, names: list[str], folder: Path, **given: Any) -> dict[str, Any]:
    """Let a process of its own do it; return the figures it printed."""
    given = {"extras": server.connection_extras(requests_per_second=FAST), "folder": str(folder)} | given
    answer: dict[str, Any] = json_of(
        "clients", kind, seconds=600, given=json.dumps({"names": names, **given}), env=environment()
    )
    return answer


def cancel(scale: Scale) -> Part:
    """Cancel without a quota, against everything a user has today."""
    count, sample = scale.operations, min(_SAMPLE, scale.operations)
    best: dict[tuple[str, int], dict[str, Any]] = {}

    def measure(kind: str, concurrency: int, how_many: int) -> None:
        server.clear()
        names, before = server.add(how_many), tree(server.process.pid)
        figures = figures_of(kind, server, names, scale.folder, concurrency=concurrency)
        figures["emulator"] = (tree(server.process.pid).cpu - before.cpu) / how_many
        progress(f"cancel: {kind} at {concurrency}: {figures['seconds']:.2f} s for {how_many}")
        if figures["outcomes"].keys() - {*_REQUESTED, "answered"}:
            raise RuntimeError(f"not all were cancelled: {figures['outcomes']}")
        figures["each"] = figures["seconds"] / how_many
        figures["count"] = how_many
        known = best.get((kind, concurrency))
        if known is None or figures["seconds"] < known["seconds"]:
            best[kind, concurrency] = figures

    with emulating(scale.folder / "cancel") as server:
        for round_ in range(scale.rounds):
            for concurrency in _CONCURRENCIES:
                # Who is first takes turns, as the machine may be faster or slower for a while.
                for kind in ("api", "threads") if round_ % 2 == 0 else ("threads", "api"):
                    measure(kind, concurrency, count)
        for concurrency in _CONCURRENCIES:
            measure("hook", concurrency, count)
        measure("threads", 1, sample)
        line = _command_line(server, sample, scale.folder)
    loop = best["threads", 1]
    rows = [
        Row(("`earthengine task cancel`", "1", str(sample), *_costs({"seconds": line, "each": line / sample}))),
        Row(("`ee.data.cancelOperation` in a loop", "1", str(sample), *_costs(loop))),
    ]
    for concurrency in _CONCURRENCIES:
        threads, ours, looking = (best[kind, concurrency] for kind in ("threads", "api", "hook"))
        level = at_most(round(ours["seconds"], 2), round(threads["seconds"], 2), " s, as the threads")
        rows += [
            Row(("threads around `ee.data.cancelOperation`", str(concurrency), str(count), *_costs(threads))),
            Row(("ours, no look afterwards", str(concurrency), str(count), *_costs(ours)), level),
            Row(("ours, with a look afterwards", str(concurrency), str(count), *_costs(looking))),
        ]
    fastest = min((best["hook", concurrency] for concurrency in _CONCURRENCIES), key=lambda each: each["each"])
    times = line / sample / fastest["each"]
    load = max(figures["emulator"] / figures["each"] for figures in best.values())
    rows.append(
        Row(
            ("command line : ours with the look, per operation", "", "", "", f"{times:.0f} times", ""),
            at_least(times, 50, " times"),
        )
    )
    return Part(
        "cancel",
        f"Cancel {count} operations, no quota",
        ("what", "at once", "operations", "seconds", "ms per operation", "client CPU ms per operation"),
        tuple(rows),
        (
            f"""100 ms latency. Threads and ours: the best of {scale.rounds} rounds, in turns, each in a process of its
            own with a token and an open connection; the other rows once. The command line is timed from its start
            to its end, as a user waits for it. The look afterwards lists pages and replaces a guess: Google's
            client and the command line have none. `requests_per_second` of our connection is raised, as there is no
            quota. The emulator used at most {100 * load:.0f} % of a core while it was asked.""",
        ),
    )


def _costs(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    each = figures["each"]
    cpu = f"{figures['cpu'] / figures['count'] * 1000:.2f}" if "cpu" in figures else ""
    return f"{figures['seconds']:.2f}", f"{each * 1000:.2f}", cpu


def _command_line(server: ManyOperations, sample: int, folder: Path) -> float:
    """Seconds that Google's command line takes."""
    server.clear()
    ids = [name.rsplit("/", 1)[1] for name in server.add(sample)]
    config = folder / "earthengine.json"
    config.write_text(json.dumps({"url": server.base_url, "project": PROJECT}))
    began = time.perf_counter()
    run(
        [
            *(sys.executable, "-c", "import ee.cli.eecli as cli; cli.main()"),
            *("--ee_config", str(config), "--service_account_file", str(server.key_path), "task", "cancel", *ids),
        ],
        seconds=300,
        env={**environment(), "HOME": str(folder)},
    )
    seconds = time.perf_counter() - began
    progress(f"cancel: earthengine task cancel: {seconds:.2f} s for {sample}")
    return seconds


def quota(scale: Scale) -> Part:
    """Cancel against a quota, with what a connection has by default."""
    count = scale.operations
    limit = count / _QUOTA
    with emulating(scale.folder / "quota", "--requests-per-second", str(_QUOTA)) as server:
        alone = _against_quota(server, count, 1, scale.folder)
        time.sleep(2)  # the quota is whole again
        shared = _against_quota(server, count, 2, scale.folder)
    rows = [
        Row(("one process", *_of_quota(alone)[0]), at_most(round(alone.seconds, 1), limit * 1.1, " s")),
        Row(("the same", *_of_quota(alone)[1]), at_most(alone.failed, 0)),
        Row(("the same", *_of_quota(alone)[2]), at_most(alone.refused, 1, " %")),
        *(Row(("two processes, half each", *cells)) for cells in _of_quota(shared)),
    ]
    return Part(
        "quota",
        f"Cancel {count} operations, {_QUOTA} requests a second",
        ("who", "what", "measured"),
        tuple(rows),
        (
            f"""100 ms latency; above {_QUOTA} requests a second the emulator answers 429 with Retry-After. The
            connection has no `requests_per_second` and the hook no `max_concurrency`: the defaults. The limit itself
            is {number(limit)} s; seconds are those of the slower process, the look afterwards included. Two processes
            do not know of each other's requests: they have no figure to reach.""",
        ),
    )


@dataclass(frozen=True)
class _Paced:
    """What came of a quota.

    :param seconds: of the slowest process.
    :param failed: operations.
    :param refused: per cent of the requests that were answered 429.
    """

    seconds: float
    failed: int
    refused: float


def _against_quota(server: ManyOperations, count: int, processes: int, folder: Path) -> _Paced:
    server.clear()
    names = server.add(count)
    mark = server.mark()
    extras = server.connection_extras()

    def cancel(share: list[str]) -> dict[str, Any]:
        return figures_of("hook", server, share, folder, extras=extras)

    with ThreadPoolExecutor(processes) as executor:
        found = list(executor.map(cancel, [names[first::processes] for first in range(processes)]))
    seconds = max(figures["seconds"] for figures in found)
    outcomes = sum((Counter(figures["outcomes"]) for figures in found), Counter[str]())
    statuses = sum(
        (Counter(found) for method, found in server.counts_since(mark).items() if method != "token"), Counter[str]()
    )
    progress(f"quota: {processes} processes: {seconds:.1f} s")
    failed = sum(outcomes.values()) - sum(outcomes[each] for each in _REQUESTED)
    return _Paced(seconds, failed, 100 * statuses["429"] / sum(statuses.values()))


def _of_quota(paced: _Paced) -> tuple[tuple[str, str], ...]:
    return (
        ("seconds", f"{paced.seconds:.1f}"),
        ("operations that failed", str(paced.failed)),
        ("share of requests answered 429", f"{paced.refused:.2f} %"),
    )


def confirm(scale: Scale) -> Part:
    """Look what became of cancelled operations."""
    count = scale.operations
    rows: list[Row] = []
    with emulating(scale.folder / "confirm", "--cancel-seconds", "0") as server:
        names = server.add(count, cancelled=True)
        gets = _asked("gets", server, names, scale, concurrency=16)
        rows.append(Row(("one GET each, 16 threads around `ee.data.getOperation`", *_shown(gets))))
        for what, others in (("ours", 0), (f"ours, {count} newer operations of others in the project", count)):
            server.add(others)
            ours = _asked("observe", server, names, scale)
            if ours["outcomes"] != {"cancelled": count}:
                raise RuntimeError(f"not all were seen: {ours['outcomes']}")
            rows.append(Row((what, *_shown(ours)), at_most(ours["requests"], gets["requests"] // 100)))
    return Part(
        "confirm",
        f"Confirm {count} cancelled operations",
        ("what", "requests", "seconds"),
        tuple(rows),
        ("100 ms latency, no quota. The emulator counts the requests. A page of a listing has 500 operations.",),
    )


def _asked(kind: str, server: ManyOperations, names: list[str], scale: Scale, **given: Any) -> dict[str, Any]:
    mark = server.mark()
    figures = figures_of(kind, server, names, scale.folder, **given)
    counts = server.counts_since(mark)
    # One GET opened the connection and was not measured.
    figures["requests"] = sum(sum(counts.get(method, {}).values()) for method in ("get", "list")) - 1
    progress(f"confirm: {kind}: {figures['requests']} requests")
    return figures


def _shown(figures: Mapping[str, Any]) -> tuple[str, str]:
    return str(figures["requests"]), f"{figures['seconds']:.2f}"
