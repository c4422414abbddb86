"""The parts of the soak that do not measure: what is drawn, what is judged, what logs say."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from airflow_provider_eeops.emulator import Fault
from tests.soak import __main__ as command
from tests.soak import plan
from tests.soak.emulating import SoakEmulator, SoakServer, email
from tests.soak.judging import Sample, Seen, Truth, cancel_errors, flatness, judge
from tests.soak.logs import leaks, longest_block, secrets_of, trigger_logs
from tests.soak.plan import End, PlannedWait, Schedule

ONE, TWO = "projects/soak-one/operations/ONE", "projects/soak-one/operations/TWO"
TRUTHS = {ONE: Truth("finished_first", "FAILED", 100.0), TWO: Truth("not_found", None, 120.0)}


def payload(*told: tuple[str, str, str | None], verdict: str = "settled") -> dict[str, Any]:
    operations = [{"name": name, "outcome": outcome, "state": state} for name, outcome, state in told]
    return {"verdict": verdict, "message": "why", "report": {"operations": operations}}


RIGHT = payload((ONE, "finished_first", "FAILED"), (TWO, "not_found", "RUNNING"))


def wrong(seen: Seen | None) -> dict[str, int]:
    """Kinds of what is wrong with one wait for both."""
    waits = {0: PlannedWait("soak_one", (ONE, TWO), 5.0)}
    verdict = judge(waits, TRUTHS, {} if seen is None else {0: seen})
    return {kind: len(lines) for kind, lines in verdict.wrong.items() if lines}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(50.0, (121.0,), (RIGHT,)), {}),
        (None, {"missing": 1}),
        (Seen(50.0, (), ()), {"missing": 1}),
        (Seen(50.0, (121.0,), ()), {"missing": 1}),
        (Seen(50.0, (), (RIGHT,)), {"missing": 1}),
        (Seen(50.0, (121.0, 122.0), (RIGHT,)), {"double": 1}),
        (Seen(50.0, (121.0,), (RIGHT, RIGHT)), {"double": 1}),
        (Seen(50.0, (119.9,), (RIGHT,)), {"early": 1}),
        (Seen(50.0, (121.0,), (payload((ONE, "finished_first", "FAILED")),)), {"untrue": 1}),
        (
            Seen(50.0, (121.0,), (payload((ONE, "finished_first", "SUCCEEDED"), (TWO, "not_found", None)),)),
            {"untrue": 1},
        ),
        (Seen(50.0, (121.0,), (payload((ONE, "cancelled", "FAILED"), (TWO, "not_found", None)),)), {"untrue": 1}),
        (Seen(50.0, (121.0,), ({**RIGHT, "verdict": "polls_failed"},)), {"untrue": 1}),
        (Seen(50.0, (121.0,), ({},)), {"untrue": 1}),
    ],
)
def test_an_event_is_judged_by_what_the_emulator_knows(seen: Seen | None, expected: dict[str, int]) -> None:
    assert wrong(seen) == expected


def test_an_event_of_a_wait_that_nobody_added_is_one_too_many() -> None:
    assert judge({}, TRUTHS, {7: Seen(50.0, (121.0,), (RIGHT,))}).wrong["double"] == ["wait 7 was never asked for"]


@pytest.mark.parametrize(
    ("started", "fired", "outages", "late"),
    [
        (50.0, 127.0, (), 2.0),
        (50.0, 147.0, ((110.0, 130.0),), 12.0),
        (50.0, 147.0, ((90.0, 95.0), (146.0, 150.0)), 21.0),
        (118.0, 130.0, (), 2.0),
    ],
)
def test_late_is_what_the_interval_and_an_outage_do_not_explain(
    started: float, fired: float, outages: tuple[tuple[float, float], ...], late: float
) -> None:
    waits = {0: PlannedWait("soak_one", (ONE, TWO), 5.0)}
    assert judge(waits, TRUTHS, {0: Seen(started, (fired,), (RIGHT,))}, outages=outages).late == {0: late}


def test_cancels_are_judged() -> None:
    assert cancel_errors({"a", "b"}, {"a"}, {"a": "cancel_requested", "b": "finished_first"}) == []
    assert cancel_errors({"a", "b", "c"}, {"b", "other"}, {"a": "cancel_requested", "b": "error"}) == [
        "other: requested, though nobody asked",
        "a: said to be requested, and is not",
        "c: not in a report",
    ]


def grown(*values: float) -> list[Sample]:
    return [Sample(float(at), {"memory": value}) for at, value in enumerate(values)]


def test_flat_and_not() -> None:
    flat = flatness(grown(900, 900, *[100, 101, 99] * 3), "memory", since=2, until=10)
    assert (flat.first, flat.last, flat.most, flat.ratio) == (100, 100, 101, 1.0)
    growing = flatness(grown(*range(100, 112)), "memory", since=0, until=11)
    assert (growing.first, growing.last, round(growing.slope)) == (101.5, 109.5, 3600)
    assert flatness(grown(*[0] * 6, *[3] * 3), "memory", since=0, until=8).ratio == float("inf")


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        flatness(grown(1, 1, 1, 1, 1), "memory", since=0, until=4)


def test_all_kinds_of_operations_are_drawn() -> None:
    random = Random(1)
    drawn = [plan.operation(random, left=60.0) for _ in range(500)]
    assert {each.end for each in drawn} == set(End)
    assert {each.project for each in drawn} == set(plan.PROJECTS)
    assert all(20 <= each.seconds <= 60 and 0 < each.struck < each.seconds for each in drawn)
    assert drawn[:2] == [plan.operation(again, left=60.0) for again in [Random(1)] for _ in range(2)]


def test_every_new_operation_is_waited_for_and_some_by_two() -> None:
    new = [f"projects/{plan.PROJECTS[number % 2]}/operations/N{number}" for number in range(400)]
    running = [f"projects/{plan.PROJECTS[number % 2]}/operations/R{number}" for number in range(50)]
    waits = plan.waits(Random(2), new, running)
    times = Counter(name for wait in waits for name in wait.names)
    assert all(times[name] == 1 for name in new)
    assert set(times) > set(new)
    assert {wait.conn_id for wait in waits} == set(plan.CONNECTIONS)
    assert all(len(set(wait.names)) == len(wait.names) for wait in waits)
    assert any(len({name.split("/")[1] for name in wait.names}) == 2 for wait in waits)
    assert plan.waits(Random(2), [], running) == []


def test_one_outage_is_before_what_is_compared_and_one_in_its_middle() -> None:
    for seconds in (120.0, 600.0, 1800.0):
        schedule = Schedule(seconds)
        third = (seconds - schedule.warm) / 3
        first, second = schedule.outages
        assert 0 < first < schedule.warm
        assert schedule.warm + third < second < seconds - third


def test_as_many_requests_fail_as_was_asked_for() -> None:
    random = Random(3)
    drawn = [plan.fault(random, share=0.05) for _ in range(4000)]
    faults = [fault for fault in drawn if fault is not None]
    assert 120 < len(faults) < 280
    assert len({(fault.status, fault.action) for fault in faults}) == 8
    assert plan.fault(random, share=0.0) is None


def test_the_emulator_fails_vanishes_and_restarts() -> None:
    emulator = SoakEmulator(Random(4), fault_share=0.0, pending_seconds=0.0, run_seconds=3600.0)
    emulator.add_fault(Fault("get"))
    assert emulator.take_fault("get", None) == Fault("get")
    assert emulator.take_fault("get", None) is None
    kept, gone = emulator.add_operation(), emulator.add_operation()
    assert emulator.vanish(gone)
    assert emulator.truth(gone).outcome == "not_found"
    assert emulator.running() == [kept]
    with SoakServer(emulator) as server:
        address = server.base_url
        token = emulator.issue_token("somebody@example.com")
        assert emulator.identify({"authorization": f"Bearer {token}"}) is not None
        server.go()
        assert emulator.identify({"authorization": f"Bearer {token}"}) is None
        server.come_back()
        assert server.key(plan.CONNECTIONS[0])["token_uri"] == f"{address}/token"
        assert server.key(plan.CONNECTIONS[0])["client_email"] == email(plan.CONNECTIONS[0])
    ((start, end),) = server.outages
    assert start <= end
    assert emulator.running() == [kept]
    emulator.request_cancel(kept)
    assert emulator.cancels_taken == {kept}


def test_the_logs_tell_when_a_trigger_started_and_fired(tmp_path: Path) -> None:
    own, triggerer = tmp_path / "attempt=1.log.trigger.1.log", tmp_path / "triggerer.log"
    lines = [
        {"timestamp": datetime.fromtimestamp(moment, UTC).isoformat(), "event": event, "map_index": 3}
        for moment, event in ((10, "trigger starting"), (20, "polled"), (30, "Trigger fired event"))
    ]
    own.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]) + "no JSON\n")
    triggerer.write_text(json.dumps({**lines[0], "map_index": 4}) + '\n{"event": "heartbeat"}\n' + json.dumps(lines[2]))
    found = trigger_logs([own, triggerer])
    assert {index: (log.started, log.fired) for index, log in found.items()} == {3: (10.0, [30.0]), 4: (10.0, [])}


def test_the_longest_block_is_told() -> None:
    assert longest_block("") == 0.0
    lines = [
        "Triggerer's async thread was blocked for 0.26 seconds, x",
        "async thread was blocked for 21.89 seconds, y",
    ]
    assert longest_block("\n".join(lines)) == 21.89


def test_a_credential_in_a_file_is_found_and_not_told(tmp_path: Path) -> None:
    key = {"private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvAIBADANBgkqhkiG9w0\nAgEA\n-----END PRIVATE KEY-----\n"}
    secrets = secrets_of([key], ["ya29.a-token-that-was-issued"])
    assert sorted(secrets.values()) == ["a private key", "an access token"]
    (tmp_path / "clean.log").write_text("-----BEGIN PRIVATE KEY----- ya29 AgEA")
    (tmp_path / "key.log").write_text(json.dumps({"event": f"read {key['private_key']}"}))
    (tmp_path / "token.log").write_bytes(b"\xff Bearer ya29.a-token-that-was-issued")
    assert leaks(tmp_path, secrets) == ["key.log holds a private key", "token.log holds an access token"]


def test_what_could_not_run_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the triggerer ended")

    monkeypatch.setattr(command, "soak", broken)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")
    assert command.main(["--minutes", "2", "--output", str(tmp_path / "soak.json")]) == 2
    assert not (tmp_path / "soak.json").exists()
    assert "the triggerer ended" in capsys.readouterr().err
