"""One emulator, perhaps a line to it, and a client: where a case is tried."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.models import OperationResult
from airflow_provider_eeops.api.polling import poll
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.api.watching import Watch
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import CredentialsError, EarthEngineError
from tests.faults.case import Case, Method, Seen
from tests.support.clock import ManualClock
from tests.support.faulty_line import FaultyLine

__all__ = ["COUNT", "NAMES", "A", "B", "Place", "error_words", "placed", "tried"]

COUNT = 12
"""Operations: so many that a poll lists them."""

EMAIL = "robot@one.iam.gserviceaccount.com"
NAMES = tuple(f"projects/one/operations/{letter}" for letter in "ABCDEFGHIJKL")
A, B = NAMES[:2]


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
    :param server: its server.
    :param line: what is between it and the client, if anything.
    :param client: the client.
    :param clock: the client's clock.
    :param secrets: what no message may hold.
    :param elsewhere: another host.
    """

    emulator: Emulator
    server: EmulatorServer
    line: FaultyLine | None
    client: EarthEngineOperationsClient
    clock: WallClock
    secrets: list[str]
    credentials: Any
    elsewhere: socket.socket

    def heal(self) -> bool:
        """Let nothing go wrong any more; return whether that is possible."""
        self.emulator.clear_faults()
        if self.line is not None:
            self.line.way = self.line.arrival = None
        self.clock.advance(2)  # a refusal of a token holds for a second
        return True

    def count(self, method: str) -> int:
        """Requests of a method, or connections where no request could arrive."""
        if self.line is None or (method == "token") != self.line_is_for_tokens:
            return self.emulator.count(method)
        return self.line.count(method) or self.line.connections

    @property
    def line_is_for_tokens(self) -> bool:
        return self._for_tokens

    _for_tokens: bool = False

    @property
    def slept(self) -> float:
        return sum(self.clock.sleeps)


def add_operations(emulator: Emulator, *, finished: bool) -> None:
    """A runs, or has finished, and the others are in the queue."""
    emulator.add_operation("A", pending_seconds=0, finished=finished, description="first")
    for name in NAMES[1:]:
        emulator.add_operation(name.rpartition("/")[2])


@contextmanager
def placed(server: EmulatorServer, case: Case, method: Method, certificates: Any) -> Iterator[Place]:
    """Make the place of a case."""
    clock = WallClock()
    emulator = Emulator(
        projects=("one", "two"), clock=clock.monotonic, pending_seconds=1e6, run_seconds=1e6, cancel_seconds=1e5,
        token_lifetime=1e6,
    )
    server.emulator = emulator
    add_operations(emulator, finished=case.finished)
    if case.finished:
        emulator.cancel_finished = "failed_precondition"
    with ExitStack() as stack:
        elsewhere = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        elsewhere.setblocking(False)
        line = _line(stack, server, case, method, certificates)
        address = server.base_url if line is None else f"http://127.0.0.1:{line.port}"
        if case.tls is not None:
            address = address.replace("http:", "https:")
        if case.nobody:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for_tokens = method == "token"
        info = {
            **server.service_account_info(EMAIL),
            "token_uri": f"{address if for_tokens else server.base_url}/token",
        }
        extras: dict[str, Any] = {
            "base_url": server.base_url if for_tokens else address, "keyfile_dict": info, "requests_per_second": 1e6,
        }
        if case.tls not in {None, "self-signed"}:
            extras["ca_bundle"] = certificates.authority
        settings = Settings.from_extras(extras)
        credentials = load_credentials(settings).credentials
        token = emulator.issue_token(EMAIL)
        if not for_tokens:
            credentials.token = token
        client = stack.enter_context(connect(settings, credentials, budget=case.budget, clock=clock))
        place = Place(
            emulator, server, line, client, clock, [token, info["private_key"][40:80]], credentials, elsewhere,
            for_tokens,
        )
        if case.fault is not None:
            fault = {"times": None, **case.fault}
            port = elsewhere.getsockname()[1]
            fault["headers"] = {
                name: value.replace("ELSEWHERE", f"http://127.0.0.1:{port}") for name, value in
                fault.get("headers", {}).items()
            }
            emulator.add_fault(Fault(method, **fault))
        if line is not None and line.way is not None:
            with_clock: Any = line.way
            with_clock.clock = clock
        if case.prepare is not None:
            case.prepare(place)
        yield place


def _line(stack: ExitStack, server: EmulatorServer, case: Case, method: Method, certificates: Any) -> FaultyLine | None:
    if case.way is None and case.arrival is None and case.tls is None:
        return None
    tls = None if case.tls in {None, "plain"} else certificates.context(case.tls)
    return stack.enter_context(
        FaultyLine(server.base_url, method=method, way=case.way, arrival=case.arrival, tls=tls)
    )


def error_words(error: EarthEngineError) -> str:
    """Name an error as the page does."""
    status = getattr(error, "http_status", None)
    later = ", retryable" if isinstance(error, CredentialsError) and error.retryable else ""
    return type(error).__name__ + (f" {status}" if status else "") + later


CALLS: dict[str, Callable[[EarthEngineOperationsClient], str]] = {}


def _get(client: EarthEngineOperationsClient) -> str:
    return client.get_operation(A).state


def _list(client: EarthEngineOperationsClient) -> str:
    found = {operation.name: operation for operation in client.list_operations("one")}
    return f"{len(found)} operations, A {found[A].state if A in found else 'not among them'}"


def _cancel(client: EarthEngineOperationsClient) -> str:
    client.cancel_operation(A)
    return "accepted"


_CALLS: dict[Method, Callable[[EarthEngineOperationsClient], str]] = {
    "get": _get, "list": _list, "cancel": _cancel, "token": _get,
}


def called(place: Place, method: Method) -> tuple[str, EarthEngineError | None]:
    """Make the call; return what it gets, in words."""
    try:
        return str(_CALLS[method](place.client)), None
    except EarthEngineError as error:
        return error_words(error), error


def above(place: Place, method: Method) -> str:
    """Let who builds on the call do so; return what is said then."""
    if method in {"get", "list"}:
        watch = Watch(NAMES if method == "list" else (A,))
        poll(place.client, watch)
        words = {name: _watch_word(watch, name) for name in watch.names}
        others = set(words.values()) - {words[A]}
        return words[A] if not others or others == {"PENDING"} else f"A {words[A]}, others {', '.join(sorted(others))}"
    names = (A,) if method == "cancel" else NAMES
    report = cancel_operations(place.client, names, max_concurrency=1)
    if method == "token":
        return report.counts_words
    (result,) = report.results
    return result.outcome.words + (f" ({result.state})" if result.state else "")


def _watch_word(watch: Watch, name: str) -> str:
    if name in watch.errors:
        return f"settled: {OperationResult.from_error(name, watch.errors[name]).outcome.words}"
    if name in watch.failures:
        return "failed poll"
    return str(watch.operations[name].state)


def tried(place: Place, method: Method) -> tuple[Seen, EarthEngineError | None]:
    """Make the call; return what was seen of it."""
    gets, error = called(place, method)
    others = ("get", "list", "cancel", "token", "delete", "wait", "other")
    seen = Seen(
        gets=gets,
        above="",
        tries=0 if place.line is None and urlsplit(place.server.base_url).port is None else place.count(method),
        slept=place.slept,
        asked=place.emulator.cancel_requested(A),
        other=sum(place.emulator.count(other) for other in others if other != method),
    )
    return seen, error


def texts(error: EarthEngineError) -> str:
    """All of an error that anybody could read."""
    return f"{error!s} {error!r} {error.__dict__} {pickle.dumps(error)!r} {error.__cause__!r} {error.__context__!r}"


__all__ += ["above", "texts"]
_: Budget | None = None
