"""A real Airflow on this machine, each part a process of its own, so that one can be stopped, killed or started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.airflow_api import AirflowApi
from tests.support.airflow_database import AirflowDatabase
from tests.support.airflow_environment import airflow_command, airflow_environment, prepare_home
from tests.support.processes import ProcessGroup, free_port, listens, wait_until

__all__ = ["DAG_PROCESSOR", "PUBLIC_API", "SCHEDULER", "TASKS_API", "TRIGGERER", "AirflowParts"]

# Two API servers: with one, a request by a person that logs its action waits on the event loop for SQLite's lock, which
# a task's request holds that waits for the same event loop.
PUBLIC_API = "public API server"
TASKS_API = "tasks' API server"
DAG_PROCESSOR = "dag-processor"
SCHEDULER = "scheduler"
TRIGGERER = "triggerer"


class AirflowParts(AirflowApi):
    """Scheduler with LocalExecutor, triggerer, DAG processor and API server; leaving the block stops them all.

    :param home: AIRFLOW_HOME.
    :param dags: folder of the DAG files.
    :param connections: extras of the connections of type ``earthengine``, by connection id.
    :param settings: more Airflow settings, and other variables of the environment.
    """

    parts: tuple[str, ...] = (PUBLIC_API, TASKS_API, SCHEDULER, DAG_PROCESSOR, TRIGGERER)

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        password: str = "admin",
    ) -> None:
        super().__init__(f"http://127.0.0.1:{free_port()}", home=home, password=password)
        self._tasks_port = free_port()
        self.env = airflow_environment(home, dags, self.url, connections) | {
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._tasks_port}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=15",
            **(settings or {}),
        }
        self.sessions: set[int] = set()
        self._parts: dict[str, ProcessGroup] = {}

    def __enter__(self) -> Self:
        try:
            self.prepare()
            for part in self.parts:
                self.start(part)
            wait_until("Airflow to be healthy", self.healthy, seconds=180)
        except BaseException as error:
            for part, process in self._parts.items():
                error.add_note(f"{part}:\n{process.tail()}")
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # what goes wrong with one part keeps no other from being stopped
            stack.callback(self.close)
            for process in self._parts.values():
                stack.callback(process.stop, seconds=3)
                stack.callback(process.send, signal.SIGCONT)

    def prepare(self) -> None:
        """Make AIRFLOW_HOME and the database."""
        prepare_home(self.home, password=self.password)
        self.run("db", "migrate")

    def database(self) -> AirflowDatabase:
        """Return the database."""
        return AirflowDatabase(self.home / "airflow.db")

    def run(self, *arguments: str) -> str:
        """Run an ``airflow`` command to its end; return what it printed."""
        command = [airflow_command(), *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=180)
        if done.returncode:
            raise RuntimeError(f"{command[1:]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def start(self, part: str, *, name: str | None = None) -> None:
        """Start a part, or start it again.

        :param part: which.
        :param name: under which it can be stopped, if there is more than one.
        """
        output = self.home / f"{part.replace(' ', '-')}-{len(self.sessions)}.log"
        env = self.env | self._own_env(part)
        process = ProcessGroup([airflow_command(), *self._arguments(part)], output=output, env=env)
        self._parts[name or part] = process.__enter__()
        self.sessions.add(process.pid)

    def _own_env(self, part: str) -> dict[str, str]:  # noqa: ARG002 - for those whose parts differ
        """Environment that one part has and the others have not."""
        return {}

    def _arguments(self, part: str) -> tuple[str, ...]:
        return {
            PUBLIC_API: ("api-server", "--apps", "core"),
            TASKS_API: ("api-server", "--apps", "execution", "--port", str(self._tasks_port)),
            DAG_PROCESSOR: (DAG_PROCESSOR,),
            SCHEDULER: (SCHEDULER, "--skip-serve-logs"),
            TRIGGERER: (TRIGGERER, "--skip-serve-logs"),
        }[part]

    def kill(self, part: str) -> None:
        """SIGKILL all processes of a part, as the kernel does to a machine's or a container's."""
        self._parts[part].send(signal.SIGKILL)
        self._parts[part].stop()

    def terminate(self, part: str) -> None:
        """SIGTERM the main process of a part, as an init does, and wait for its end."""
        process = self._parts[part]
        os.kill(process.pid, signal.SIGTERM)
        wait_until(f"the end of the {part}", lambda: not process.members(), seconds=30)
        process.stop()

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """A part that neither runs nor goes away, for the length of the block."""
        process = self._parts[part]
        # A scheduler without its workers: those are other machines where it is not the LocalExecutor's.
        pids = [process.pid] if part == SCHEDULER else process.members()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def healthy(self) -> bool:
        """Whether all parts run, and say so where they can."""
        for process in self._parts.values():
            process.check_running()
        health = self.health()
        return self._serves_tasks() and all(
            health.get(part) == "healthy" for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        )

    def _serves_tasks(self) -> bool:
        return listens(self._tasks_port)
