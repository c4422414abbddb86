from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_eeops.api.pace import Pace
from tests.support.clock import ManualClock

RATES = st.floats(0.001, 1000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 1000), st.one_of(st.none(), st.floats(0, 1000))),
        st.tuples(st.just("hold"), st.floats(0, 130), st.one_of(st.none(), st.floats(0, 100))),
        st.tuples(st.just("pass"), st.floats(0, 100), st.none()),
        st.tuples(st.just("wait"), st.just(1e9), st.none()),
    ),
    max_size=40,
)


@given(rate=RATES, steps=STEPS)
def test_no_more_requests_than_the_pace_allows(rate: float, steps: list[Any]) -> None:
    clock = ManualClock(start=0.0)
    pace = Pace(rate, clock=clock)
    sent: list[float] = []
    for kind, seconds, more in steps:
        if kind == "pass":
            clock.advance(seconds)
        elif kind == "hold":
            slower = pace.hold(seconds, sent_at=None if more is None else clock.monotonic() - more)
            assert slower is None or 0.05 * rate <= slower * (1 + 1e-9) <= rate * (1 + 1e-6)
        else:
            until = None if more is None else clock.monotonic() + more
            if pace.wait(patience=seconds, until=until):
                sent.append(clock.monotonic())
                assert until is None or sent[-1] <= until
    # Who waits for a hold and who passes it over have each a queue of their own: two requests are the burst.
    assert sent == sorted(sent)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            window = sent[last] - sent[first]
            assert last - first + 1 <= window * rate * (1 + 1e-6) + 2 + 1e-6


@given(rate=RATES, seconds=st.floats(0, 130), requests=st.integers(1, 20))
def test_who_is_patient_sends_nothing_in_a_hold(rate: float, seconds: float, requests: int) -> None:
    clock = ManualClock(start=0.0)
    pace = Pace(rate, clock=clock)
    pace.wait()
    pace.hold(seconds)
    ends = clock.monotonic() + seconds
    for _ in range(requests):
        assert pace.wait()
        assert clock.monotonic() >= ends
