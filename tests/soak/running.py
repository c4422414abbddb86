"""One run: operations come and go, requests fail, the emulator goes away and comes back, all is measured."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.benchmarks.measuring import ROOT, progress
from tests.soak import plan
from tests.soak.emulating import SoakEmulator, SoakServer
from tests.soak.judging import Sample, Seen
from tests.soak.logs import leaks, longest_block, secrets_of, trigger_logs
from tests.soak.plan import End, PlannedOperation, PlannedWait, Schedule
from tests.soak.usage import usage
from tests.support.airflow_parts import TRIGGERER, AirflowParts
from tests.support.companion import Companion
from tests.support.deferred_dag import write_dag
from tests.support.processes import ProcessGroup, wait_until

__all__ = ["Options", "Run", "soak"]

DAG_ID = RUN_ID = "soak"

_SIDE = "tests.soak.airflow_side"
_LOADING_SECONDS = 75.0
_LAST_EVENTS_SECONDS = 40.0
_CANCELS_EVERY = 10.0
_COMING_EVERY = 2.0
_TAKING_EVERY = 4.0
_SAMPLES_EVERY = 3.0
_OUTAGE_SECONDS = (10.0, 20.0)
_LATENCY = 0.05


@dataclass(frozen=True)
class Options:
    """What to run.

    :param seconds: how long operations come and go.
    :param operations: how many there are at a time.
    :param seed: of all that is drawn.
    :param fault_share: of the requests that fail.
    """

    seconds: float
    operations: int = 500
    seed: int = 5
    fault_share: float = 0.05


@dataclass
class Run:
    """What happened, and what was seen.

    :param schedule: when what was to be.
    :param began: when the first operations had triggers that ran, seconds since the epoch.
    :param waits: all waits, by map index.
    :param planned: all operations, by name.
    :param samples: what the triggerer used, and what was asked since the sample before.
    :param alive: how many operations there were at each look.
    :param cancels: operations whose cancellation was asked for.
    :param outcomes: what the reports said of those, by name.
    :param seen: of each wait, by map index.
    :param leaks: files that hold a credential.
    :param blocked: seconds for which the event loop of the triggers stood still at most.
    """

    schedule: Schedule
    began: float = 0.0
    waits: dict[int, PlannedWait] = field(default_factory=dict)
    planned: dict[str, PlannedOperation] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)
    seen: dict[int, Seen] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    blocked: float = 0.0


def soak(options: Options, folder: Path) -> tuple[Run, SoakServer]:
    """Run it to its end; what was started is stopped, whatever happens.

    :param options: what to run.
    :param folder: for all files.
    """
    random = Random(options.seed)
    emulator = SoakEmulator(
        Random(random.random()),
        fault_share=options.fault_share,
        latency=_LATENCY,
        pending_seconds=1.0,
        log_limit=1_000_000,
    )
    run = Run(Schedule(options.seconds))
    with ExitStack() as stack:
        server = stack.enter_context(SoakServer(emulator))
        keys = [server.key(conn_id) for conn_id in plan.CONNECTIONS]
        airflow = stack.enter_context(_airflow(folder, server, keys))
        feeder, canceller = (
            stack.enter_context(Companion(_SIDE, env=airflow.env, output=folder / f"{name}.log", cwd=ROOT))
            for name in ("feeder", "canceller")
        )
        feeder.ask("begin")
        threads = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        _Soaking(options, random, run, server, airflow, feeder, canceller, threads).soak()
        progress("stopping the triggerer")
        airflow._parts[TRIGGERER].stop()
        run.leaks = leaks(airflow.home, secrets_of(keys, emulator.tokens))
        _take_logs(run, airflow.home)
    return run, server


@contextmanager
def _airflow(folder: Path, server: SoakServer, keys: list[dict[str, Any]]) -> Iterator[AirflowParts]:
    """An Airflow that has the DAG in its database, of which nothing runs yet."""
    write_dag(folder / "dags", DAG_ID)
    connections = {}
    for conn_id, project, key in zip(plan.CONNECTIONS, plan.PROJECTS, keys, strict=True):
        path = folder / f"{conn_id}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(key))
        connections[conn_id] = {"base_url": server.base_url, "project": project, "key_path": str(path)}
    airflow = AirflowParts(
        folder / "airflow",
        folder / "dags",
        connections=connections,
        settings={
            "AIRFLOW__LOGGING__JSON_LOGS": "True",
            # All else as it is: max_trigger_to_select_per_loop above its 50 was seen to lock Airflow 3.3.2 up, when
            # the triggerer sends many triggers to a process that at the same moment sends it many lines of log.
            "AIRFLOW__TRIGGERER__CAPACITY": "5000",
        },
    )
    try:
        progress("making Airflow's database")
        airflow.prepare()
        airflow.run("dags", "reserialize")
        yield airflow
    finally:
        airflow.__exit__(None, None, None)


def _take_logs(run: Run, home: Path) -> None:
    """Add to the events that the database had what the logs of the triggers say."""
    run.blocked = max(longest_block(path.read_text(errors="replace")) for path in home.glob("triggerer*.log"))
    logs = trigger_logs([*home.glob("*.log"), *(home / "logs" / f"dag_id={DAG_ID}").rglob("*.log")])
    for index in run.seen.keys() | logs.keys():
        log, before = logs.get(index), run.seen.get(index)
        payloads = () if before is None else before.payloads
        run.seen[index] = Seen(None, (), payloads) if log is None else Seen(log.started, tuple(log.fired), payloads)


class _Soaking:
    """What is done while the triggerer runs."""

    def __init__(
        self,
        options: Options,
        random: Random,
        run: Run,
        server: SoakServer,
        airflow: AirflowParts,
        feeder: Companion,
        canceller: Companion,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._options = options
        self._random = random
        self._run = run
        self._server = server
        self._emulator = server.emulator
        self._airflow = airflow
        self._feeder = feeder
        self._canceller = canceller
        self._threads = threads
        self._indexes = itertools.count()
        self._to_strike: dict[str, float] = {}
        self._to_cancel: list[str] = []
        self._reports: list[Future[Any]] = []
        self._mark = 0
        self._sampled_at = 0.0

    def soak(self) -> None:
        """Let operations come and go until the time is over, and the rest end."""
        run, schedule = self._run, self._run.schedule
        run.began = time.time()
        progress("the first operations; starting the triggerer")
        self._come()
        self._airflow.start(TRIGGERER)
        triggerer = self._airflow._parts[TRIGGERER]
        wait_until("the first poll", lambda: self._is_polled(triggerer), seconds=_LOADING_SECONDS, every=1)
        run.began = time.time()
        progress(f"{options_words(self._options)}: begins")
        outages = iter(schedule.outages)
        away_at: float = next(outages)
        back_at: float | None = None
        every = {_COMING_EVERY: self._come, _CANCELS_EVERY: self._cancel, _TAKING_EVERY: self._take}
        every[_SAMPLES_EVERY] = lambda: self._sample(triggerer.pid)
        due = dict.fromkeys(every, 0.0)
        while (now := self._now) < schedule.drained:
            triggerer.check_running()
            self._strike()
            for seconds, act in every.items():
                if due[seconds] <= now:
                    due[seconds] = now + seconds
                    act()
            if back_at is not None and now >= back_at:
                self._server.come_back()
                progress("the emulator is back")
                back_at, away_at = None, next(outages, float("inf"))
            elif back_at is None and now >= away_at:
                self._server.go()
                back_at = now + self._random.uniform(*_OUTAGE_SECONDS)
                progress(f"the emulator is away for {back_at - now:.0f} s")
            time.sleep(0.25)
        progress("the last operations have ended")
        self._cancel()
        until = time.monotonic() + _LAST_EVENTS_SECONDS
        while len(run.seen) < len(run.waits) and time.monotonic() < until:
            self._take()
            time.sleep(1)
        time.sleep(3)  # an event too many would come by now
        self._take()
        for report in self._reports:
            self._note(report.result(timeout=30))

    @property
    def _now(self) -> float:
        return time.time() - self._run.began

    def _is_polled(self, triggerer: ProcessGroup) -> bool:
        triggerer.check_running()
        return self._emulator.count("list") > 0

    def _come(self) -> None:
        """Replace what has ended, and have it waited for."""
        running = self._emulator.running()
        self._run.alive.append(len(running))
        if self._now >= self._run.schedule.seconds:
            return
        missing = self._options.operations - len(running)
        new = [self._start(is_first=not self._run.waits) for _ in range(missing)]
        drawn = {next(self._indexes): wait for wait in plan.waits(self._random, new, running)}
        self._run.waits |= drawn
        if drawn:
            self._feeder.ask(
                "add",
                waits=[
                    {"index": index, "names": wait.names, "conn_id": wait.conn_id, "interval": wait.interval}
                    for index, wait in drawn.items()
                ],
            )

    def _start(self, *, is_first: bool) -> str:
        planned = plan.operation(self._random, left=self._run.schedule.drained - self._now - 2, is_under_way=is_first)
        name = self._emulator.add_operation(
            project=planned.project,
            run_seconds=planned.seconds,
            ends="FAILED" if planned.end is End.FAILED else "SUCCEEDED",
            ignores_cancel=planned.end is End.IN_SPITE,
        )
        self._run.planned[name] = planned
        if planned.end in {End.CANCELLED, End.IN_SPITE, End.VANISHED}:
            self._to_strike[name] = time.time() + planned.struck
        return name

    def _strike(self) -> None:
        """Let those vanish whose time has come; note those to be cancelled."""
        for name in [name for name, moment in self._to_strike.items() if moment <= time.time()]:
            del self._to_strike[name]
            if self._run.planned[name].end is End.VANISHED:
                self._emulator.vanish(name)
            else:
                self._to_cancel.append(name)

    def _cancel(self) -> None:
        """Have all cancelled whose time has come, a request for each connection, while the rest goes on."""
        names, self._to_cancel = self._to_cancel, []
        self._run.cancels.update(names)
        for conn_id, project in zip(plan.CONNECTIONS, plan.PROJECTS, strict=True):
            own = [name for name in names if name.startswith(f"projects/{project}/")]
            if own:
                self._reports.append(self._threads.submit(self._canceller.ask, "cancel", conn_id=conn_id, names=own))
        for report in [report for report in self._reports if report.done()]:
            self._reports.remove(report)
            self._note(report.result())

    def _note(self, report: Mapping[str, Any]) -> None:
        self._run.outcomes.update({each["name"]: each["outcome"] for each in report["operations"]})

    def _take(self) -> None:
        for index, payload in self._feeder.ask("take"):
            before = self._run.seen.get(index, Seen(None, (), ()))
            self._run.seen[index] = Seen(None, (), (*before.payloads, payload or {}))

    def _sample(self, pid: int) -> None:
        asked = self._emulator.requests_since(self._mark)
        self._mark += len(asked)
        seconds, self._sampled_at = self._now - self._sampled_at, self._now
        methods = Counter(record.method for record in asked)
        rates = {f"{method} a second": methods[method] / seconds for method in ("get", "list", "token", "cancel")}
        waiting = len(self._run.waits) - len(self._run.seen)
        alive = {"operations": float(self._run.alive[-1]), "waits": float(waiting)}
        self._run.samples.append(Sample(self._now, usage(pid) | rates | alive))
        if len(self._run.samples) % 10 == 1:
            values = self._run.samples[-1].values
            shown = {
                what: values[what]
                for what in ("runner USS", "all PSS", "all sockets", "all descriptors", "all threads", "waits")
            }
            progress(
                f"{self._now:.0f} s, {len(self._run.waits)} waits, {len(self._run.seen)} events: "
                + ", ".join(f"{what} {value:.0f}" for what, value in shown.items())
            )


def options_words(options: Options) -> str:
    """What is run, in words."""
    return f"{options.operations} operations at a time for {options.seconds:.0f} s, seed {options.seed}"
