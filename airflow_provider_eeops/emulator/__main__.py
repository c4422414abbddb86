"""Command line of the emulator."""

import argparse
import errno
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from airflow_provider_eeops.emulator.identity import DEFAULT_EMAIL
from airflow_provider_eeops.emulator.server import EmulatorServer
from airflow_provider_eeops.emulator.service import Emulator

__all__ = ["main"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :return: exit code
    """
    parser = _parser()
    options = parser.parse_args(argv)
    emulator = Emulator(
        projects=options.project or ["emulator-project"],
        pending_seconds=options.pending_seconds,
        run_seconds=options.run_seconds,
        run_seconds_of=dict(options.run_seconds_of),
        cancel_seconds=options.cancel_seconds,
        require_token=not options.allow_anonymous,
        token_lifetime=options.token_lifetime,
        cancel_finished=options.cancel_finished,
        cancel_supported=not options.no_cancel,
        wait_supported=not options.no_wait,
        latency=options.latency,
        requests_per_second=options.requests_per_second,
        page_size_limit=options.page_size_limit,
        queue_limit=options.queue_limit,
        sparse_payloads=options.sparse_payloads,
    )
    try:
        server = EmulatorServer(emulator, host=options.host, port=options.port).start()
    except (OSError, ValueError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        parser.exit(1, f"{parser.prog}: {error}{'; use --port, 0 for a free one' if taken else ''}\n")
    with _Signalled() as signalled:
        try:
            if options.service_account_key is not None:
                _write_private(options.service_account_key, json.dumps(server.service_account_info(options.email)))
            print(_instructions(server, options.service_account_key), flush=True)
            signalled.wait()
        finally:
            server.stop()
    return 0


class _Signalled:
    """An event that SIGINT and SIGTERM set, while inside."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __enter__(self) -> threading.Event:
        self._before = [signal.signal(each, self._set) for each in _SIGNALS]
        return self._event

    def __exit__(self, *_: object) -> None:
        for each, handler in zip(_SIGNALS, self._before, strict=True):
            signal.signal(each, handler)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_eeops.emulator",
        description="A local Earth Engine operations server.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="a loopback address")
    add("--port", type=int, default=8085, help="0 for a free one")
    add("--project", action="append", metavar="NAME", help="a project that exists; may be repeated")
    add("--pending-seconds", type=float, default=2.0, help="how long an operation waits in the queue")
    add("--run-seconds", type=float, default=60.0, help="how long an operation runs; may be inf")
    add(
        "--run-seconds-of",
        action="append",
        default=[],
        type=_glob_and_seconds,
        metavar="GLOB=SECONDS",
        help="the same for operations whose description matches; may be repeated",
    )
    add("--cancel-seconds", type=float, default=2.0, help="how long an operation is CANCELLING")
    add("--latency", type=float, default=0.0, help="seconds before each answer")
    add("--requests-per-second", type=float, help="quota of each project")
    add("--page-size-limit", type=int, default=500, help="most operations on one page of a listing")
    add("--queue-limit", type=int, default=3000, help="most operations PENDING in one project")
    add("--cancel-finished", choices=("ok", "failed_precondition"), default="ok", help="cancel of a finished operation")
    add("--no-cancel", action="store_true", help="answer 501 to every cancel")
    add("--no-wait", action="store_true", help="answer 501 to every wait")
    add("--sparse-payloads", action="store_true", help="leave fields out of fresh operations")
    add("--allow-anonymous", action="store_true", help="serve requests without an access token")
    add("--token-lifetime", type=float, default=3600.0, help="seconds an access token is good for")
    add("--service-account-key", type=Path, metavar="FILE", help="write a service-account key here, mode 0600")
    add("--email", default=DEFAULT_EMAIL, help="service account of the key")
    return parser


def _glob_and_seconds(text: str) -> tuple[str, float]:
    glob, _, seconds = text.rpartition("=")
    try:
        return glob, float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not GLOB=SECONDS, such as 'nightly-*=5'") from None


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # a file that exists would keep its mode
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _instructions(server: EmulatorServer, key_path: Path | None) -> str:
    """Say how to use it; what would be refused for want of a token is not offered."""
    project = server.emulator.projects[0]
    lines = [f"Earth Engine emulator at {server.base_url}, projects {', '.join(server.emulator.projects)}", ""]
    if key_path is not None or not server.emulator.require_token:
        identity = {"is_anonymous": True} if key_path is None else {"key_path": str(key_path.resolve())}
        extra = {"base_url": server.base_url, "project": project, **identity}
        command = [
            *("airflow", "connections", "add", "earthengine_default"),
            *("--conn-type", "earthengine", "--conn-extra", json.dumps(extra)),
        ]
        # Without a word on credentials Google's client looks for Google's own.
        credentials = "None, " if key_path is None else ""
        lines += [
            "Point a connection at it:",
            f"  {shlex.join(command)}",
            "Point Google's client at it:",
            f"  ee.Initialize({credentials}url={server.base_url!r}, project={project!r})",
        ]
    if key_path is not None:
        lines.append(f"  with GOOGLE_APPLICATION_CREDENTIALS={shlex.quote(str(key_path.resolve()))}")
    elif server.emulator.require_token:
        lines.append("Requests need an access token: start it with --service-account-key FILE, or --allow-anonymous.")
    lines += ["", f"Look inside: curl {server.base_url}/emulator/operations", "Stop: Ctrl-C"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
