"""A PostgreSQL of this machine for one test, reachable through a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ProcessGroup, wait_until

__all__ = ["postgres", "postgres_version"]


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server; return SQLAlchemy's address of its database; stop the server when the block ends.

    :raises RuntimeError: this machine has none.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="eeops-pg-"))  # short, as a socket's path has to be
    try:
        as_user = _as_user(folder)
        data = folder / "data"
        _run([*as_user, str(programs / "initdb"), "-D", str(data), "-U", "airflow", "--auth=trust", "--no-sync"])
        settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "listen_addresses": "",
            "max_connections": "300",
            "timezone": "UTC",
            "unix_socket_directories": str(folder),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*as_user, str(programs / "postgres"), "-D", str(data), *options]
        with ProcessGroup(command, output=folder / "postgres.log") as server:
            wait_until("PostgreSQL", lambda: _is_ready(server), seconds=30)
            yield f"postgresql+psycopg2://airflow@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_version() -> str:
    """Version of the server."""
    command = [str(_programs() / "postgres"), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]


def _programs() -> Path:
    """The folder of the newest server of this machine; Debian has it outside PATH."""
    found = [Path(each).parent for each in (shutil.which("initdb"),) if each]
    found += sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda path: float(path.parent.name),
        reverse=True,
    )
    if not found:
        raise RuntimeError(
            "Airflow 2 and the CeleryExecutor need more than SQLite, and this machine has no PostgreSQL: neither in"
            " PATH nor in /usr/lib/postgresql is an initdb. Install one, on Debian with: .ci/install-services"
        )
    return found[0]


def _as_user(folder: Path) -> Sequence[str]:
    """What to put before a command: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")


def _is_ready(server: ProcessGroup) -> bool:
    server.check_running()
    return "ready to accept connections" in server.tail()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[-6:]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
