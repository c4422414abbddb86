"""A Redis of this machine for one test, on a free port of loopback, which keeps nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ProcessGroup, free_port, listens, wait_until

__all__ = ["redis", "redis_version"]


@contextmanager
def redis() -> Iterator[str]:
    """Start a server; return its address; stop the server when the block ends.

    :raises RuntimeError: this machine has none.
    """
    program = _program()
    folder = Path(tempfile.mkdtemp(prefix="eeops-redis-"))
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    try:
        with ProcessGroup(command, output=folder / "redis.log") as server:
            wait_until("Redis", lambda: _is_ready(server, port), seconds=30)
            yield f"redis://127.0.0.1:{port}/0"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def redis_version() -> str:
    """Version of the server."""
    printed = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.removeprefix("v=") for word in printed.split() if word.startswith("v="))


def _program() -> str:
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("This machine has no redis-server in PATH. Install it, on Debian with: .ci/install-services")
    return program


def _is_ready(server: ProcessGroup, port: int) -> bool:
    server.check_running()
    return listens(port)
