"""Whatever was recorded and seen: no operation is taken twice, nor one that is somebody else's; no id is used twice."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_eeops.api.intents import Intent, match_intents
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.starts import Identity, Start

DESCRIPTIONS = st.sampled_from(["a", "b", ""])
TYPES = st.sampled_from(["EXPORT_IMAGE", "EXPORT_FEATURES"])
MOMENTS = st.floats(1.8e9, 1.8e9 + 1000)
INTENTS = st.builds(Intent, st.just("one"), TYPES, DESCRIPTIONS, st.none() | MOMENTS, st.none() | MOMENTS)


@st.composite
def operations(draw: st.DrawFn) -> list[Operation]:
    return [
        Operation(
            f"projects/one/operations/{number}",
            description=draw(DESCRIPTIONS | st.none()),
            type=draw(TYPES),
            create_time=draw(st.none() | MOMENTS.map(lambda moment: datetime.fromtimestamp(moment, tz=UTC))),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@given(st.lists(INTENTS, max_size=5), operations(), st.sets(st.integers(0, 5)))
def test_starts_find_operations_of_their_own(intents: list[Intent], listed: list[Operation], numbers: set[int]) -> None:
    taken = {f"projects/one/operations/{number}" for number in numbers}
    recovered = match_intents(intents, {"one": listed}, taken=taken)
    names = [operation.name for operation in recovered.operations.values()]
    assert len(set(names)) == len(names)
    assert not taken.intersection(names)
    for index, operation in recovered.operations.items():
        assert (operation.type, operation.description or "") == (intents[index].type, intents[index].description)
    doubted = {name for ambiguity in recovered.ambiguous for name in ambiguity.candidates}
    assert not doubted.intersection(names)


@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.integers(-1), st.integers(0)), unique=True, max_size=5))
def test_request_ids_are_the_apis_and_differ(whose: list[tuple[str, str, str, int, int]]) -> None:
    without_nul = [each for each in whose if "\0" not in "".join(each[:3])]  # Airflow's database takes none
    ids = [Identity(*each).request_id(position, 0) for each in without_nul for position in (0, 1)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,60}", each) for each in ids)


@given(st.builds(Start, st.integers(0, 1000), MOMENTS, MOMENTS, st.text(), st.text(), st.none() | st.text()))
def test_a_start_survives_json(start: Start) -> None:
    read = Start.from_json(start.to_json())
    assert (read.attempt, read.description, read.type, read.name) == (
        start.attempt,
        start.description,
        start.type,
        start.name,
    )
    assert read.since <= start.since
    assert read.until >= start.until
