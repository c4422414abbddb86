from __future__ import annotations

import pytest

from airflow_provider_eeops.ownership import all_ended, judge_killed

A, B = "projects/one/operations/A", "projects/one/operations/B"


@pytest.mark.parametrize(
    ("state", "recorded", "sources_ended", "cancel", "undecided"),
    [
        # Ended by a person, or by the end of its run, whatever it had recorded.
        ("failed", [A, B], True, (A, B), False),
        ("success", [A, B], True, (A, B), False),
        ("skipped", None, True, (A, B), False),
        ("upstream_failed", [], True, (A, B), False),
        ("removed", None, False, (A, B), False),
        # Moved to another triggerer: the task is still deferred on these very operations.
        ("deferred", [A, B], True, (), False),
        ("deferred", None, True, (), False),
        # Cleared, and the next try waits already: for others, for the same, for some of them.
        ("deferred", ["projects/one/operations/NEW"], True, (A, B), False),
        ("deferred", [], True, (A, B), False),
        ("deferred", [B], True, (A,), False),
        # Cleared with its upstream, which will start others.
        (None, [A, B], False, (A, B), False),
        # Cleared alone, or taken up again after the trigger fired elsewhere: the next look will tell.
        (None, [A, B], True, (), True),
        ("scheduled", [A, B], True, (), True),
        ("queued", [A, B], False, (), True),
        ("running", [A, B], True, (), True),
        ("running", None, True, (), True),
        ("running", ["projects/one/operations/NEW"], True, (A, B), False),
        ("up_for_retry", [A, B], True, (), True),
    ],
)
def test_whose_the_operations_of_a_killed_trigger_are(
    state: str | None, recorded: list[str] | None, sources_ended: bool, cancel: tuple[str, ...], undecided: bool
) -> None:
    judgement = judge_killed([A, B], state=state, recorded=recorded, sources_ended=sources_ended)
    assert (judgement.cancel, judgement.undecided) == (cancel, undecided)


@pytest.mark.parametrize(
    ("state", "recorded", "cancel"),
    [
        ("success", [A, B], ()),
        ("success", [B], (A,)),
        ("success", None, (A, B)),
        ("skipped", [A, B], ()),
        ("failed", [A, B], (A, B)),
    ],
)
def test_a_next_try_that_ended_before_it_was_seen_to_wait(
    state: str, recorded: list[str] | None, cancel: tuple[str, ...]
) -> None:
    judgement = judge_killed([A, B], state=state, recorded=recorded, sources_ended=True, was_undecided=True)
    assert (judgement.cancel, judgement.undecided) == (cancel, False)


@pytest.mark.parametrize(
    ("states", "map_index", "ended"),
    [
        ({}, -1, True),
        ({"export": "success"}, -1, True),
        ({"export": None}, -1, False),
        ({"export_0": "success", "export_1": "running"}, -1, False),
        ({"export_0": "success", "export_1": "running"}, 0, True),
        ({"export_0": "success", "export_1": "running"}, 1, False),
        ({"export_0": "failed", "export_1": "skipped"}, 5, True),
        ({"export": "running"}, 5, False),
        ({"export": "success"}, 5, True),
        ({"export": "success", "export_all_0": "running"}, -1, True),
    ],
)
def test_whether_upstream_has_ended(states: dict[str, str | None], map_index: int, ended: bool) -> None:
    assert all_ended(states, ["export"], map_index=map_index) is ended
