"""What is told while operations are cancelled and waited for, compared with what the emulator knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.observing import (
    CANCEL,
    CANCELS_REQUESTED,
    METRICS,
    OUTCOMES,
    PACE_WAITS,
    POLLS,
    RATE_LIMIT_WAITS,
    RETRIES,
    TIME_TO_CONFIRMATION,
    WAIT,
)
from airflow_provider_eeops.api.polling import wait
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import QuotaExceededError
from tests.support.clock import ManualClock
from tests.support.observing import Recorder


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def observed(server: EmulatorServer, clock: ManualClock, told: Recorder) -> Callable[..., EarthEngineOperationsClient]:
    def make(requests_per_second: float = 1e6) -> EarthEngineOperationsClient:
        settings = Settings.from_extras(
            {
                "base_url": server.base_url,
                "requests_per_second": requests_per_second,
                "num_retries": 3,
                "keyfile_dict": server.service_account_info(),
            }
        )
        return connect(settings, load_credentials(settings).credentials, clock=clock, observer=told)

    return make


@pytest.fixture
def client(observed: Callable[..., EarthEngineOperationsClient]) -> EarthEngineOperationsClient:
    return observed()


def test_each_name_is_defined_once_and_begins_alike() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("eeops.") for name in names)
    assert all(metric.tags == tuple(sorted(metric.tags)) for metric in METRICS)
    assert not any("operation" in metric.tags for metric in METRICS)


def test_what_is_requested_and_what_became_of_it(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    names = [emulator.add_operation(project=project) for project in ("one", "one", "two")]
    gone = "projects/two/operations/GONE"
    cancel_operations(client, [*names, gone])
    assert emulator.count("cancel") == 4
    assert sorted(tags["project"] for _, tags in told.of(CANCELS_REQUESTED)) == ["one", "one", "two"]
    assert {(tags["project"], tags["outcome"]): number for number, tags in told.of(OUTCOMES)} == {
        ("one", "cancel_requested"): 2,
        ("two", "cancel_requested"): 1,
        ("two", "not_found"): 1,
    }
    assert len(told.of(POLLS)) == emulator.count("get") + emulator.count("list") == 3


def test_a_refused_request_is_not_one_that_was_accepted(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    emulator.add_fault(Fault("cancel", status=403))
    cancel_operations(client, [emulator.add_operation()])
    assert told.of(CANCELS_REQUESTED) == []
    assert told.of(OUTCOMES) == [(1, {"project": "one", "outcome": "permission_denied"})]


def test_what_is_no_operation_is_in_no_tag(client: EarthEngineOperationsClient, told: Recorder) -> None:
    cancel_operations(client, ["ya29.secret", "projects/one/operations/../ya29.secret"])
    assert told.of(OUTCOMES) == []
    (span,) = told.spans
    assert span.attributes["eeops.projects"] == []
    assert "ya29" not in repr(span.attributes)


def test_a_wait_tells_how_long_each_took_from_the_request(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, told: Recorder
) -> None:
    name = emulator.add_operation()  # ends five seconds after it was asked to
    report = cancel_operations(client, [name])
    assert report.counts == {"cancel_requested": 1}
    told.told.clear()
    watch = Watch((name,), requested_at=clock.time())
    assert wait(client, watch, poll_interval=2) is Verdict.SETTLED
    assert told.of(TIME_TO_CONFIRMATION) == [(6, {"project": "one", "outcome": "cancelled"})]
    assert told.of(OUTCOMES) == [(1, {"project": "one", "outcome": "cancelled"})]
    assert [tags["method"] for _, tags in told.of(POLLS)] == ["get"] * 4


def test_what_is_confirmed_at_the_look_after_is_timed_too(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    assert cancel_operations(client, [emulator.add_operation(cancel_seconds=0)]).counts == {"cancelled": 1}
    assert told.of(TIME_TO_CONFIRMATION) == [(0, {"project": "one", "outcome": "cancelled"})]


def test_a_wait_for_what_nobody_asked_to_cancel_is_not_timed(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    name = emulator.add_operation()
    wait(client, Watch((name,)), poll_interval=600)
    assert told.of(TIME_TO_CONFIRMATION) == []
    assert told.of(OUTCOMES) == [(1, {"project": "one", "outcome": "finished_first"})]


def test_many_are_asked_for_by_listing(client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder) -> None:
    cancel_operations(client, [emulator.add_operation() for _ in range(20)])
    assert told.of(POLLS) == [(1, {"method": "list", "project": "one"})]


def test_what_is_sent_again_and_why(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, told: Recorder
) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("get", status=503))
    emulator.add_fault(Fault("get", action="reset_before"))
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "7"}))
    client.get_operation(name)
    assert [tags["http_status"] for _, tags in told.of(RETRIES)] == ["503", "none", "429"]
    assert told.of(RATE_LIMIT_WAITS) == [(7, {"project": "one"})]
    assert max(clock.sleeps) == 7


def test_a_429_that_ends_the_call_holds_the_others_too_and_is_told(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "1000"}))
    with pytest.raises(QuotaExceededError):
        client.get_operation(name)
    assert told.of(RETRIES) == []
    assert told.of(RATE_LIMIT_WAITS) == [(120, {"project": "one"})]


def test_a_request_that_waits_for_its_turn(
    observed: Callable[..., EarthEngineOperationsClient], emulator: Emulator, told: Recorder
) -> None:
    client, name = observed(requests_per_second=2), emulator.add_operation()
    for _ in range(3):
        client.get_operation(name)
    assert told.of(PACE_WAITS) == [(0.5, {"project": "one"})] * 2


def test_all_that_is_defined_is_told(
    observed: Callable[..., EarthEngineOperationsClient], emulator: Emulator, clock: ManualClock, told: Recorder
) -> None:
    client, name = observed(requests_per_second=2), emulator.add_operation()
    emulator.add_fault(Fault("cancel", status=429))
    cancel_operations(client, [name])
    wait(client, Watch((name,), requested_at=clock.time()), poll_interval=2)
    assert {each for each, _, _ in told.told} == {metric.name for metric in METRICS}
    assert [span.kind for span in told.spans] == [CANCEL, WAIT]


def test_the_span_of_a_cancel(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, told: Recorder
) -> None:
    emulator.add_fault(Fault("cancel", status=503, headers={"Retry-After": "3"}))
    name, began = emulator.add_operation(), clock.time()
    cancel_operations(client, [name])
    (span,) = told.spans
    assert (span.began, span.ended - began >= 3, span.error) == (began, True, None)
    assert span.attributes == {
        "eeops.operations": 1,
        "eeops.operation": name,
        "eeops.projects": ["one"],
        "eeops.outcomes.cancel_requested": 1,
    }


def test_the_span_of_one_that_failed_says_so(
    client: EarthEngineOperationsClient, emulator: Emulator, told: Recorder
) -> None:
    cancel_operations(client, [emulator.add_operation(), "projects/two/operations/GONE"])
    emulator.add_fault(Fault("cancel", status=403, times=None))
    cancel_operations(client, [emulator.add_operation()])
    assert [span.error for span in told.spans] == [None, "permission_denied"]
    assert told.spans[0].attributes["eeops.projects"] == ["one", "two"]


def test_the_span_of_a_wait_says_how_it_ended(
    client: EarthEngineOperationsClient, emulator: Emulator, clock: ManualClock, told: Recorder
) -> None:
    name = emulator.add_operation()
    wait(client, Watch((name,), deadline=clock.time() + 5), poll_interval=2)

    def killed(_seconds: float) -> None:
        raise KeyboardInterrupt("ya29.secret")

    with pytest.raises(KeyboardInterrupt):
        wait(client, Watch((name,)), poll_interval=2, sleep=killed)
    assert [span.error for span in told.spans] == ["timed_out", "KeyboardInterrupt"]
    assert told.of(OUTCOMES) == [(1, {"project": "one", "outcome": "not_confirmed_in_time"})]
    assert "ya29" not in repr([vars(span) for span in told.spans])
