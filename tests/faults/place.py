"""One emulator, perhaps a line to it, and a client: where a case is tried."""

from __future__ import annotations

import pickle
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.models import OperationResult
from airflow_provider_eeops.api.polling import poll
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.api.watching import Watch
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError
from tests.faults.case import METHODS, Case, Method, Seen
from tests.faults.ways import on_arrival
from tests.support.certificates import Certificates
from tests.support.clock import ManualClock
from tests.support.faulty_line import FaultyLine

__all__ = ["NAMES", "A", "B", "C", "Place", "above", "error_words", "furnished", "placed", "texts", "tried"]

_FROM_NOW = re.compile(r"[+-]\d+")
NAMES = tuple(f"projects/one/operations/{letter}" for letter in "ABCDEFGHIJKL")
"""So many that a poll lists them."""

A, B, C = NAMES[:3]


class WallClock(ManualClock):
    """Its time of day can be set without an hour going by."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def time(self) -> float:
        return self.monotonic() + self.ahead

    def monotonic(self) -> float:
        return super().time()


@dataclass
class Place:
    """Where a case is tried.

    :param emulator: what is true.
    :param client: the client.
    :param clock: the client's clock.
    :param secrets: what no message may hold.
    :param elsewhere: another host.
    :param line: what is between the server and the client, if anything.
    :param for_tokens: whether it is the way to the token server, and not to the API.
    """

    emulator: Emulator
    client: EarthEngineOperationsClient
    clock: WallClock
    secrets: list[str]
    elsewhere: FaultyLine
    line: FaultyLine | None
    for_tokens: bool

    def fault(
        self, method: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None, **more: Any
    ) -> None:
        """Let something go wrong; a header may name the other host, or a date some seconds from now."""
        host = f"http://127.0.0.1:{self.elsewhere.port}"
        told = {
            name: formatdate(self.clock.monotonic() + int(value), usegmt=True)
            if _FROM_NOW.fullmatch(value)
            else value.replace("ELSEWHERE", host)
            for name, value in (headers or {}).items()
        }
        if body is not None:
            body = body.replace(b"KNOWN", self.secrets[0].encode())
        self.emulator.add_fault(Fault(method, headers=told, body=body, **more))

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.emulator.clear_faults()
        if self.line is not None:
            self.line.way = self.line.arrival = None
        self.clock.advance(2)  # a refusal of a token holds for a second

    def count(self, method: Method) -> int:
        """Requests of a method, or connections where none could arrive."""
        if self.line is None or (method == "token") != self.for_tokens:
            return self.emulator.count(method)
        return self.line.count(method) or self.line.connections


def add_operations(emulator: Emulator, *, finished: bool, ends: bool) -> None:
    """A runs, or has finished, and the others are in the queue; in ten minutes all end, if they do."""
    seconds = 600 if ends else FOREVER
    emulator.add_operation("A", pending_seconds=0, run_seconds=seconds, finished=finished)
    for name in NAMES[1:]:
        emulator.add_operation(name.rpartition("/")[2], pending_seconds=seconds, run_seconds=0)


@contextmanager
def furnished(server: EmulatorServer, *, ends: bool) -> Iterator[Place]:
    """Make a place in which nothing goes wrong yet."""
    case = Case("nothing", "", get="", list="", cancel="", token="")
    with placed(server, case, "get", None, ends=ends) as place:
        yield place


@contextmanager
def placed(
    server: EmulatorServer, case: Case, method: Method, certificates: Certificates | None, *, ends: bool = False
) -> Iterator[Place]:
    """Make the place of a case."""
    clock = WallClock()
    server.emulator = emulator = Emulator(
        projects=("one", "two"),
        clock=clock.monotonic,
        cancel_seconds=FOREVER,
        token_lifetime=FOREVER,
        cancel_finished="failed_precondition",
    )
    add_operations(emulator, finished=case.finished, ends=ends)
    with ExitStack() as stack:
        elsewhere = stack.enter_context(FaultyLine(server.base_url, arrival=on_arrival("left")))
        line = _line(stack, server, case, method, certificates)
        address = _address(server, case, line)
        for_tokens = method == "token"
        # A service account's key takes long to read.
        info = {**server.authorized_user_info(), "token_uri": f"{address if for_tokens else server.base_url}/token"}
        extras = {"base_url": server.base_url if for_tokens else address, "keyfile_dict": info}
        if certificates is not None and case.tls not in {None, "self-signed"}:
            extras["ca_bundle"] = certificates.authority
        settings = Settings.from_extras({**extras, "requests_per_second": 1e6})
        credentials = load_credentials(settings).credentials
        token = emulator.issue_token("user@example.com")
        if not for_tokens:
            credentials.token = token
        client = stack.enter_context(connect(settings, credentials, budget=case.budget, clock=clock))
        secrets = [token, info["refresh_token"].removeprefix("1//"), "SECRET"]
        place = Place(emulator, client, clock, secrets, elsewhere, line, for_tokens)
        if case.fault is not None:
            place.fault(method, **{"times": None, **case.fault})
        if line is not None:
            line.clock = clock
        if case.prepare is not None:
            case.prepare(place)
        yield place


FOREVER = 1e6


def _line(
    stack: ExitStack, server: EmulatorServer, case: Case, method: Method, certificates: Certificates | None
) -> FaultyLine | None:
    if case.way is None and case.arrival is None and case.tls is None:
        return None
    tls = None if certificates is None or case.tls in {None, "plain"} else certificates.context(str(case.tls))
    return stack.enter_context(FaultyLine(server.base_url, method=method, way=case.way, arrival=case.arrival, tls=tls))


def _address(server: EmulatorServer, case: Case, line: FaultyLine | None) -> str:
    if case.nobody:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return f"http://127.0.0.1:{listener.getsockname()[1]}"
    if line is None:
        return server.base_url
    return f"http{'' if case.tls is None else 's'}://127.0.0.1:{line.port}"


def error_words(error: EarthEngineError) -> str:
    """Name an error as the page does."""
    status = getattr(error, "http_status", None)
    later = ", retryable" if isinstance(error, CredentialsError) and error.retryable else ""
    return type(error).__name__ + (f" {status}" if status else "") + later


def _get(client: EarthEngineOperationsClient) -> str:
    return client.get_operation(A).state


def _list(client: EarthEngineOperationsClient) -> str:
    found = {operation.name: operation for operation in client.list_operations("one")}
    return f"{len(found)} operations, A {found[A].state if A in found else 'not among them'}"


def _cancel(client: EarthEngineOperationsClient) -> str:
    client.cancel_operation(A)
    return "accepted"


_CALLS: Mapping[Method, Callable[[EarthEngineOperationsClient], str]] = {
    "get": _get,
    "list": _list,
    "cancel": _cancel,
    "token": _get,
}


def tried(place: Place, method: Method) -> tuple[Seen, EarthEngineError | None]:
    """Make the call; return what was seen of it, and the error if there was one."""
    error = None
    try:
        gets = str(_CALLS[method](place.client))
    except EarthEngineError as met:
        gets, error = error_words(met), met
    others = sum(place.emulator.count(other) for other in (*METHODS, "delete", "wait", "other") if other != method)
    seen = Seen(gets, place.count(method), sum(place.clock.sleeps), place.emulator.cancel_requested(A), others)
    return seen, error


def above(place: Place, method: Method) -> str:
    """Let who builds on the call do so; return what is said then."""
    if method in {"get", "list"}:
        watch = Watch(NAMES if method == "list" else (A,))
        poll(place.client, watch)
        words = {name: _watch_word(watch, name) for name in watch.names}
        others = set(words.values()) - {words[A]}
        return words[A] if others <= {"PENDING"} else f"A {words[A]}, others {', '.join(sorted(others))}"
    report = cancel_operations(place.client, (A,) if method == "cancel" else NAMES, max_concurrency=1)
    if method == "token":
        return report.counts_words
    (result,) = report.results
    return result.outcome.words + (f" ({result.state})" if result.state else "")


def _watch_word(watch: Watch, name: str) -> str:
    if name in watch.errors:
        return f"settled: {OperationResult.from_error(name, watch.errors[name]).outcome.words}"
    return "failed poll" if name in watch.failures else str(watch.operations[name].state)


def texts(error: EarthEngineError) -> str:
    """All of an error that anybody could read."""
    return f"{error!s} {error!r} {error.__dict__} {pickle.dumps(error)!r} {error.__cause__!r} {error.__context__!r}"
