from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from airflow_provider_eeops.api.exports import Export
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.starts import (
    Identity,
    Next,
    Start,
    changed_descriptions,
    first_attempt,
    goes_on,
    next_of,
)
from airflow_provider_eeops.exceptions import ConnectionFailedError, NotFoundError

A = "projects/one/operations/A"


def start(name: str | None = A, *, attempt: int = 2) -> Start:
    return Start(attempt, 1_800_000_000.1234, 1_800_000_007.1234, "mine", "EXPORT_IMAGE", name)


def test_request_ids_differ_where_anything_does_and_are_what_the_api_takes() -> None:
    identities = [
        Identity("dag", "run", "task"),
        Identity("dag2", "run", "task"),
        Identity("dag", "run2", "task"),
        Identity("dag", "run", "task2"),
        Identity("dag", "run", "task", 0),
        Identity("dag", "run", "task", 1),
        Identity("dag", "run", "task", series=1),
        Identity("da", "grun", "task"),
        Identity("dag", "run", "task1", 1),
    ]
    ids = [
        identity.request_id(position, attempt)
        for identity, position, attempt in product(identities, (0, 1, 11, 4999), (0, 1, 12))
    ]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,60}", each) for each in ids)
    assert ids[0] == "eeops-77958ffb93c673cce556f47d4cc8c98487435a97-0"


@pytest.mark.parametrize("name", [A, None])
def test_a_start_survives_json(name: str | None) -> None:
    read = Start.from_json(start(name).to_json())
    assert read == Start(2, 1_800_000_000.0, 1_800_000_008.0, "mine", "EXPORT_IMAGE", name)


@pytest.mark.parametrize(
    "value",
    [None, [], [1, 2, 3], ["0", 1, 1, "", "", None], [0, "x", 1, "", "", None], [0, 1, 1, "", "", 7]],
)
def test_what_is_no_start_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Start.from_json(value)


GONE = NotFoundError("x", http_status=404, status="NOT_FOUND")


@pytest.mark.parametrize(
    ("seen", "reattached", "restarted"),
    [
        ("PENDING", Next.KEEP, Next.CANCEL),
        ("RUNNING", Next.KEEP, Next.CANCEL),
        ("STATE_UNSPECIFIED", Next.KEEP, Next.CANCEL),
        ("CANCELLING", Next.AWAIT_END, Next.CANCEL),
        ("SUCCEEDED", Next.KEEP, Next.START_AGAIN),
        ("FAILED", Next.START_AGAIN, Next.START_AGAIN),
        ("CANCELLED", Next.START_AGAIN, Next.START_AGAIN),
        (GONE, Next.START_AGAIN, Next.START_AGAIN),
        (ConnectionFailedError("x"), Next.KEEP, Next.CANCEL),
        (None, Next.KEEP, Next.CANCEL),
    ],
)
def test_what_is_done_about_an_earlier_operation(seen: Any, reattached: Next, restarted: Next) -> None:
    if isinstance(seen, str):
        seen = Operation(A, state=seen)
    assert next_of(seen, restart=False) is reattached
    assert next_of(seen, restart=True) is restarted


@pytest.mark.parametrize(
    ("recorded", "decided", "attempt"),
    [
        (None, None, 0),
        (start(None), None, 2),
        (start(), None, None),
        (start(), Next.KEEP, None),
        (start(), Next.START_AGAIN, 3),
        (start(), Next.AWAIT_END, 3),
        (start(), Next.CANCEL, 3),
    ],
)
def test_the_number_of_the_next_start(recorded: Start | None, decided: Next | None, attempt: int | None) -> None:
    assert first_attempt(recorded, decided) == attempt


def test_another_export_at_a_position_is_told_of_naming_both() -> None:
    mine, other = Export("EXPORT_IMAGE", "mine", {}), Export("EXPORT_IMAGE", "other", {})
    assert changed_descriptions({0: start()}, [mine]) == []
    assert changed_descriptions({0: start()}, [other]) == ["position 0 was 'mine', and is 'other' now"]
    assert changed_descriptions({1: start()}, [mine]) == ["position 1 was 'mine', and is None now"]
    assert changed_descriptions({0: start()}, [A]) == [f"position 0 was 'mine', and is {A!r} now"]
    of_another_type = Export("EXPORT_VIDEO", "mine", {})
    assert len(changed_descriptions({0: start()}, [of_another_type])) == 1


def test_operations_go_on_only_to_a_next_try_that_can_wait_for_them() -> None:
    cases = list(product((False, True), repeat=4))
    kept = [
        case for case in cases if goes_on(is_killed=case[0], is_retried=case[1], restart=case[2], is_retained=case[3])
    ]
    assert kept == [(False, True, False, True)]
