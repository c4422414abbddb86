from __future__ import annotations

import time
from math import inf
from typing import Any

import pytest

from airflow_provider_eeops.api.models import Operation, Outcome
from airflow_provider_eeops.api.watching import Plan, Verdict, Watch, parse_states, plan_requests
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    EarthEngineError,
    InvalidArgumentError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)

A = "projects/one/operations/A"
B = "projects/one/operations/B"
NOW = 1000.0
NOT_FOUND = NotFoundError("Gone.", http_status=404, status="NOT_FOUND", operation_name=A)
BROKEN = ConnectionFailedError("No answer.")


def names(project: str, count: int) -> tuple[str, ...]:
    return tuple(f"projects/{project}/operations/{number}" for number in range(count))


@pytest.mark.parametrize(
    ("wanted", "pages", "plan"),
    [
        # Few are got.
        ((), {}, Plan({}, ())),
        (names("one", 1), {}, Plan({}, names("one", 1))),
        (names("one", 8), {}, Plan({}, names("one", 8))),
        (names("one", 8), {"one": 1}, Plan({}, names("one", 8))),
        # Many are listed, if it is not known to take as many pages.
        (names("one", 9), {}, Plan({"one": names("one", 9)}, ())),
        (names("one", 9), {"one": 8}, Plan({"one": names("one", 9)}, ())),
        (names("one", 9), {"one": 9}, Plan({}, names("one", 9))),
        (names("one", 3000), {"one": 6}, Plan({"one": names("one", 3000)}, ())),
        (names("one", 3000), {"one": 2999}, Plan({"one": names("one", 3000)}, ())),
        (names("one", 3000), {"one": 3000}, Plan({}, names("one", 3000))),
        # A listing that was refused is not asked for again.
        (names("one", 3000), {"one": inf}, Plan({}, names("one", 3000))),
        # Each project for itself.
        (names("one", 9) + names("two", 3), {}, Plan({"one": names("one", 9)}, names("two", 3))),
        (names("one", 8) + names("two", 8), {}, Plan({}, names("one", 8) + names("two", 8))),
        (names("one", 30) + names("two", 30), {"two": inf}, Plan({"one": names("one", 30)}, names("two", 30))),
        (names("one", 30) + names("two", 30), {"one": 40}, Plan({"two": names("two", 30)}, names("one", 30))),
    ],
)
def test_plan(wanted: tuple[str, ...], pages: dict[str, float], plan: Plan) -> None:
    assert plan_requests(wanted, pages=pages) == plan


@pytest.mark.parametrize(
    ("wanted", "pages", "requests"),
    [
        ((), {}, 0),
        (names("one", 8), {}, 8),
        (names("one", 500), {}, 1),
        (names("one", 501) + names("two", 3), {}, 2 + 3),
        (names("one", 501), {"one": 7}, 7),
        (names("one", 501), {"one": inf}, 501),
    ],
)
def test_what_a_plan_costs(wanted: tuple[str, ...], pages: dict[str, float], requests: float) -> None:
    assert plan_requests(wanted, pages=pages).requests(500, pages) == requests


def test_the_message_of_thousands_grows_no_faster_than_they_do() -> None:
    def seconds(count: int) -> float:
        all_names = names("one", count)
        watch = Watch(all_names, accepted_states=parse_states("SUCCEEDED"))
        watch.learn({name: Operation(name, "FAILED") for name in all_names}, {})
        took = []
        for _ in range(3):
            began = time.thread_time()  # of this thread alone, whatever else the machine does
            watch.message(Verdict.NOT_ACCEPTED)
            took.append(time.thread_time() - began)
        return min(took)

    assert seconds(4000) < 40 * seconds(400)


@pytest.mark.parametrize(
    ("states", "parsed"),
    [
        (None, {"SUCCEEDED", "CANCELLED", "FAILED"}),
        ("SUCCEEDED", {"SUCCEEDED"}),
        (["SUCCEEDED", "CANCELLED", "SUCCEEDED"], {"SUCCEEDED", "CANCELLED"}),
        (iter(["FAILED"]), {"FAILED"}),
    ],
)
def test_accepted_states(states: Any, parsed: set[str]) -> None:
    assert parse_states(states) == parsed


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ([], "accepted_states is empty: give one or more of CANCELLED, FAILED, SUCCEEDED"),
        (["RUNNING"], "accepted_states has 'RUNNING': an operation ends in one of CANCELLED, FAILED, SUCCEEDED"),
        ("succeeded", "accepted_states has 'succeeded'"),
        ([None], "accepted_states has None"),
    ],
)
def test_refused_states(states: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_states(states)


@pytest.mark.parametrize(
    ("state_a", "state_b", "accepted", "deadline", "verdict"),
    [
        ("RUNNING", "SUCCEEDED", None, None, Verdict.WAITING),
        ("RUNNING", "SUCCEEDED", None, NOW + 1, Verdict.WAITING),
        ("RUNNING", "SUCCEEDED", None, NOW, Verdict.TIMED_OUT),
        ("RUNNING", "FAILED", None, NOW - 1, Verdict.TIMED_OUT),
        ("CANCELLING", "CANCELLING", None, None, Verdict.WAITING),
        ("BRAND_NEW", "STATE_UNSPECIFIED", None, None, Verdict.WAITING),
        ("CANCELLED", "FAILED", None, NOW - 1, Verdict.SETTLED),
        ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", None, Verdict.SETTLED),
        ("RUNNING", "FAILED", "SUCCEEDED", None, Verdict.NOT_ACCEPTED),
        ("RUNNING", "CANCELLED", "SUCCEEDED", NOW - 1, Verdict.NOT_ACCEPTED),
        ("SUCCEEDED", "CANCELLED", "CANCELLED", None, Verdict.NOT_ACCEPTED),
    ],
)
def test_verdict(state_a: str, state_b: str, accepted: str | None, deadline: float | None, verdict: Verdict) -> None:
    watch = Watch((A, B), deadline=deadline, accepted_states=parse_states(accepted))
    watch.learn({A: Operation(A, state_a), B: Operation(B, state_b)}, {})
    assert watch.verdict(now=NOW) is verdict


def test_a_watch_of_nothing_is_settled() -> None:
    assert Watch(()).verdict(now=NOW) is Verdict.SETTLED
    assert Watch(()).report().results == ()


def test_before_anything_was_seen() -> None:
    watch = Watch((A, B), deadline=NOW + 1)
    assert watch.pending == (A, B)
    assert watch.verdict(now=NOW) is Verdict.WAITING
    assert [result.outcome for result in watch.report().results] == [Outcome.NOT_CONFIRMED] * 2
    assert [result.state for result in watch.report().results] == [None, None]


def api_error(cls: Any, http_status: int, status: str) -> EarthEngineError:
    return cls("Why.", http_status=http_status, status=status, operation_name=A)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NOT_FOUND, Outcome.NOT_FOUND),
        (api_error(PermissionDeniedError, 403, "PERMISSION_DENIED"), Outcome.PERMISSION_DENIED),
        (api_error(UnimplementedError, 501, "UNIMPLEMENTED"), Outcome.UNSUPPORTED),
        (api_error(InvalidArgumentError, 400, "INVALID_ARGUMENT"), Outcome.ERROR),
        (ProjectNotAllowedError("No.", value=A), Outcome.PERMISSION_DENIED),
    ],
)
def test_an_error_that_says_something_of_the_operation_settles_it(error: EarthEngineError, outcome: Outcome) -> None:
    watch = Watch((A, B))
    watch.learn({B: Operation(B, "SUCCEEDED")}, {A: error})
    assert watch.pending == ()
    assert watch.failed_polls == 0
    assert watch.verdict(now=NOW) is Verdict.SETTLED
    assert watch.report().results[0].outcome is outcome


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        api_error(UnavailableError, 503, "UNAVAILABLE"),
        api_error(UnauthenticatedError, 401, "UNAUTHENTICATED"),
        UnexpectedAnswerError("HTML.", http_status=200),
    ],
)
def test_any_other_error_makes_the_poll_a_failed_one(error: EarthEngineError) -> None:
    watch = Watch((A, B), poll_failure_limit=2)
    watch.learn({A: Operation(A, "RUNNING")}, {B: error})
    assert watch.pending == (A, B)
    assert (watch.failed_polls, watch.last_failure) == (1, error)
    assert watch.verdict(now=NOW) is Verdict.WAITING
    watch.learn({}, {A: error, B: error})
    assert watch.verdict(now=NOW) is Verdict.POLLS_FAILED
    assert [result.outcome for result in watch.report().results] == [Outcome.NOT_CONFIRMED] * 2
    assert [result.state for result in watch.report().results] == ["RUNNING", None]


def test_only_failures_in_a_row_count() -> None:
    watch = Watch((A,), poll_failure_limit=2)
    for _ in range(5):
        watch.learn({}, {A: BROKEN})
        assert watch.verdict(now=NOW) is Verdict.WAITING
        watch.learn({A: Operation(A, "RUNNING")}, {})
        assert (watch.failed_polls, watch.last_failure) == (0, None)


def test_failed_polls_settle_nothing_but_do_not_hide_an_end() -> None:
    watch = Watch((A, B), poll_failure_limit=1, accepted_states=parse_states("SUCCEEDED"))
    watch.learn({A: Operation(A, "FAILED")}, {B: BROKEN})
    assert watch.verdict(now=NOW) is Verdict.NOT_ACCEPTED


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        (None, Operation(A, "PENDING"), True),
        (Operation(A, "PENDING"), Operation(A, "PENDING"), False),
        (Operation(A, "PENDING"), Operation(A, "RUNNING"), True),
        (Operation(A, "RUNNING", progress=0.11), Operation(A, "RUNNING", progress=0.19), False),
        (Operation(A, "RUNNING", progress=0.19), Operation(A, "RUNNING", progress=0.21), True),
        (Operation(A, "RUNNING"), Operation(A, "RUNNING", progress=0.05), False),
        (Operation(A, "RUNNING", progress=0.5), Operation(A, "RUNNING"), True),
        (Operation(A, "RUNNING", progress=1e308), Operation(A, "RUNNING", progress=1.0), False),
        (Operation(A, "RUNNING", progress=-5.0), Operation(A, "RUNNING"), False),
    ],
)
def test_what_a_person_would_want_to_read_of(before: Operation | None, now: Operation, changed: bool) -> None:
    watch = Watch((A,))
    if before is not None:
        watch.learn({A: before}, {})
    assert watch.learn({A: now}, {}) == ([now] if changed else [])
    assert watch.operations[A] is now


@pytest.mark.parametrize(
    ("deadline", "now", "wait"),
    [
        (None, NOW, 10.0),
        (NOW + 100, NOW, 10.0),
        (NOW + 4, NOW, 4.0),
        (NOW, NOW, 0.0),
        (NOW, NOW + 3600, 0.0),
        (NOW + 4, NOW - 3600, 10.0),
    ],
)
def test_wait_before_poll_ends_at_the_deadline_whatever_the_clock_does(
    deadline: float | None, now: float, wait: float
) -> None:
    assert Watch((A,), deadline=deadline).wait_before_poll(now=now, poll_interval=10.0) == wait


def test_report_says_only_what_was_seen() -> None:
    c, d = "projects/one/operations/C", "projects/one/operations/D"
    watch = Watch((A, B, c, d))
    watch.learn({A: Operation(A, "RUNNING")}, {})
    watch.learn(
        {
            B: Operation(B, "CANCELLED", error_code=1, error_message="Cancelled."),
            c: Operation(c, "SUCCEEDED"),
            d: Operation(d, "CANCELLING"),
        },
        {A: NOT_FOUND},
    )
    assert [str(result) for result in watch.report().results] == [
        f"{A}: not found (RUNNING): HTTP 404 NOT_FOUND: Gone.",
        f"{B}: cancelled (CANCELLED): Cancelled.",
        f"{c}: finished first (SUCCEEDED)",
        f"{d}: not confirmed (CANCELLING)",
    ]


def learned(*operations: Operation, errors: dict[str, EarthEngineError] | None = None, **more: Any) -> Watch:
    watch = Watch((A, B), **more)
    watch.learn({operation.name: operation for operation in operations}, errors or {})
    return watch


@pytest.mark.parametrize(
    ("watch", "verdict", "text"),
    [
        (
            learned(Operation(A, "SUCCEEDED"), Operation(B, "CANCELLED")),
            Verdict.SETTLED,
            "2 operations: 1 SUCCEEDED, 1 CANCELLED",
        ),
        (
            learned(Operation(B, "SUCCEEDED"), errors={A: NOT_FOUND}),
            Verdict.SETTLED,
            f"2 operations: 1 not found, 1 SUCCEEDED\n- {A}: not found: HTTP 404 NOT_FOUND: Gone.",
        ),
        (
            learned(
                Operation(A, "FAILED", error_message="Too big."),
                Operation(B, "RUNNING"),
                accepted_states=parse_states(["SUCCEEDED", "CANCELLED"]),
            ),
            Verdict.NOT_ACCEPTED,
            (
                "1 of 2 operations ended in another state than CANCELLED or SUCCEEDED:\n"
                f"- {A}: finished first (FAILED): Too big."
            ),
        ),
        (
            learned(Operation(A, "RUNNING"), Operation(B, "SUCCEEDED")),
            Verdict.TIMED_OUT,
            f"1 of 2 operations not confirmed in time:\n- {A}: not confirmed (RUNNING)",
        ),
        (
            learned(Operation(A, "RUNNING"), errors={B: BROKEN}),
            Verdict.POLLS_FAILED,
            (
                "1 polls in a row failed, the last with: No answer.\n2 of 2 operations not confirmed, as last seen:\n"
                f"- {A}: not confirmed (RUNNING)\n"
                f"- {B}: not confirmed: last poll: No answer."
            ),
        ),
    ],
)
def test_message(watch: Watch, verdict: Verdict, text: str) -> None:
    assert watch.message(verdict) == text


def test_a_failure_stays_with_its_operation_until_it_is_seen_again() -> None:
    watch = learned(errors={A: BROKEN, B: api_error(UnavailableError, 503, "UNAVAILABLE")})
    assert [result.error_message for result in watch.report().results] == [
        "last poll: No answer.",
        "last poll: HTTP 503 UNAVAILABLE: Why.",
    ]
    watch.learn({A: Operation(A, "RUNNING")}, {B: BROKEN})
    assert [result.error_message for result in watch.report().results] == [None, "last poll: No answer."]


def test_what_was_seen_before_is_not_lost() -> None:
    seen, pages = {A: Operation(A, "CANCELLING")}, {"one": 1.0}
    watch = Watch((A, B), operations=seen, pages=pages)
    watch.pages["two"] = inf
    assert watch.learn({A: Operation(A, "CANCELLING"), B: Operation(B, "RUNNING")}, {}) == [Operation(B, "RUNNING")]
    assert (seen, pages) == ({A: Operation(A, "CANCELLING")}, {"one": 1.0})
    assert Watch((A,), operations=seen).report().results[0].state == "CANCELLING"
    assert Watch((A,), operations={A: Operation(A, "SUCCEEDED")}).pending == ()


def test_what_changed_is_said_in_the_order_of_the_names() -> None:
    found = {B: Operation(B, "RUNNING"), A: Operation(A, "RUNNING")}
    assert [operation.name for operation in Watch((A, B)).learn(found, {})] == [A, B]


def test_a_poll_that_the_deadline_cut_short_is_not_what_ends_the_watch() -> None:
    watch = learned(errors={A: BROKEN}, deadline=NOW, poll_failure_limit=1)
    assert watch.verdict(now=NOW) is Verdict.TIMED_OUT
    assert watch.verdict(now=NOW - 1) is Verdict.POLLS_FAILED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"names": ("A",)}, "'A' is not an operation name"),
        ({"names": (A, "projects/one/operations/..")}, "is not an operation name"),
        ({"names": A}, "'p' is not an operation name"),
        ({"deadline": float("nan")}, "deadline is nan: it must be seconds since the epoch, or None"),
        ({"deadline": float("inf")}, "deadline is inf"),
        ({"deadline": "soon"}, "deadline is 'soon'"),
        ({"poll_failure_limit": 0.5}, "poll_failure_limit is 0.5: it must be a whole number of at least 1"),
        ({"poll_failure_limit": True}, "poll_failure_limit is True"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Watch(**{"names": (A,), **arguments})
