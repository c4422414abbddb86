"""Every row of the matrix, on real sockets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_eeops.emulator import EmulatorServer
from tests.faults.case import METHODS, Case, Expect, Method
from tests.faults.cases import CASES
from tests.faults.place import B, above, placed, texts, tried

ROWS = [
    pytest.param(case, method, id=f"{case.what}-{method}")
    for case in CASES
    for method in METHODS
    if isinstance(case.expected(method), Expect)
]


@pytest.mark.parametrize(("case", "method"), ROWS)
def test_what_happens(
    case: Case, method: Method, server: EmulatorServer, certificates: Any, caplog: pytest.LogCaptureFixture
) -> None:
    expected = case.expected(method)
    assert isinstance(expected, Expect)
    caplog.set_level(logging.DEBUG)
    with placed(server, case, method, certificates) as place:
        seen, error = tried(place, method)
        found = seen._replace(slept=0.0), expected.longest / 2 - 0.1 <= seen.slept <= expected.longest + 0.1
        assert (*found[0], found[1] or seen.slept) == (expected.gets, "", expected.tries, 0.0, expected.asked, expected.other, True)
        told = caplog.text + (texts(error) if error else "")
        for secret in place.secrets:
            assert secret not in told
        assert error is None or len(str(error)) < 500
        with pytest.raises(BlockingIOError):  # nobody came
            place.elsewhere.accept()
        if not case.nobody and case.tls in {None, "good"}:
            place.heal()
            assert place.client.get_operation(B).state == "PENDING"
    with placed(server, case, method, certificates) as place:
        said = above(place, method)
        assert said == expected.above
        if method != "cancel" and not (method == "token" and expected.gets == "RUNNING"):
            assert not any(place.emulator.cancel_requested(name) for name in place.emulator.names())
