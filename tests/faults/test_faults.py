"""Every row of the matrix, on real sockets."""

from __future__ import annotations

import gc
import logging

import pytest

from airflow_provider_eeops.emulator import EmulatorServer
from airflow_provider_eeops.exceptions import UnexpectedAnswerError
from tests.faults.case import METHODS, Case, Expect, Method
from tests.faults.cases import CASES
from tests.faults.page import Told, expected_page, told
from tests.faults.place import B, Place, above, furnished, placed, texts, tried
from tests.faults.recording import Recorded
from tests.faults.several import SCENES, Scene
from tests.support.certificates import Certificates
from tests.support.docs import ROOT

ROWS = [
    pytest.param(case, method, id=f"{case.what}-{method}")
    for case in CASES
    for method in METHODS
    if isinstance(case.expected(method), Expect)
]


@pytest.mark.parametrize(("case", "method"), ROWS)
def test_what_happens(
    *,
    case: Case,
    method: Method,
    server: EmulatorServer,
    certificates: Certificates,
    recorded: Recorded,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = case.expected(method)
    assert isinstance(expected, Expect)
    caplog.set_level(logging.DEBUG)
    if "deep" in case.what:
        gc.collect()  # what earlier tests left would be collected in the depth of a recursion, which is one too many
    with placed(server, case, method, certificates) as place:
        seen, error = tried(place, method)
        written = caplog.text + (texts(error) if error else "")
        assert [secret for secret in place.secrets if secret in written] == []
        assert len(str(error)) < 500
        assert place.elsewhere.connections == 0
        if not case.nobody and case.tls in {None, "good"}:
            assert_the_next_is_answered_truly(place)
    with placed(server, case, method, certificates) as place:
        said = above(place, method)
        asked = [name for name in place.emulator.names() if place.emulator.cancel_requested(name)]
    may_ask = method == "cancel" or (method == "token" and expected.gets == "RUNNING")
    assert may_ask or asked == []
    bounded = expected.longest / 2 - 0.1 <= seen.slept <= expected.longest + 0.1
    waits = expected.longest if bounded else seen.slept
    recorded.rows[case.what, method] = found = Told(seen.gets, seen.tries, waits, said, seen.asked)
    assert found == told(expected)
    assert seen.other == expected.other


def assert_the_next_is_answered_truly(place: Place) -> None:
    """What is left on a connection may cost a request, and is taken for nobody's state."""
    place.heal()
    try:
        state = place.client.get_operation(B).state
    except UnexpectedAnswerError:
        state = place.client.get_operation(B).state
    assert state == "PENDING"


@pytest.mark.parametrize("scene", SCENES, ids=[scene.what for scene in SCENES])
def test_what_happens_to_several(scene: Scene, server: EmulatorServer, recorded: Recorded) -> None:
    with furnished(server, ends=scene.ends) as place:
        recorded.scenes[scene.what] = said = scene.play(place)
    assert said == scene.told


def test_every_fault_has_its_own_name() -> None:
    assert len({case.what for case in CASES}) == len(CASES)
    assert len({scene.what for scene in SCENES}) == len(SCENES)


def test_the_page_says_what_was_seen() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert page == expected_page(), "run: python -m pytest tests/faults --faults=docs/faults.md"
