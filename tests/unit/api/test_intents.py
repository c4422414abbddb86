from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.intents import Intent, match_intents, recover
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import UnavailableError
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]

NOW = 1_800_000_000.0
MINE = Intent("one", "EXPORT_IMAGE", "mine", NOW, NOW)


def operation(name: str, *, made: float | None = NOW, **changes: Any) -> Operation:
    moment = None if made is None else datetime.fromtimestamp(made, tz=UTC)
    fields = {"description": "mine", "type": "EXPORT_IMAGE", "create_time": moment} | changes
    return Operation(f"projects/one/operations/{name}", state="PENDING", **fields)


def found(intents: list[Intent], *operations: Operation, taken: tuple[str, ...] = ()) -> Any:
    recovered = match_intents(intents, {"one": operations}, taken=taken)
    names = {index: each.name.rpartition("/")[2] for index, each in recovered.operations.items()}
    return names, [len(each.candidates) for each in recovered.ambiguous]


@pytest.mark.parametrize(
    ("changes", "is_found"),
    [
        ({}, True),
        ({"description": "another"}, False),
        ({"description": None}, False),
        ({"type": "EXPORT_VIDEO"}, False),
        ({"made": NOW - 59}, True),
        ({"made": NOW - 61}, False),
        ({"made": NOW + 239}, True),
        ({"made": NOW + 241}, False),
        ({"made": None}, True),
    ],
)
def test_an_operation_of_the_same_kind_made_at_the_time_is_the_one(changes: dict[str, Any], is_found: bool) -> None:
    assert found([MINE], operation("A", **changes)) == ({0: "A"} if is_found else {}, [])


def test_what_is_known_to_be_anothers_is_not_the_one() -> None:
    assert found([MINE], operation("A"), taken=("projects/one/operations/A",)) == ({}, [])
    both = (operation("A"), operation("B"))
    assert found([MINE], *both, taken=("projects/one/operations/A",)) == ({0: "B"}, [])


def test_with_one_too_many_none_is_taken() -> None:
    assert found([MINE], operation("A"), operation("B")) == ({}, [2])
    recovered = match_intents([MINE], {"one": [operation("A"), operation("B")]})
    assert str(recovered.ambiguous[0]) == (
        "a start of EXPORT_IMAGE 'mine' in project one had no answer, and may be any of projects/one/operations/A,"
        " projects/one/operations/B: look at them, and cancel by name what nobody waits for"
    )


def test_as_many_as_there_are_starts_are_theirs_in_the_order_they_were_made() -> None:
    three = [MINE, replace(MINE, description="other"), MINE]
    operations = (operation("B", made=NOW + 2), operation("A", made=NOW + 1), operation("C", description="other"))
    assert found(three, *operations) == ({0: "A", 1: "C", 2: "B"}, [])
    assert found([MINE, MINE], operation("A")) == ({0: "A"}, [])


def test_a_start_that_was_repeated_may_be_of_any_time_between() -> None:
    repeated = replace(MINE, until=NOW + 1000)
    assert found([repeated], operation("A", made=NOW + 1239)) == ({0: "A"}, [])
    assert found([repeated], operation("A", made=NOW + 1241)) == ({}, [])


def test_a_start_of_a_time_that_is_not_known_may_be_any() -> None:
    assert found([replace(MINE, until=None)], operation("A", made=NOW + 5000)) == ({0: "A"}, [])
    assert found([replace(MINE, until=None)], operation("A", made=NOW - 61)) == ({}, [])
    assert found([replace(MINE, since=None)], operation("A", made=5.0)) == ({0: "A"}, [])


def test_an_intent_survives_json() -> None:
    assert Intent.from_dict(MINE.to_dict()) == MINE
    assert Intent.from_dict(replace(MINE, since=None).to_dict()) == replace(MINE, since=None)


@pytest.mark.parametrize("value", [None, "x", [], {}, {"project_id": "one"}, MINE.to_dict() | {"type": 7}])
def test_what_is_no_intent_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no intent"):
        Intent.from_dict(value)


def test_one_listing_a_project_is_asked_for(connected: Connect, emulator: Emulator, clock: ManualClock) -> None:
    names = [emulator.add_operation(project=project, description="mine") for project in ("one", "two")]
    for _ in range(600):
        emulator.add_operation(project="one", description="another's")
    intents = [Intent(project, "EXPORT_IMAGE", "mine", clock.time()) for project in ("one", "two", "two")]
    recovered = recover(connected(), intents)
    assert {index: each.name for index, each in recovered.operations.items()} == {0: names[0], 1: names[1]}
    assert emulator.count("list") == 3, "two pages and one"


def test_a_listing_that_fails_is_an_error(connected: Connect, emulator: Emulator) -> None:
    emulator.add_fault(Fault("list", status=503, times=None))
    with pytest.raises(UnavailableError):
        recover(connected(), [MINE])
