from __future__ import annotations

import gc
import json
import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from email.utils import formatdate
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import google.auth.credentials
import pytest
from google.auth.exceptions import RefreshError, TransportError
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from airflow_provider_eeops.api.cancelling import KILL_BUDGET
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.transport import Transport
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import (
    ApiError,
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]

DETAILS = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "metadata": {"k": "v"}}]


@pytest.fixture
def name(emulator: Emulator) -> str:
    return emulator.add_operation("A")


def google_error(http_status: int, status: str | None, **more: Any) -> bytes:
    error = {"code": http_status, "message": "Why.", "status": status, "details": DETAILS, **more}
    return json.dumps({"error": {key: value for key, value in error.items() if value is not None}}).encode()


def caught(client: EarthEngineOperationsClient, name: str) -> EarthEngineError:
    with pytest.raises(EarthEngineError) as info:
        client.get_operation(name)
    return info.value


@pytest.mark.parametrize(
    ("http_status", "status", "cls", "requests"),
    [
        (400, "INVALID_ARGUMENT", InvalidArgumentError, 1),
        (400, "FAILED_PRECONDITION", FailedPreconditionError, 1),
        (401, "UNAUTHENTICATED", UnauthenticatedError, 2),
        (403, "PERMISSION_DENIED", PermissionDeniedError, 1),
        (404, "NOT_FOUND", NotFoundError, 1),
        (408, "DEADLINE_EXCEEDED", UnavailableError, 4),
        (409, "ABORTED", ApiError, 1),
        (429, "RESOURCE_EXHAUSTED", QuotaExceededError, 4),
        (500, "INTERNAL", UnavailableError, 4),
        (501, "UNIMPLEMENTED", UnimplementedError, 1),
        (502, "UNAVAILABLE", UnavailableError, 4),
        (503, "UNAVAILABLE", UnavailableError, 4),
        (504, "DEADLINE_EXCEEDED", UnavailableError, 4),
        (505, "UNKNOWN", ApiError, 1),
    ],
)
@pytest.mark.parametrize("status_is_given", [True, False])
def test_an_error_becomes_its_class_and_is_retried_or_not(
    *,
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    name: str,
    http_status: int,
    status: str,
    cls: type[ApiError],
    requests: int,
    status_is_given: bool,
) -> None:
    if status == "FAILED_PRECONDITION" and not status_is_given:
        status, cls = "INVALID_ARGUMENT", InvalidArgumentError
    body = google_error(http_status, status if status_is_given else None)
    emulator.add_fault(Fault("get", status=http_status, body=body, times=None))
    error = caught(client, name)
    assert type(error) is cls
    assert isinstance(error, ApiError)
    assert (error.http_status, error.status, error.message) == (http_status, status, "Why.")
    assert error.operation_name == name
    assert error.details == DETAILS
    missing = " (" if cls is PermissionDeniedError else ""
    assert f"{error} (".startswith(f"{name}: HTTP {http_status} {status}: Why.{missing}")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert emulator.count("get") == requests


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["get", "cancel", "list", "delete", "wait"])
def test_what_passes_is_tried_again(
    *, client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str, method: str, status: int
) -> None:
    emulator.add_fault(Fault(method, status=status, times=2))
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: client.get_operation(name).name,
        "cancel": lambda: client.cancel_operation(name),
        "list": lambda: [operation.name for operation in client.list_operations("one")],
        "delete": lambda: client.delete_operation(name),
        "wait": lambda: client.wait_operation(name, timeout=0).name,
    }
    answers = {"get": name, "cancel": None, "list": [name], "delete": None, "wait": name}
    assert calls[method]() == answers[method]
    assert emulator.count(method) == 3
    waits = [seconds for seconds in clock.sleeps if seconds > 0.01]
    assert len(waits) == 2
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0


@pytest.mark.parametrize(
    ("error", "status", "message", "details"),
    [
        ({"error": {"status": "MADE_UP", "message": 5, "details": "x"}}, "UNKNOWN", None, []),
        ({"error": {}}, "NOT_FOUND", None, []),
        ({"error": {"status": 5, "message": "Why."}}, "UNKNOWN", "Why.", []),
    ],
)
def test_an_odd_error_is_read_as_far_as_it_goes(
    *,
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    name: str,
    error: Any,
    status: str,
    message: Any,
    details: Any,
) -> None:
    body = json.dumps(error)
    emulator.add_fault(Fault("get", status=404, body=body.encode()))
    found = caught(client, name)
    assert isinstance(found, NotFoundError)
    assert (found.status, found.message, found.details) == (status, message or repr(body), details)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7.0),
        (lambda now: formatdate(now + 7, usegmt=True), 7.0),
        ("0", None),
        (lambda now: formatdate(now - 3600, usegmt=True), None),
        ("soon", None),
    ],
)
@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"status": 503, "body": b"<html>"}])
def test_retry_after_is_honoured(
    *,
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    clock: ManualClock,
    name: str,
    header: Any,
    wait: float | None,
    fault: dict[str, Any],
) -> None:
    value = header(clock.time()) if callable(header) else header
    emulator.add_fault(Fault("get", headers={"Retry-After": value}, **fault))
    assert client.get_operation(name).name == name
    longest = max(clock.sleeps)
    assert longest == pytest.approx(wait, abs=0.01) if wait else 0.25 <= longest <= 0.5


@pytest.mark.parametrize("header", ["121", "9" * 400, formatdate(4_000_000_000, usegmt=True)])
def test_retry_after_beyond_the_deadline_ends_the_call_at_once(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str, header: str
) -> None:
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": header}, times=None))
    error = caught(client, name)
    assert isinstance(error, QuotaExceededError)
    assert error.retry_after is not None
    assert error.retry_after > 120
    assert emulator.count("get") == 1
    assert sum(clock.sleeps) < 0.01


def test_retries_end_at_the_deadline(connected: Connect, emulator: Emulator, clock: ManualClock, name: str) -> None:
    client = connected(budget=Budget(retries=1000, deadline=20))
    emulator.add_fault(Fault("get", status=503, times=None))
    began = clock.monotonic()
    assert isinstance(caught(client, name), UnavailableError)
    assert 5 < clock.monotonic() - began < 20
    assert 4 < emulator.count("get") < 10


def test_a_refused_token_is_renewed_once(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    client.get_operation(name)
    emulator.revoke_tokens()
    assert client.get_operation(name).name == name
    assert (emulator.count("token"), emulator.count("get")) == (2, 3)
    assert sum(clock.sleeps) < 0.01


def test_a_token_that_stays_refused_is_not_renewed_in_a_loop(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str
) -> None:
    emulator.add_fault(Fault("get", status=401, times=None))
    assert isinstance(caught(client, name), UnauthenticatedError)
    assert (emulator.count("token"), emulator.count("get")) == (2, 2)


def test_without_a_token_a_401_is_final(connected: Connect, emulator: Emulator, name: str) -> None:
    client = connected(is_anonymous=True)
    assert isinstance(caught(client, name), UnauthenticatedError)
    assert (emulator.count("token"), emulator.count("get")) == (0, 1)


def test_many_threads_renew_a_refused_token_once(connected: Connect, emulator: Emulator, name: str) -> None:
    client = connected()
    client.get_operation(name)
    emulator.revoke_tokens()
    emulator.latency = 0.02
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(client.get_operation, [name] * 24))
    assert [operation.name for operation in found] == [name] * 24
    assert emulator.count("token") == 2


def test_many_threads_fetch_the_first_token_once(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = [emulator.add_operation() for _ in range(30)]
    with ThreadPoolExecutor(8) as pool:
        assert [operation.name for operation in pool.map(client.get_operation, names)] == names
    assert emulator.count("token") == 1


def test_a_token_server_that_recovers(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.add_fault(Fault("token", action="reset_before"))
    assert client.get_operation(name).name == name
    emulator.revoke_tokens()
    emulator.add_fault(Fault("token", action="reset_before"))
    assert client.get_operation(name).name == name
    assert emulator.count("token") == 4


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("token", status=400, rpc_status="invalid_grant", message="Nope.", times=None), "invalid_grant: Nope."),
        (Fault("token", status=400, body=b"<html>", times=None), "<html>"),
        (Fault("token", body=b"<html>", times=None), "the token server's answer is none (TypeError)"),
        (Fault("token", body=b"[]", times=None), "the token server's answer is none (TypeError)"),
        (Fault("token", body=b"{}", times=None), "No access token in response."),
        (Fault("token", body=b'{"access_token": "t", "expires_in": "x"}', times=None), "answer is none (ValueError)"),
    ],
)
def test_no_token(client: EarthEngineOperationsClient, emulator: Emulator, name: str, fault: Fault, says: str) -> None:
    emulator.add_fault(fault)
    error = caught(client, name)
    assert isinstance(error, CredentialsError)
    assert str(error).startswith("no token for emulator@emulator-project.iam.gserviceaccount.com: ")
    assert says in str(error)
    assert not error.retryable
    assert "PRIVATE" not in str(error)
    assert emulator.count("get") == 0


def test_no_token_server(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.add_fault(Fault("token", action="reset_before", times=None))
    error = caught(client, name)
    assert isinstance(error, CredentialsError)
    assert error.retryable
    assert "ConnectionResetError: Connection reset by peer" in str(error)
    assert emulator.count("token") == 4


def test_a_token_that_expires_at_once_serves_one_call(connected: Connect, emulator: Emulator) -> None:
    name = emulator.add_operation("SHORT")
    short = b'{"access_token": "%s", "expires_in": 1}' % emulator.issue_token("robot").encode()
    emulator.add_fault(Fault("token", body=short))
    emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=None))
    client = connected()
    assert client.get_operation(name).name == name
    assert emulator.count("token") == 1
    error = caught(client, name)
    assert isinstance(error, CredentialsError)
    assert "invalid_grant" in str(error)
    assert emulator.count("token") == 2


def test_nobody_listens(connected: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = connected(base_url=f"http://127.0.0.1:{port}", is_anonymous=True)
    error = caught(client, "projects/one/operations/A")
    assert isinstance(error, ConnectionFailedError)
    assert str(error) == (
        f"GET v1alpha/projects/one/operations/A at http://127.0.0.1:{port}: no answer"
        " (ConnectionRefusedError: Connection refused)."
    )


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("reset_before", "ConnectionResetError: Connection reset by peer"),
        ("reset_after", "ConnectionResetError: Connection reset by peer"),
        ("half_body", "IncompleteRead"),
    ],
)
def test_a_broken_line(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str, action: Any, says: str
) -> None:
    emulator.add_fault(Fault("get", action=action, times=3))
    assert client.get_operation(name).name == name
    assert emulator.count("get") == 4
    emulator.add_fault(Fault("get", action=action, times=None))
    error = caught(client, name)
    assert isinstance(error, ConnectionFailedError)
    assert says in str(error)
    assert emulator.count("get") == 8


def test_a_hanging_server(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.add_fault(Fault("get", action="hang", times=None))
    client = connected(read_timeout=0.05, num_retries=1)
    error = caught(client, name)
    assert isinstance(error, ConnectionFailedError)
    assert "imeout" in str(error)
    assert emulator.count("get") == 2


def test_an_answer_that_trickles_beyond_the_deadline(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.require_token = False
    emulator.add_fault(Fault("get", action="trickle", seconds=1.0, times=None))
    client = connected(is_anonymous=True, at=SYSTEM_CLOCK, budget=Budget(retries=0, deadline=0.2, read_timeout=5))
    error = caught(client, name)
    assert isinstance(error, ConnectionFailedError)
    assert "no answer (Timeout)" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "shows", "requests"),
    [
        (200, b"<html>Sign in</html>", "'<html>Sign in</html>'", 1),
        (200, b"", "an empty body", 1),
        (200, b"[]", "'[]'", 1),
        (200, b'"x"', "'\"x\"'", 1),
        (200, b'{"name": "proj', '\'{"name": "proj\'', 1),
        (200, b"[" * 100_000, "'[[[", 1),
        (200, b"\xff\x00", "'\N{REPLACEMENT CHARACTER}'", 1),
        (204, b"", "an empty body", 1),
        (201, b"{}", "'{}'", 1),
        (404, b"<html>No such page</html>", "'<html>No such page</html>'", 1),
        (404, b'{"error": "gone"}', '\'{"error": "gone"}\'', 1),
        (401, b"<html>Log in</html>", "'<html>Log in</html>'", 2),
        (403, b"", "an empty body", 1),
        (408, b"<html>", "'<html>'", 4),
        (501, b"<html>", "'<html>'", 1),
        (502, b"<html>\n<h1>Bad   Gateway</h1>", "'<html> <h1>Bad Gateway</h1>'", 4),
        (503, b"", "an empty body", 4),
    ],
)
def test_an_answer_that_is_not_the_apis(
    *,
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    name: str,
    status: int,
    body: bytes,
    shows: str,
    requests: int,
) -> None:
    emulator.add_fault(Fault("get", status=status, body=body, times=None))
    gc.collect()  # what earlier tests left would be collected in the depth of a recursion, which is one too many
    error = caught(client, name)
    assert isinstance(error, UnexpectedAnswerError)
    assert error.http_status == status
    assert f"GET v1alpha/{name}: HTTP {status} with an answer that is not the API's: {shows}" in str(error)
    assert len(str(error)) < 400
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert emulator.count("get") == requests


def test_a_page_that_says_429_slows_down_too(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    emulator.add_fault(Fault("get", status=429, body=b"<html>", headers={"Retry-After": "7"}))
    assert client.get_operation(name).name == name
    assert max(clock.sleeps) == 7.0


def test_a_page_of_ten_megabytes_is_not_read_to_its_end(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.add_fault(Fault("get", status=500, body=b"x" * 10_000_000, times=None))
    error = caught(connected(num_retries=0), name)
    assert isinstance(error, UnexpectedAnswerError)
    assert len(str(error)) < 400


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str, status: int
) -> None:
    elsewhere = Emulator()
    with EmulatorServer(elsewhere) as other:
        location = f"{other.base_url}/v1alpha/{name}?key=value"
        emulator.add_fault(Fault("any", status=status, headers={"Location": location}, name=name, body=b"moved"))
        error = caught(client, name)
    assert isinstance(error, UnexpectedAnswerError)
    assert not error.retryable
    assert f"a redirect to {location.removesuffix('?key=value')}." in str(error)
    assert elsewhere.count() == 0


def test_a_redirect_to_nowhere(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.add_fault(Fault("get", status=304, body=b""))
    assert "an empty body" in str(caught(client, name))


def test_the_key_is_not_sent_after_a_redirect(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str
) -> None:
    elsewhere = Emulator()
    with EmulatorServer(elsewhere) as other:
        emulator.add_fault(Fault("token", status=307, headers={"Location": f"{other.base_url}/token"}, body=b""))
        assert isinstance(caught(client, name), CredentialsError)
    assert elsewhere.count() == 0


# What is sent


@pytest.fixture
def token(emulator: Emulator) -> str:
    return emulator.issue_token("tester@example.com")


Direct = Callable[..., Transport]


@pytest.fixture
def direct(server: EmulatorServer, token: str, clock: ManualClock) -> Iterator[Direct]:
    """Make transports with a token that is there already."""
    made: list[Transport] = []

    def make(credentials: Any = None, **more: Any) -> Transport:
        arguments = {"base_url": server.base_url, "clock": clock, "pace": Pace(1e6, clock=clock), **more}
        made.append(Transport(credentials or user_credentials.Credentials(token), **arguments))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404},
        {"status": 401},
        {"status": 503},
        {"action": "reset_before"},
        {"status": 502, "body": b"You sent: Authorization: Bearer %s"},
        {"body": b"Bearer %s"},
        {"status": 400, "body": b'{"error": {"message": "Bad: %s", "details": ["%s"]}}'},
    ],
)
def test_the_token_is_in_no_error(
    *,
    direct: Direct,
    emulator: Emulator,
    token: str,
    name: str,
    fault: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = fault.get("body", b"").replace(b"%s", token.encode()) or None
    emulator.add_fault(Fault("get", times=None, **{**fault, "body": body}))
    caplog.set_level(logging.DEBUG, "airflow_provider_eeops")
    with pytest.raises(EarthEngineError) as info:
        direct().request("GET", f"v1alpha/{name}", budget=Budget(retries=1))
    error = info.value
    assert token not in f"{error!s} {error!r} {error.__dict__} {pickle.dumps(error)!r} {caplog.text}"
    assert error.__cause__ is None


def test_a_netrc_does_not_replace_the_token(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client.get_operation(name)
    asked_for_token, asked = emulator.requests
    assert "authorization" not in asked_for_token.headers
    assert asked.principal == "emulator@emulator-project.iam.gserviceaccount.com"


def test_plain_http_goes_past_the_proxy_of_the_environment(
    direct: Direct, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert direct().request("GET", f"v1alpha/{name}", budget=Budget(retries=0))["name"] == name


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Listen, note the first line of each request, and hang up."""
    lines: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                lines.append(stream.readline())

    thread = threading.Thread(target=serve)
    thread.start()
    with closing(listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", lines
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_the_connections_proxy_wins_over_the_environments(
    direct: Direct, server: EmulatorServer, proxy: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, lines = proxy
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    transport = direct(base_url="https://ee.example", proxies={"https": address})
    with pytest.raises(ConnectionFailedError):
        transport.request("GET", "v1/x", budget=Budget(retries=0))
    info = {**server.service_account_info(), "token_uri": "https://token.example/token"}
    robot = service_account.Credentials.from_service_account_info(info, scopes=["s"])
    with pytest.raises(CredentialsError):
        direct(robot, base_url="https://ee.example", proxies={"https": address}).request(
            "GET", "v1/x", budget=Budget(retries=0)
        )
    assert [line.split()[:2] for line in lines] == [[b"CONNECT", b"ee.example:443"], [b"CONNECT", b"token.example:443"]]


def test_a_proxys_password_is_in_no_error(direct: Direct) -> None:
    transport = direct(base_url="https://ee.example", proxies={"https": "http://user:hush@127.0.0.1:1"})
    with pytest.raises(ConnectionFailedError) as info:
        transport.request("GET", "v1/x", budget=Budget(retries=0))
    assert (
        str(info.value)
        == "GET v1/x at https://ee.example: no answer (at the proxy: ConnectionRefusedError: Connection refused)."
    )


def test_the_connections_certificates_win_over_the_environments(
    direct: Direct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = tmp_path / "environment.pem"
    environments.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(environments))
    transport = direct(base_url="https://127.0.0.1:1", ca_bundle=str(tmp_path / "gone.pem"))
    with pytest.raises(ConnectionFailedError, match=r"no answer \(OSError\)"):
        transport.request("GET", "v1/x", budget=Budget(retries=0))


def test_a_hold_of_one_call_does_not_stop_a_kill(connected: Connect, emulator: Emulator, name: str) -> None:
    class Interrupted(ManualClock):
        def sleep(self, seconds: float) -> None:
            if seconds > 30:
                began = self.monotonic()
                client.within(KILL_BUDGET).cancel_operation(name)
                killed_after.append(self.monotonic() - began)
            super().sleep(seconds)

    killed_after: list[float] = []
    client = connected(at=Interrupted())
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "60"}))
    client.get_operation(name)
    assert killed_after == pytest.approx([0], abs=0.01)
    assert emulator.cancel_requested(name)


def test_a_429_holds_the_other_calls_back(connected: Connect, emulator: Emulator, name: str) -> None:
    class Interrupted(ManualClock):
        def sleep(self, seconds: float) -> None:
            if seconds > 30 and not others:
                others.append(self.monotonic())
                client.get_operation(name)
                others.append(self.monotonic())
            super().sleep(seconds)

    others: list[float] = []
    client = connected(at=Interrupted())
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "60"}))
    client.get_operation(name)
    assert others[1] - others[0] == pytest.approx(60, abs=0.01)


def test_closing_leaves_no_connection(connected: Connect, server: EmulatorServer, emulator: Emulator) -> None:
    def open_connections() -> int:
        port = int(server.base_url.rpartition(":")[2])
        sockets = [
            found for found in gc.get_objects() if issubclass(type(found), socket.socket) and found.fileno() != -1
        ]
        return sum(found.family == socket.AF_INET and peer_port(found) == port for found in sockets)

    client = connected()
    with client:
        client.get_operation(emulator.add_operation())
        assert open_connections() > 0
    gc.collect()
    assert open_connections() == 0


def peer_port(found: socket.socket) -> int | None:
    try:
        return int(found.getpeername()[1])
    except (OSError, IndexError):
        return None


# A group of calls that ends at one moment


def test_after_the_end_nothing_is_sent(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    error = caught(client.ending(clock.monotonic()), name)
    assert isinstance(error, ConnectionFailedError)
    assert str(error) == f"GET v1alpha/{name}: not sent, no time was left."
    assert emulator.count() == 0


def test_a_retry_does_not_outlast_the_end(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    emulator.add_fault(Fault("get", status=503, headers={"Retry-After": "5"}, times=None))
    began = clock.monotonic()
    assert isinstance(caught(client.ending(began + 12), name), UnavailableError)
    assert emulator.count("get") == 3
    assert clock.monotonic() - began < 12


def test_no_pace_but_the_error_met_when_the_end_comes_first(
    connected: Connect, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    client = connected(requests_per_second=0.1)
    emulator.add_fault(Fault("get", status=503, times=None))
    assert isinstance(caught(client.ending(clock.monotonic() + 5), name), UnavailableError)
    assert emulator.count("get") == 1


def test_a_token_server_that_hangs_holds_nobody_beyond_the_end(connected: Connect, emulator: Emulator) -> None:
    client = connected(at=SYSTEM_CLOCK)
    emulator.add_fault(Fault("token", action="hang", times=None))
    began = SYSTEM_CLOCK.monotonic()
    ending = client.ending(began + 0.5)
    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(lambda number: caught(ending, f"projects/one/operations/{number}"), range(40)))
    assert SYSTEM_CLOCK.monotonic() - began < 2
    assert {type(error) for error in errors} <= {CredentialsError, ConnectionFailedError}
    assert emulator.count("token") <= 3


def test_who_waited_for_a_token_takes_the_failure(connected: Connect, emulator: Emulator, name: str) -> None:
    client = connected(num_retries=0)
    emulator.add_fault(Fault("token", action="reset_before", seconds=0.3, times=None))
    barrier = threading.Barrier(8)

    def get(_: int) -> EarthEngineError:
        barrier.wait()
        return caught(client, name)

    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(get, range(8)))
    assert {type(error) for error in errors} == {CredentialsError}
    assert len({id(error) for error in errors}) == 8
    assert emulator.count("token") < 8


def test_a_refused_token_is_asked_for_once_a_second(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=3))
    for _ in range(3):
        for _ in range(5):
            assert "invalid_grant" in str(caught(client, name))
        clock.advance(1.01)
    assert emulator.count("token") == 3
    assert client.get_operation(name).name == name


def test_a_source_of_credentials_that_raises_anything(direct: Direct, name: str) -> None:
    class Slow(user_credentials.Credentials):
        def refresh(self, _request: Any) -> None:
            raise TimeoutExpired("secret program", 5)

    slow: Any = Slow
    with pytest.raises(CredentialsError, match=r"no token for .*: TimeoutExpired$") as info:
        direct(slow(None)).request("GET", f"v1alpha/{name}", budget=Budget(retries=0))
    assert "secret" not in str(info.value)


class PatientCredentials(google.auth.credentials.Credentials):
    """Asks again by itself after an error that google-auth knows, as those of the metadata server do."""

    def __init__(self, url: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._url = url

    def refresh(self, request: Callable[..., Any]) -> None:
        for _ in range(3):
            with suppress(TransportError):
                request(self._url, method="POST")
        raise RefreshError("no answer")


def test_a_token_server_that_is_busy_is_asked_again_by_our_clock_alone(
    direct: Direct, emulator: Emulator, server: EmulatorServer
) -> None:
    emulator.add_fault(Fault("token", status=503, times=None))
    transport = direct(PatientCredentials(f"{server.base_url}/token"))
    with pytest.raises(CredentialsError) as caught:
        transport.request("GET", "v1alpha/projects/one/operations/A", budget=Budget(retries=2))
    assert caught.value.retryable
    assert emulator.count("token") == 3
