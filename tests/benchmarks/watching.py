"""Thousands of triggers in one real triggerer: ours, and one that asks for its own operation, as the peers' do."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.cancelling import Scale
from tests.benchmarks.emulating import LATENCY, ManyOperations, emulating
from tests.benchmarks.measuring import MIB, json_of, progress, tree
from tests.benchmarks.results import Part, Row, Target, at_most, number, percentile, requests_per_poll
from tests.support.airflow_parts import TRIGGERER, AirflowParts
from tests.support.deferred_dag import write_dag
from tests.support.processes import ProcessGroup

__all__ = ["watch"]

INTERVAL = 10.0
CONN_ID = "benchmark"

_LOADING_SECONDS = 240.0
"""How long a triggerer may take to start all triggers, before what they do is counted."""
_ENDING_SHARE = 0.1
"""So many of the operations end while they are watched, one after the other."""
_MOST_REQUESTS = 8
_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Of asyncio's default executor."""


@dataclass(frozen=True)
class _Seen:
    """What one kind of trigger was seen to do.

    :param loading: seconds until the triggerer had all triggers.
    :param running: triggers that had been started by then, as Airflow's log says.
    :param requests: in the time it was watched.
    :param per_poll: requests of one poll of all operations.
    :param cpu: seconds of the triggerer's processes in that time.
    :param cpu_of_runner: those of the process that runs the triggers.
    :param pss: bytes of memory at the end of it.
    :param delays: seconds from the end of each operation that ended to its event.
    :param stored: seconds from its end until Airflow's database knew of the event.
    :param ended: operations that ended in that time.
    :param lost: operations that ended in that time and had no event.
    """

    loading: float
    running: int
    requests: int
    per_poll: float
    cpu: float
    cpu_of_runner: float
    pss: int
    delays: tuple[float, ...]
    stored: tuple[float, ...]
    ended: int
    lost: int


def watch(scale: Scale) -> Part:
    """Let one triggerer watch with each kind of trigger, one after the other."""
    count = scale.operations
    dags = scale.folder / "dags"
    write_dag(dags, "benchmark")
    with emulating(scale.folder / "watch") as server, _airflow(scale, server) as airflow:
        ours, peers = (_watched(kind, airflow, server, scale) for kind in ("ours", "peers"))
    slowest = max(ours.delays, default=float("inf"))
    figures: list[tuple[str, str, str, Target | None]] = [
        ("requests per poll", f"{ours.per_poll:.1f}", f"{peers.per_poll:.1f}", at_most(ours.per_poll, _MOST_REQUESTS)),
        ("requests in that time", str(ours.requests), str(peers.requests), None),
        ("triggerer: CPU seconds in that time", f"{ours.cpu:.1f}", f"{peers.cpu:.1f}", None),
        ("of these, of the triggers' process", f"{ours.cpu_of_runner:.1f}", f"{peers.cpu_of_runner:.1f}", None),
        ("triggerer: memory at its end, MiB", f"{ours.pss / MIB:.0f}", f"{peers.pss / MIB:.0f}", None),
        ("seconds until the triggerer had them all", f"{ours.loading:.0f}", f"{peers.loading:.0f}", None),
        ("triggers running before that time", str(ours.running), str(peers.running), None),
        ("operations that ended in that time", str(ours.ended), str(peers.ended), None),
        ("of these without an event", str(ours.lost), str(peers.lost), at_most(ours.lost, 0)),
        ("seconds from end to event, median", _delay(ours.delays, 0.5), _delay(peers.delays, 0.5), None),
        (
            "the same, the longest",
            *(_delay(ours.delays, 1.0), _delay(peers.delays, 1.0)),
            at_most(slowest, INTERVAL + 1, " s"),
        ),
        ("from end to Airflow's database, the longest", _delay(ours.stored, 1.0), _delay(peers.stored, 1.0), None),
    ]
    return Part(
        "watch",
        f"Watch {count} operations by {count} triggers in one triggerer",
        ("what", "ours", "one GET each"),
        tuple(Row((what, shown, other), target) for what, shown, other, target in figures),
        (
            f"""One `airflow triggerer`, interval {number(INTERVAL)} s, {number(scale.watch_seconds)} s, 100 ms latency,
            no quota, first with our triggers, then with the others. No scheduler runs: the DAG run, its deferred
            mapped instances and their triggers were written into Airflow's database (SQLite) through its ORM, in
            place of as many task starts. When a trigger fired, its log says; when Airflow's database knew, the task
            instance, which is `scheduled` then (Airflow looks once a second); when an operation ended, the emulator.
            `[triggerer] capacity` is above the number
            of triggers, `max_trigger_to_select_per_loop` 1000 (default 50); all other settings, the log level too,
            are Airflow's. CPU is that of all processes of the triggerer, memory their PSS.""",
            f"""Requests per poll: all requests, divided by how often the same page or operation was asked for. The
            other trigger is written as the peers do: a loop, `asyncio.to_thread` around a hook, `asyncio.sleep`; but
            all share one hook, as to ask Airflow for the connection 3000 times took the triggerer longer than this
            benchmark does. Python gives `to_thread` {_THREADS} threads here: with 100 ms latency a round of {count}
            GETs takes {number(count * LATENCY / _THREADS)} s, so it makes fewer requests than its interval asks for,
            and its events are late. A triggerer starts its triggers one after the other: what is counted begins when
            Airflow's log says that all run, and for the others when each operation was asked for once, or
            {number(_LOADING_SECONDS)} s after the triggerer was started.""",
        ),
    )


def _delay(seconds: Sequence[float], share: float) -> str:
    return f"{percentile(seconds, share):.1f}" if seconds else "no event"


def _fired(logs: Path, kind: str) -> Iterator[tuple[int, float]]:
    """Map indexes of the instances whose trigger fired, and when, as the triggers' logs say."""
    for log in logs.glob(f"dag_id=benchmark/run_id={kind}-*/task_id=wait/map_index=*/*.log"):
        for line in log.read_text().splitlines():
            if '"Trigger fired event"' in line:
                entry = json.loads(line)
                yield int(entry["map_index"]), datetime.fromisoformat(entry["timestamp"]).timestamp()


@contextmanager
def _airflow(scale: Scale, server: ManyOperations) -> Iterator[AirflowParts]:
    """An Airflow that has the DAG in its database, of which nothing runs yet."""
    airflow = AirflowParts(
        scale.folder / "airflow",
        scale.folder / "dags",
        connections={CONN_ID: server.connection_extras(requests_per_second=100_000)},
        settings={
            "AIRFLOW__TRIGGERER__CAPACITY": str(scale.operations + 1000),
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1000",
        },
    )
    try:
        progress("watch: making Airflow's database")
        airflow.prepare()
        airflow.run("dags", "reserialize")
        yield airflow
    finally:
        airflow.__exit__(None, None, None)


def _watched(kind: str, airflow: AirflowParts, server: ManyOperations, scale: Scale) -> _Seen:
    server.clear()
    # They end one after the other, in the time that loading and watching may take together.
    seconds = _LOADING_SECONDS + scale.watch_seconds
    every = round(1 / _ENDING_SHARE)
    ending = [
        server.add(1, run_seconds=seconds * position / scale.operations)[0]
        for position in range(0, scale.operations, every)
    ]
    # Among the others, as a triggerer takes the oldest triggers first.
    others = iter(server.add(scale.operations - len(ending)))
    names = [next(others) if position % every else ending[position // every] for position in range(scale.operations)]
    given = {"kind": kind, "names": names, "conn_id": CONN_ID, "interval": INTERVAL}
    _in_airflow(airflow, "add", given)
    progress(f"watch: {kind}: {len(names)} deferred instances; starting the triggerer")
    began, loaded = time.time(), server.mark()
    airflow.start(TRIGGERER)
    triggerer = airflow._parts[TRIGGERER]
    while _triggers_to_take(airflow):
        triggerer.check_running()
        if time.time() - began > _LOADING_SECONDS:
            raise RuntimeError(f"{_triggers_to_take(airflow)} triggers were not taken:\n{triggerer.tail()}")
        time.sleep(1)
    loading = time.time() - began
    # A triggerer starts those it has taken one after the other; who asks for each by itself takes longer still.
    while not _all_run(airflow, triggerer) or (kind == "peers" and _asked_for(server, loaded) < len(names)):
        triggerer.check_running()
        if time.time() - began > _LOADING_SECONDS:
            break
        time.sleep(5)
    running = _running(triggerer)
    time.sleep(INTERVAL)  # the first poll of the last one
    progress(f"watch: {kind}: watching begins after {time.time() - began:.0f} s")
    mark, before, since = server.mark(), tree(triggerer.pid), time.time()
    time.sleep(scale.watch_seconds)
    requests, after, until = server.requests_since(mark), tree(triggerer.pid), time.time()
    triggerer.check_running()
    asked = [each for each in requests if each["method"] in {"get", "list"} and each["time"] <= until]
    ended = {name: moment for name, moment in server.ended_at().items() if moment <= until}
    # The events of the last that ended.
    time.sleep(INTERVAL + 5 + (scale.operations * LATENCY / _THREADS if kind == "peers" else 0))
    state = _in_airflow(airflow, "state", {})
    airflow._parts.pop(TRIGGERER).stop()
    _in_airflow(airflow, "clear", {})
    if state["failed"]:
        raise RuntimeError(f"{len(state['failed'])} triggers failed:\n{triggerer.output}")
    stored = {names[int(position)]: moment for position, moment in state["events"].items()}
    fired = {names[position]: moment for position, moment in _fired(airflow.home / "logs", kind)}
    in_time = {name: moment for name, moment in ended.items() if moment >= since}
    seen = _Seen(
        loading=loading,
        running=running,
        requests=len(asked),
        per_poll=requests_per_poll(asked, seconds=until - since, interval=INTERVAL),
        cpu=after.cpu - before.cpu,
        cpu_of_runner=after.cpu_below - before.cpu_below,
        pss=after.pss,
        delays=tuple(fired[name] - moment for name, moment in in_time.items() if name in fired),
        stored=tuple(stored[name] - moment for name, moment in in_time.items() if name in stored),
        ended=len(in_time),
        lost=sum(name not in stored for name in in_time),
    )
    unlogged = sum(name in stored and name not in fired for name in in_time)
    progress(f"watch: {kind}: of {unlogged} events the trigger's log does not say when it fired")
    progress(f"watch: {kind}: {seen.per_poll:.1f} requests per poll, {seen.cpu:.0f} CPU s, {len(seen.delays)} ended")
    first = [
        f"{each['time'] - since:.0f}"
        for each in asked
        if each["method"] == "list" and not each["query"].get("pageToken")
    ]
    methods = Counter(f"{each['method']} {each['status']}" for each in asked)
    progress(f"watch: {kind}: {dict(methods)}; asked at {' '.join(first)}")
    return seen


def _running(triggerer: ProcessGroup) -> int:
    """How many triggers run, as Airflow's log says once a minute."""
    said = re.findall(r"(\d+) triggers currently running", triggerer.output.read_text(errors="replace"))
    return int(said[-1]) if said else 0


def _all_run(airflow: AirflowParts, triggerer: ProcessGroup) -> bool:
    return _running(triggerer) >= _count(airflow, "SELECT count(*) FROM task_instance WHERE state = 'deferred'")


def _asked_for(server: ManyOperations, mark: int) -> int:
    return len({each["name"] for each in server.requests_since(mark) if each["method"] == "get"})


def _in_airflow(airflow: AirflowParts, command: str, given: Mapping[str, Any]) -> Any:
    return json_of("deferred", command, seconds=300, given=json.dumps(given), env=airflow.env)


def _triggers_to_take(airflow: AirflowParts) -> int:
    return _count(airflow, "SELECT count(*) FROM trigger WHERE triggerer_id IS NULL")


def _count(airflow: AirflowParts, sql: str) -> int:
    with closing(sqlite3.connect(airflow.database().path, timeout=30)) as connection:
        (count,) = connection.execute(sql).fetchone()
    return int(count)
