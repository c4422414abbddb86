"""Faults that hit many operations at once, or a wait: each is played, and told in a few words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_eeops.api.cancelling import cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.models import Operation, OperationResult
from airflow_provider_eeops.api.polling import poll, wait
from airflow_provider_eeops.api.watching import Watch
from tests.faults.place import NAMES, A, Place

__all__ = ["SCENES", "Scene"]

HOUR = 3600.0
RUNS = 600.0
"""Seconds after which the operations of these scenes have ended, where they end."""


@dataclass(frozen=True)
class Scene:
    """One thing that goes wrong with several operations.

    :param what: what goes wrong, in words.
    :param play: lets it happen, and tells what came of it.
    :param told: what is right to come of it.
    :param ends: whether the operations come to their own end.
    """

    what: str
    play: Callable[[Place], str]
    told: str
    ends: bool = False


def asked(place: Place) -> str:
    """How many operations were in truth asked to cancel."""
    return f"{sum(map(place.emulator.cancel_requested, NAMES))} of {len(NAMES)} asked to cancel"


def token_ends_in_a_bulk(place: Place) -> str:
    answered: list[OperationResult] = []

    def note(result: OperationResult) -> None:
        answered.append(result)
        if len(answered) == 4:
            place.emulator.revoke_tokens()

    report = cancel_operations(place.client, NAMES, max_concurrency=4, on_result=note)
    return f"{report.counts_words}; {asked(place)}; {place.emulator.count('token')} new token"


def token_ends_in_a_listing(place: Place) -> str:
    found: list[Operation] = []
    for page in place.client.list_pages("one", page_size=4):
        if not found:
            place.emulator.revoke_tokens()
        found += page
    return (
        f"{len(found)} operations; {place.emulator.count('list')} requests; {place.emulator.count('token')} new token"
    )


def page_lost_in_a_listing(place: Place) -> str:
    found: list[Operation] = []
    for page in place.client.list_pages("one", page_size=4):
        if not found:
            place.fault("list", action="reset_after", times=2)
        found += page
    names = {operation.name for operation in found}
    return f"{len(found)} operations, {len(names)} different; {place.emulator.count('list')} requests"


def answers_lost_in_a_bulk(place: Place) -> str:
    place.fault("cancel", action="reset_after", times=None)
    report = cancel_operations(place.client, NAMES)
    return f"{report.counts_words}; {asked(place)}"


def answers_lost_in_haste(place: Place) -> str:
    place.fault("cancel", action="reset_after", times=None)
    report = cancel_in_haste(place.client, NAMES[:1], log=logging.getLogger(__name__), because="", seconds=100)
    return f"{report.counts_words}; {sum(map(place.emulator.cancel_requested, NAMES[:1]))} of 1 asked to cancel"


def half_refused(place: Place) -> str:
    for name in NAMES[:6]:
        place.fault("cancel", status=403, times=None, name=name)
    report = cancel_operations(place.client, NAMES)
    return f"{report.counts_words}; {asked(place)}"


def waited(place: Place, names: tuple[str, ...], *, timeout: float | None = None) -> str:
    deadline = None if timeout is None else place.clock.time() + timeout
    began = place.clock.monotonic()
    watch = Watch(names, deadline=deadline)
    verdict = wait(place.client, watch, poll_interval=30, max_concurrency=2)
    seconds = place.clock.monotonic() - began
    on_time = "" if timeout is None or verdict == "settled" else f" after {round(seconds, -1):.0f} s"
    return f"{verdict.value}{on_time}: {watch.report().states_words}; {asked(place)}"


def gets_fail(place: Place) -> str:
    for fault in ({"status": 503}, {"action": "reset_before"}, {"body": b"<html>"}, {"status": 502, "body": b"<html>"}):
        place.fault("get", times=5, **fault)
    return waited(place, NAMES[:3])


def listings_fail(place: Place) -> str:
    place.fault("list", action="reset_after", times=7)
    place.fault("list", status=503, body=b"<html>", times=7)
    place.fault("list", body=b'{"operations": {}}')
    place.fault("list", body=b"{}")
    place.fault("list", action="half_body", times=7)
    return waited(place, NAMES)


def listings_fail_for_good(place: Place) -> str:
    place.fault("list", status=503, times=None)
    return waited(place, NAMES)


def gone_in_the_middle(place: Place) -> str:
    place.emulator.remove_operation(A)
    report = cancel_operations(place.client, NAMES)
    return (
        f"{report.counts_words}; 11 of 11 asked to cancel"
        if all(map(place.emulator.cancel_requested, NAMES[1:]))
        else asked(place)
    )


def one_of_two_projects_fails(place: Place) -> str:
    other = place.emulator.add_operation("A", project="two", pending_seconds=0, run_seconds=RUNS)
    place.fault("list", status=503, times=None)
    watch = Watch((*NAMES, other))
    poll(place.client, watch)
    return f"of one: {len(watch.failures)} failed; of two: {watch.operations[other].state}"


def clock_set(ahead: float, *, timeout: float, names: tuple[str, ...] = NAMES) -> Callable[[Place], str]:
    def play(place: Place) -> str:
        sleep = place.clock.sleep

        def jump(seconds: float) -> None:
            sleep(seconds)
            place.clock.ahead = ahead

        place.clock.sleep = jump  # type: ignore[method-assign]
        return waited(place, names, timeout=timeout)

    return play


def clock_off(seconds: float) -> Callable[[Place], str]:
    def play(place: Place) -> str:
        place.clock.ahead = seconds
        place.fault("get", status=429, headers={"Retry-After": "+7"})
        state = place.client.get_operation(A).state
        return f"{state} after {max(place.clock.sleeps):.0f} s"

    return play


SCENES: tuple[Scene, ...] = (
    Scene(
        "the token expires in the middle of a bulk",
        token_ends_in_a_bulk,
        "12 cancel requested; 12 of 12 asked to cancel; 1 new token",
    ),
    Scene(
        "the token expires in the middle of a listing",
        token_ends_in_a_listing,
        "12 operations; 4 requests; 1 new token",
    ),
    Scene("pages of a listing are lost on the way", page_lost_in_a_listing, "12 operations, 12 different; 5 requests"),
    Scene("every answer to a cancel is lost", answers_lost_in_a_bulk, "12 cancel requested; 12 of 12 asked to cancel"),
    Scene(
        "the same as the task is killed: no time for a second look",
        answers_lost_in_haste,
        "1 error; 1 of 1 asked to cancel",
    ),
    Scene("403 for half of a bulk", half_refused, "6 cancel requested, 6 permission denied; 6 of 12 asked to cancel"),
    Scene("an operation is gone", gone_in_the_middle, "11 cancel requested, 1 not found; 11 of 11 asked to cancel"),
    Scene(
        "a wait of GETs, of which 20 fail in four ways",
        gets_fail,
        "settled: 3 SUCCEEDED; 0 of 12 asked to cancel",
        ends=True,
    ),
    Scene(
        "a wait of listings, of which 23 fail in five ways",
        listings_fail,
        "settled: 12 SUCCEEDED; 0 of 12 asked to cancel",
        ends=True,
    ),
    Scene(
        "a wait of which every listing fails",
        listings_fail_for_good,
        "polls_failed: 12 not confirmed; 0 of 12 asked to cancel",
    ),
    Scene("listings of one of two projects fail", one_of_two_projects_fails, "of one: 12 failed; of two: RUNNING"),
    Scene(
        "the clock is set an hour ahead in a wait of 30 minutes",
        clock_set(HOUR, timeout=1800),
        "settled: 12 SUCCEEDED; 0 of 12 asked to cancel",
        ends=True,
    ),
    Scene(
        "the clock is set back an hour in a wait of 30 minutes",
        clock_set(-HOUR, timeout=1800),
        "timed_out after 1800 s: 12 not confirmed; 0 of 12 asked to cancel",
    ),
    Scene("429, Retry-After: a date 7 s from now, on a clock an hour ahead", clock_off(HOUR), "RUNNING after 7 s"),
    Scene("429, Retry-After: a date 7 s from now, on a clock an hour behind", clock_off(-HOUR), "RUNNING after 7 s"),
)
