from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from subprocess import TimeoutExpired
from typing import Any, ClassVar

import pytest

from airflow_provider_eeops.api.cancelling import KILL_BUDGET, cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.clock import SYSTEM_CLOCK
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report
from airflow_provider_eeops.api.names import parse_operation_names
from airflow_provider_eeops.emulator import Emulator, Fault
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]

log = logging.getLogger("test.cancelling")


def only(report: Report) -> OperationResult:
    (result,) = report.results
    return result


def short(result: OperationResult) -> tuple[str, str | None, int | None]:
    return result.outcome.value, result.state, result.error_code


@pytest.mark.parametrize(
    ("operation", "outcome"),
    [
        ({}, ("cancel_requested", "CANCELLING", None)),
        ({"pending_seconds": 0}, ("cancel_requested", "CANCELLING", None)),
        ({"cancel_seconds": 0}, ("cancelled", "CANCELLED", 1)),
        ({"cancelled": True}, ("cancelled", "CANCELLED", 1)),
        ({"finished": True}, ("finished_first", "SUCCEEDED", None)),
        ({"finished": True, "ends": "FAILED", "error_code": 3}, ("finished_first", "FAILED", 3)),
        ({"ignores_cancel": True}, ("cancel_requested", "CANCELLING", None)),
    ],
)
@pytest.mark.parametrize("cancel_finished", ["ok", "failed_precondition"])
def test_outcomes(
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    operation: dict[str, Any],
    outcome: tuple[Any, ...],
    cancel_finished: Any,
) -> None:
    emulator.cancel_finished = cancel_finished
    name = emulator.add_operation(**operation)
    result = only(cancel_operations(client, [name]))
    assert result.name == name
    assert short(result) == outcome


@pytest.mark.parametrize(
    ("operation", "outcome", "gets"),
    [
        ({}, ("cancel_requested", None, None), 0),
        ({"cancel_seconds": 0}, ("cancel_requested", None, None), 0),
        ({"finished": True}, ("finished_first", "SUCCEEDED", None), 1),
        ({"cancelled": True}, ("cancelled", "CANCELLED", 1), 1),
    ],
)
def test_without_a_look_afterwards_only_what_was_seen_is_said(
    client: EarthEngineOperationsClient, emulator: Emulator, operation: dict[str, Any], outcome: Any, gets: int
) -> None:
    emulator.cancel_finished = "failed_precondition"
    name = emulator.add_operation(**operation)
    assert short(only(cancel_operations(client, [name], look_after=False))) == outcome
    assert emulator.count("get") == gets


def test_what_cannot_be_cancelled(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    denied = emulator.add_operation("DENIED")
    emulator.deny("earthengine.operations.update", name=denied)
    names = ["projects/one/operations/GONE", denied, "projects/three/operations/A"]
    report = cancel_operations(client, names)
    assert [short(result) for result in report.results] == [
        ("not_found", None, 5),
        ("permission_denied", None, 7),
        ("permission_denied", None, 7),
    ]
    assert "has not been used in project three before or it is disabled" in str(report.results[2])
    assert emulator.state(denied) == "PENDING"


def test_outside_the_allowed_projects(connected: Connect, emulator: Emulator) -> None:
    name = emulator.add_operation()
    report = cancel_operations(connected(allowed_projects="two"), [name])
    assert only(report).outcome is Outcome.PERMISSION_DENIED
    assert emulator.count() == 0


def test_a_server_that_cannot_cancel(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    emulator.cancel_supported = False
    name = emulator.add_operation()
    assert short(only(cancel_operations(client, [name]))) == ("unsupported", None, 12)
    assert emulator.count("cancel") == 1
    assert emulator.count("get") == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "reset_after"},
        {"status": 504, "takes_effect": True},
        {"status": 200, "body": b"", "takes_effect": True},
        {"status": 502, "body": b"<html>", "takes_effect": True},
    ],
)
def test_an_answer_that_was_lost_is_replaced_by_what_is_seen(
    connected: Connect, emulator: Emulator, fault: dict[str, Any]
) -> None:
    client = connected(num_retries=0)
    for operation, outcome in (
        ({}, "cancel_requested"),
        ({"cancel_seconds": 0}, "cancelled"),
        ({"finished": True}, "finished_first"),
    ):
        name = emulator.add_operation(**operation)
        emulator.add_fault(Fault("cancel", **fault))
        assert only(cancel_operations(client, [name])).outcome.value == outcome


@pytest.mark.parametrize("fault", [{"action": "reset_before"}, {"status": 503}, {"status": 200, "body": b"<html>"}])
def test_a_request_that_had_no_effect_is_an_error_with_the_state_seen(
    connected: Connect, emulator: Emulator, fault: dict[str, Any]
) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", times=None, **fault))
    result = only(cancel_operations(connected(num_retries=0), [name]))
    assert (result.outcome, result.state) == (Outcome.ERROR, "PENDING")
    assert result.error_message
    assert not emulator.cancel_requested(name)


def test_a_request_that_failed_on_what_is_gone(connected: Connect, emulator: Emulator) -> None:
    emulator.add_fault(Fault("cancel", status=503))
    result = only(cancel_operations(connected(num_retries=0), ["projects/one/operations/GONE"]))
    assert result.outcome is Outcome.NOT_FOUND


def test_a_lost_answer_that_cannot_be_replaced_is_an_error(connected: Connect, emulator: Emulator) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", action="reset_after"))
    emulator.add_fault(Fault("get", status=503))
    result = only(cancel_operations(connected(num_retries=0), [name]))
    assert short(result) == ("error", None, 14)
    assert "ConnectionResetError" in str(result)


def test_the_look_afterwards_may_fail(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    emulator.deny("earthengine.operations.get")
    name = emulator.add_operation(cancel_seconds=0)
    assert short(only(cancel_operations(client, [name]))) == ("cancel_requested", None, None)
    assert emulator.state(name) == "CANCELLED"


def test_a_look_afterwards_that_fails_is_told_once(
    client: EarthEngineOperationsClient, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.deny("earthengine.operations.get")
    names = [emulator.add_operation() for _ in range(8)]
    assert cancel_operations(client, names).counts == {"cancel_requested": 8}
    (text,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "and of 7 operations more was requested; asked for the state: HTTP 403 PERMISSION_DENIED: " in text
    assert any(name in text for name in names)


def test_a_refused_token_is_asked_for_once(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = [f"projects/one/operations/{number}" for number in range(2000)]
    emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=None))
    report = cancel_operations(client, names)
    assert report.counts == {"error": 2000}
    assert [result.name for result in report.results] == names
    assert all("invalid_grant" in str(result) for result in report.results)
    assert emulator.count("token") == 1


def test_a_name_given_twice_is_in_the_report_once(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    name = emulator.add_operation()
    assert only(cancel_operations(client, [name, name])).name == name
    assert emulator.count("cancel") == 1


def test_a_reset_after_which_a_repeat_succeeds(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", action="reset_after"))
    assert only(cancel_operations(client, [name])).outcome is Outcome.CANCEL_REQUESTED
    assert emulator.count("cancel") == 2


def test_one_bad_of_many_stops_no_other(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = [emulator.add_operation() for _ in range(60)]
    names[30] = "projects/one/operations/GONE"
    parsed = parse_operation_names([*names, "projects/one/operations/.."])
    told: list[str] = []
    report = cancel_operations(
        client, parsed.names, invalid=parsed.invalid, on_result=lambda result: told.append(result.name)
    )
    assert report.counts == {"cancel_requested": 59, "not_found": 1, "error": 1}
    assert [result.name for result in report.results] == [*names, "'projects/one/operations/..'"]
    assert sorted(told) == sorted(names)
    assert all(emulator.state(name) == "CANCELLING" for name in names if "GONE" not in name)
    assert (emulator.count("cancel"), emulator.count("list"), emulator.count("get")) == (60, 1, 0)


def test_nothing_to_cancel(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    assert cancel_operations(client, []).results == ()
    assert emulator.count() == 0


def test_requests_at_once_are_bounded(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = [emulator.add_operation() for _ in range(20)]
    emulator.latency = 0.01
    most: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.001):
            most.append(sum(record.status is None for record in list(emulator.requests)))

    watcher = threading.Thread(target=look)
    watcher.start()
    report = cancel_operations(client, names, max_concurrency=3)
    done.set()
    watcher.join()
    assert report.counts == {"cancel_requested": 20}
    assert 2 <= max(most) <= 3


# In haste


def test_in_haste_every_operation_is_in_the_log(
    client: EarthEngineOperationsClient, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    running, finished = emulator.add_operation("RUNNING"), emulator.add_operation("FINISHED", finished=True)
    denied = emulator.add_operation("DENIED")
    emulator.cancel_finished = "failed_precondition"
    emulator.deny("earthengine.operations.update", name=denied)
    parsed = parse_operation_names([running, finished, denied, "projects/one/operations/GONE", "A?"])
    caplog.set_level(logging.INFO, log.name)
    report = cancel_in_haste(client, parsed.names, log=log, because="The task was killed.", invalid=parsed.invalid)
    logged = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == log.name]
    assert logged[0] == ("INFO", "The task was killed. Requesting cancellation of 4 operations.")
    order = [running, finished, denied, "projects/one/operations/GONE", "'A?'"]
    logged[1:] = sorted(logged[1:], key=lambda line: order.index(line[1].split(": ")[0]))
    assert [(level, text.split(": ")[0], text.split(": ")[1]) for level, text in logged[1:]] == [
        ("INFO", running, "cancel requested"),
        ("INFO", finished, "finished first (SUCCEEDED)"),
        ("ERROR", denied, "permission denied"),
        ("INFO", "projects/one/operations/GONE", "not found"),
        ("ERROR", "'A?'", "error"),
    ]
    assert len(report.results) == 5
    assert emulator.cancel_requested(running)


def test_in_haste_nothing_is_asked_but_what_replaces_a_guess(
    client: EarthEngineOperationsClient, emulator: Emulator
) -> None:
    names = [emulator.add_operation() for _ in range(40)]
    report = cancel_in_haste(client, names, log=log, because="")
    assert report.counts == {"cancel_requested": 40}
    assert (emulator.count("cancel"), emulator.count("get"), emulator.count("list")) == (40, 0, 0)


def test_in_haste_little_time_is_spent(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock
) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", status=503, headers={"Retry-After": "3"}, times=None))
    began = clock.monotonic()
    result = only(cancel_in_haste(client, [name], log=log, because=""))
    assert result.outcome is Outcome.ERROR
    assert clock.monotonic() - began < KILL_BUDGET.deadline
    assert emulator.count("cancel") == 2
    assert emulator.count("get") == 0


@pytest.mark.parametrize("method", ["token", "cancel"])
def test_in_haste_a_server_that_hangs_does_not_hold_it(
    connected: Connect, emulator: Emulator, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    client = connected(at=SYSTEM_CLOCK)
    names = [f"projects/one/operations/{number}" for number in range(64)]
    emulator.add_fault(Fault(method, action="hang", times=None))
    began = SYSTEM_CLOCK.monotonic()
    cancel_in_haste(client, names[:1], log=log, because="", seconds=0.5)
    for_one = SYSTEM_CLOCK.monotonic() - began
    caplog.clear()
    began = SYSTEM_CLOCK.monotonic()
    report = cancel_in_haste(client, names, log=log, because="", seconds=0.5)
    assert SYSTEM_CLOCK.monotonic() - began < 8 * for_one, "64 names take what one takes, not 64 times as long"
    assert report.counts == {"error": 64}
    assert [result.name for result in report.results] == names
    # Whether the line before them is captured too depends on the level that others left.
    errors = [
        record.getMessage() for record in caplog.records if record.name == log.name and record.levelname == "ERROR"
    ]
    assert sorted(errors) == sorted(str(result) for result in report.results)


def test_in_haste_each_result_is_logged_as_it_comes(connected: Connect, emulator: Emulator) -> None:
    class Log:
        lines: ClassVar[list[tuple[float, str]]] = []

        def info(self, message: str, /, *args: Any) -> None:
            self.lines.append((SYSTEM_CLOCK.monotonic() - began, message % args))

        warning = error = info

    client = connected(at=SYSTEM_CLOCK)
    slow, quick = emulator.add_operation(), emulator.add_operation()
    client.get_operation(quick)
    emulator.add_fault(Fault("cancel", action="hang", name=slow, times=None))
    began = SYSTEM_CLOCK.monotonic()
    cancel_in_haste(client, [slow, quick], log=Log(), because="", seconds=1.0)
    (at_quick, first), (at_slow, last) = Log.lines[1:]
    assert first == f"{quick}: cancel requested"
    assert last.startswith(f"{slow}: error: ")
    assert at_quick < 0.8 < at_slow < 2.0


def test_in_haste_what_the_pace_leaves_no_time_for_is_an_error(
    connected: Connect, emulator: Emulator, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = connected(requests_per_second=2)
    names = [emulator.add_operation() for _ in range(40)]
    began = clock.monotonic()
    report = cancel_in_haste(client, names, log=log, because="", seconds=4.0)
    assert clock.monotonic() - began <= 4.0
    assert report.counts == {"cancel_requested": 8, "error": 32}
    assert "not sent, no time was left" in str(report.having(Outcome.ERROR)[0])
    assert "40 requests at 2 a second take 20 s, and 4 s are left: 8 can be sent." in caplog.text, "said in advance"


def test_in_haste_nothing_is_raised(
    client: EarthEngineOperationsClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_name: str) -> None:
        raise TimeoutExpired("secret program", 5)

    monkeypatch.setattr(EarthEngineOperationsClient, "cancel_operation", lambda _self, name: fail(name))
    result = only(cancel_in_haste(client, ["projects/one/operations/A"], log=log, because=""))
    assert (result.outcome, emulator.count()) == (Outcome.ERROR, 0)
    assert result.error_message == "an error that was not expected: TimeoutExpired"


def test_a_quota_that_others_use_too_slows_all_threads_down_and_fails_nothing(
    connected: Connect, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    emulator.requests_per_second = 20
    names = [emulator.add_operation() for _ in range(400)]
    report = cancel_operations(connected(requests_per_second=40), names, look_after=False)
    assert report.counts == {"cancel_requested": 400}
    refused = sum(record.status == 429 for record in emulator.requests_since(0))
    assert 0 < refused < 0.2 * emulator.count("cancel")
    told = [record.getMessage() for record in caplog.records if "All requests wait" in record.getMessage()]
    assert 0 < len(told) <= refused, "told once, however many threads were refused together"
    assert "go on at 28 a second" in told[0]
