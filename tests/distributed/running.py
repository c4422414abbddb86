"""The run: all waits are deferred, one triggerer and one worker are killed, the waits end, two workers are stopped."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import requests

from tests.distributed.celery_parts import TRIGGERERS, WORKERS
from tests.distributed.database import Instance
from tests.distributed.place import POLL_INTERVAL, Place
from tests.distributed.plan import EACH, STOPPED, WAITS, WARM, Wait, after, waits
from tests.distributed.record import Lost, Polls, Record, Shutdown, WaitSeen
from tests.distributed.tasks import HELD
from tests.distributed.usage import usage_of
from tests.support.processes import wait_until

__all__ = ["Run"]

_NETS = {"held_retry": 4, "held_teardown": 4}
"""Runs of each DAG whose task owns operations while it runs."""

_NOBODYS = 50
_SOMEBODY = "somebody@example.com"

_STARTING = 600.0
"""Seconds in which all waits are deferred, on a machine with other work."""

_ENDING = 600.0
"""Seconds in which they end."""

_SPREAD = 180.0
"""Seconds in which the operations end, from the first to the last."""

_COUNTED = 4 * POLL_INTERVAL
"""Seconds in which requests are counted."""

_SETTLING = 1.5 * POLL_INTERVAL
"""Seconds in which triggers that came one after the other have their first poll, and then take part in the same."""

_BEFORE_THE_KILL = 20
"""Waits that have ended by then, so that others are about to resume on a worker."""


class Run:
    """One run.

    :param place: where.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.record = Record()
        self._began = time.time()
        self._killed_at = 0.0
        self._killed = ("", "")
        self._queued: set[int] = set()
        self._lost_owners: set[str] = set()

    def go(self) -> None:
        """Do all of it."""
        for number in range(_NOBODYS):
            self.place.earth_engine.add_operation(description=f"nobody/{number}", run_seconds=3600)
        self._hold()
        self._defer()
        self.record.before = self._count(*TRIGGERERS)
        self.record.stored = self.place.database.sizes()
        self.record.usage = {part: usage_of(self.place.airflow.members(part)) for part in self.place.airflow.parts}
        self._end_operations()
        self._kill()
        self._take_over()
        self._await_waits()
        self._await_nets()
        self._stop_workers()
        self.record.unknown = self._wrongly_asked()
        self._release()

    # Before

    def _hold(self) -> None:
        for dag, runs in _NETS.items():
            for _ in range(runs):
                self.place.airflow.trigger(dag)
        wanted = HELD * sum(_NETS.values())
        self._wait("the tasks that own operations", lambda: len(self._names("held_")) == wanted, seconds=_STARTING)

    def _defer(self) -> None:
        self.place.airflow.trigger("many_waits")
        began = time.time()
        self.record.joining = [Polls(triggerer, 0, 0.0, {}) for triggerer in TRIGGERERS]
        self._wait(
            "all waits to be deferred",
            lambda: self._states()["deferred"] == WAITS,
            seconds=_STARTING,
            tell=self._states,
        )
        until = time.time()
        self.record.deferred = until - began
        for each in self.record.joining:
            self._fill(each, began, until)

    def _count(self, *triggerers: str) -> list[Polls]:
        """Count requests for a while in which no trigger comes."""
        time.sleep(_SETTLING)
        polls = [Polls(each, 0, 0.0, {}) for each in triggerers]
        for each in polls:
            each.triggers = self._triggers_of(each.triggerer)
        since = time.time()
        time.sleep(_COUNTED)
        until = time.time()
        for each in polls:
            self._fill(each, since, until)
        return polls

    def _fill(self, polls: Polls, since: float, until: float) -> None:
        polls.triggers = polls.triggers or self._triggers_of(polls.triggerer)
        polls.seconds = until - since
        polls.requests = self.place.earth_engine.asked_by(f"{polls.triggerer}@", since=since, until=until)
        self._tell(f"{polls.triggerer}, {polls.triggers} triggers: {polls.requests} in {polls.seconds:.0f} s")

    def _triggers_of(self, triggerer: str) -> int:
        return sum(each.triggerer == triggerer for each in self._waits())

    # The kill

    def _end_operations(self) -> None:
        for wait in waits():
            for number in range(EACH):
                if number or wait.odd != "CANCELLED":
                    self.place.earth_engine.end_in(self._name(wait, number), after(wait, number, spread=_SPREAD))
        self._wait("the first waits to end", lambda: len(self._ended()) >= _BEFORE_THE_KILL, seconds=_ENDING)

    def _kill(self) -> None:
        airflow = self.place.airflow
        held = [each for dag in _NETS for each in self._held(dag) if each.state == "running"]
        worker = max(WORKERS, key=lambda part: sum(each.host == part for each in held))
        triggerer = max(TRIGGERERS, key=self._triggers_of)
        self._killed = (triggerer, worker)
        wait_until("a wait to resume", lambda: bool(self._resuming_on(worker)), seconds=60, every=0.1)
        self._killed_at = time.time()
        airflow.kill(worker)
        airflow.kill(triggerer)
        self._tell(f"killed {triggerer} and {worker}")
        self.record.resuming = len(self._resuming_on(worker))
        self._queued = {each.map_index for each in self._waits() if each.state == "queued"}
        for dag in _NETS:
            for each in self._held(dag):
                owner = f"{dag}/{each.run_id}/1/{each.map_index}/"
                if each.host == worker and each.state == "running":
                    self._lost_owners.add(owner)
                    self.record.lost.append(Lost(dag, self._names(owner)))
        self.record.moved = self._triggers_of(triggerer)
        token = self.place.earth_engine.issue_token(_SOMEBODY)
        for wait in waits():
            if wait.odd == "CANCELLED":
                self._cancel_as_somebody(self._name(wait, 0), token)

    def _resuming_on(self, worker: str) -> list[Instance]:
        return [each for each in self._waits() if each.host == worker and each.state == "running"]

    def _cancel_as_somebody(self, name: str, token: str) -> None:
        url = f"{self.place.base_url}/v1alpha/{name}:cancel"
        requests.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).raise_for_status()

    def _take_over(self) -> None:
        dead, _ = self._killed
        survivor = next(each for each in TRIGGERERS if each != dead)
        self._wait(
            "the survivor to have all triggers",
            lambda: not self._triggers_of(dead),
            seconds=180,
        )
        self.record.taken_over = time.time() - self._killed_at
        self.record.stuck = sum(each.state == "queued" and each.map_index in self._queued for each in self._waits())
        self.record.after = self._count(survivor)

    def _await_waits(self) -> None:
        self._wait("all waits to end", lambda: len(self._ended()) == WAITS, seconds=_ENDING, tell=self._states)
        self.record.waited = max(each.ended or 0.0 for each in self._waits()) - self._killed_at
        reports = self.place.database.reports("many_waits", "wait")
        for wait, seen in zip(waits(), self._waits(), strict=True):
            report = {
                result["name"]: [result["outcome"], result["state"]]
                for result in reports.get(wait.index, {}).get("operations", ())
            }
            late = None if seen.ended is None else seen.ended - self._decided(wait)
            self.record.waits.append(WaitSeen(wait.index, seen.state, seen.try_number, report, late))

    def _decided(self, wait: Wait) -> float:
        """When Earth Engine had ended what decides a wait: the one that fails it, or all."""
        names = [self._name(wait, number) for number in range(EACH)]
        deciding = names[:1] if wait.ends == "failed" else names
        return max(self._end(name) for name in deciding)

    def _end(self, name: str) -> float:
        metadata = self.place.earth_engine.operation(name)["metadata"]
        return datetime.fromisoformat(metadata["endTime"]).timestamp() if "endTime" in metadata else float("inf")

    def _await_nets(self) -> None:
        names = {name for lost in self.record.lost for name in lost.names}
        self._wait(
            "requests for what the lost tasks owned", lambda: names <= set(self.place.earth_engine.asked()), seconds=180
        )
        self._wait("the lost tasks' runs to end", self._lost_runs_ended, seconds=180)
        asked = self.place.earth_engine.asked()
        for lost in self.record.lost:
            lost.asked = [asked[name][0] - self._killed_at for name in lost.names]
            lost.states = [self.place.earth_engine.state(name) for name in lost.names]
            run_id = self.place.earth_engine.description(lost.names[0]).split("/")[1]
            lost.ended = {each.task_id: each.state for each in self._instances(lost.dag) if each.run_id == run_id}

    def _lost_runs_ended(self) -> bool:
        runs = {tuple(owner.split("/")[:2]) for owner in self._lost_owners}
        return all(self.place.airflow.run_state(dag, run_id) in {"success", "failed"} for dag, run_id in runs)

    # Workers that are asked to stop

    def _stop_workers(self) -> None:
        for queue in STOPPED:
            self.place.airflow.start(queue)
            self.place.airflow.trigger(f"held_{queue}")
        wanted = HELD * len(STOPPED)
        self._wait("the tasks on them", lambda: len(self._names_on(*STOPPED)) == wanted, seconds=180)
        for queue, number in STOPPED.items():
            names = self._names_on(queue)
            now = time.time()
            os.kill(self.place.airflow.pid(queue), number)
            self._tell(f"{number.name} to the worker of {queue}")
            gone = self._gone(queue, now)
            asked = [times[0] - now for name, times in self.place.earth_engine.asked().items() if name in names]
            self.record.shutdowns.append(Shutdown(queue, number.name, asked, gone))

    def _names_on(self, *queues: str) -> list[str]:
        return [name for queue in queues for name in self._names(f"held_{queue}/")]

    def _gone(self, queue: str, since: float) -> float | None:
        while time.time() < since + 30:
            if not self.place.airflow.members(queue):
                return time.time() - since
            time.sleep(0.25)
        return None

    def _release(self) -> None:
        self.place.release.touch()
        dags = (*_NETS, *(f"held_{queue}" for queue in STOPPED))
        runs = {(dag, each.run_id) for dag in dags for each in self._instances(dag)}
        self._wait(
            "the runs to end",
            lambda: all(self.place.airflow.run_state(*run) in {"success", "failed"} for run in runs),
            seconds=240,
        )
        lost = {tuple(owner.split("/")[:2]) for owner in self._lost_owners}
        self.record.surviving = [
            each.state for dag in _NETS for each in self._held(dag) if (dag, each.run_id) not in lost
        ]
        for shutdown in self.record.shutdowns:
            (seen,) = self._held(f"held_{shutdown.worker}")
            shutdown.ended = seen.state

    def _wrongly_asked(self) -> list[str]:
        """Descriptions of operations that Airflow asked to cancel, and whose owner was not killed or told to stop."""
        earth_engine = self.place.earth_engine
        allowed = (*self._lost_owners, *(f"held_{queue}/" for queue in STOPPED if queue != WARM))
        return sorted(
            text for name in earth_engine.asked() if not (text := earth_engine.description(name)).startswith(allowed)
        )

    # How

    def _instances(self, dag: str) -> list[Instance]:
        return self.place.database.instances(dag)

    def _waits(self) -> list[Instance]:
        return [each for each in self._instances("many_waits") if each.task_id == "wait" and each.map_index >= 0]

    def _held(self, dag: str) -> list[Instance]:
        return [each for each in self._instances(dag) if each.task_id == "hold"]

    def _states(self) -> Counter[str | None]:
        return Counter(each.state for each in self._waits())

    def _ended(self) -> list[Instance]:
        return [each for each in self._waits() if each.state in {"success", "failed"}]

    def _names(self, prefix: str) -> list[str]:
        return self.place.earth_engine.names_like(prefix)

    def _name(self, wait: Wait, number: int) -> str:
        return f"projects/{self.place.earth_engine.projects[0]}/operations/{wait.ids[number]}"

    def _wait(self, what: str, ready: Callable[[], bool], *, seconds: float, tell: Callable[[], Any] = str) -> None:
        """Wait until it is so; print a line of progress now and then."""
        told = time.monotonic()

        def is_so() -> bool:
            nonlocal told
            if time.monotonic() > told + 15:
                told = time.monotonic()
                self._tell(f"waiting for {what} {tell() or ''}")
            return ready()

        wait_until(what, is_so, seconds=seconds, every=1.0)
        self._tell(what)

    def _tell(self, text: str) -> None:
        print(f"[{time.time() - self._began:5.0f} s] {text}", flush=True)
