import asyncio
import time
from collections.abc import Callable

import pytest
import requests

from airflow_provider_eeops.emulator import Fault
from tests.support.emulation import PROJECT, Served, error_of, reason_of

LISTING = f"projects/{PROJECT}/operations"


@pytest.fixture
def name(served: Served) -> str:
    return served.emulator.add_operation("ONE")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("get", status=503), (503, "UNAVAILABLE", "Service Unavailable.")),
        (Fault("get", status=429, message="Slow down."), (429, "RESOURCE_EXHAUSTED", "Slow down.")),
        (Fault("get", status=400, rpc_status="FAILED_PRECONDITION"), (400, "FAILED_PRECONDITION", "Bad Request.")),
        (Fault("get", status=599), (599, "UNKNOWN", "Status 599.")),
        (Fault("any", status=500), (500, "INTERNAL", "Internal Server Error.")),
    ],
)
def test_error_in_googles_format_once(served: Served, name: str, fault: Fault, expected: tuple[int, str, str]) -> None:
    served.emulator.add_fault(fault)
    assert error_of(served.get(name)) == expected
    assert served.get(name).status_code == 200
    assert [record.status for record in served.emulator.requests] == [expected[0], 200]


def test_only_the_method_and_the_name_it_is_meant_for(served: Served, name: str) -> None:
    other = served.emulator.add_operation("OTHER")
    served.emulator.add_fault(Fault("cancel", status=500, times=None, name="*/ONE"))
    assert served.get(name).status_code == 200
    assert served.get(LISTING).status_code == 200
    assert served.post(f"{other}:cancel").status_code == 200
    assert [served.post(f"{name}:cancel").status_code for _ in range(3)] == [500] * 3
    assert served.emulator.state(name) == "PENDING"
    served.emulator.clear_faults()
    assert served.post(f"{name}:cancel").status_code == 200


def test_a_fault_with_a_name_spares_what_has_none(served: Served) -> None:
    served.emulator.add_fault(Fault("any", status=500, name="*"))
    assert served.get(LISTING).status_code == 200


def test_times_and_order(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", status=503, times=2))
    served.emulator.add_fault(Fault("get", status=429))
    assert [served.get(name).status_code for _ in range(4)] == [503, 503, 429, 200]


def test_raw_bodies_and_headers(served: Served, name: str) -> None:
    page = b"<html>Bad Gateway</html>"
    served.emulator.add_fault(
        Fault("get", status=502, body=page, content_type="text/html", headers={"Retry-After": "7"})
    )
    answer = served.get(name)
    assert (answer.status_code, answer.content) == (502, page)
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Retry-After"] == "7"
    served.emulator.add_fault(Fault("get", body=b'{"name": "projec'))
    assert served.get(name).text == '{"name": "projec'
    served.emulator.add_fault(Fault("get", body=b"x" * 10_000_000))
    assert len(served.get(name).content) == 10_000_000


def test_headers_alone_leave_the_answer(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", headers={"X-Earth-Engine-Quota-Status": "parallelism_restricted=true"}))
    answer = served.get(name)
    assert answer.json()["name"] == name
    assert answer.headers["X-Earth-Engine-Quota-Status"] == "parallelism_restricted=true"


def test_redirects_can_be_made(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", status=302, headers={"Location": "/elsewhere"}))
    answer = served.session.get(served.url(name), allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/elsewhere")


def test_error_after_the_effect(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("cancel", status=504, takes_effect=True))
    assert served.post(f"{name}:cancel").status_code == 504
    assert served.emulator.state(name) == "CANCELLING"


@pytest.mark.parametrize(("action", "state"), [("reset_before", "PENDING"), ("reset_after", "CANCELLING")])
def test_resets(served: Served, name: str, action: str, state: str) -> None:
    served.emulator.add_fault(Fault("cancel", action=action))  # type: ignore[arg-type]
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        served.post(f"{name}:cancel")
    assert served.emulator.state(name) == state
    assert served.emulator.requests[-1].status is None
    assert served.post(f"{name}:cancel").status_code == 200


def test_an_export_whose_answer_is_lost_can_be_found_in_the_log(served: Served) -> None:
    served.emulator.add_fault(Fault("export", action="reset_after"))
    with pytest.raises(requests.ConnectionError):
        served.post(f"projects/{PROJECT}/image:export")
    assert [served.emulator.requests[0].name] == served.emulator.names()


def test_half_a_body(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", action="half_body"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        served.get(name)
    assert served.get(name).status_code == 200


def test_hang_holds_the_request_and_has_no_effect(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("cancel", action="hang", seconds=0.2))
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        served.post(f"{name}:cancel")
    assert time.monotonic() - began >= 0.2
    assert served.emulator.state(name) == "PENDING"


def test_a_hang_without_end_ends_with_the_client_or_the_server(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", action="hang", times=None))
    with pytest.raises(requests.ReadTimeout):
        served.session.get(served.url(name), timeout=0.2)
    with pytest.raises(requests.ReadTimeout):
        served.session.get(served.url(name), timeout=(1, 0.2))
    began = time.monotonic()
    served.server.stop()
    assert time.monotonic() - began < 3


def test_a_hang_ends_when_its_client_leaves(served: Served, name: str) -> None:
    def handlers() -> int:
        loop = served.server._loop
        assert loop is not None
        return len(asyncio.all_tasks(loop))

    served.emulator.add_fault(Fault("get", action="hang"))
    before = handlers()
    with pytest.raises(requests.ReadTimeout), requests.Session() as session:
        session.get(served.url(name), timeout=0.1)
    deadline = time.monotonic() + 5
    while handlers() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert handlers() == before


def test_late_answers(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("cancel", seconds=0.2))
    began = time.monotonic()
    assert served.post(f"{name}:cancel").status_code == 200
    assert time.monotonic() - began >= 0.2


def test_trickle(served: Served, name: str) -> None:
    served.emulator.add_fault(Fault("get", action="trickle", seconds=0.3))
    served.emulator.add_fault(Fault("get", action="trickle", seconds=0.1, body=b""))
    began = time.monotonic()
    answer = served.session.get(served.url(name), timeout=(1, 0.25))  # no pause between bytes is that long
    assert answer.json()["name"] == name
    assert time.monotonic() - began >= 0.29
    assert served.get(name).content == b""


def test_latency(serve: Callable[..., Served]) -> None:
    served = serve(latency=0.15)
    began = time.monotonic()
    served.get(LISTING)
    assert time.monotonic() - began >= 0.15


def test_a_client_that_gives_up_does_not_undo_the_effect(serve: Callable[..., Served]) -> None:
    served = serve(latency=0.5)
    name = served.emulator.add_operation()
    with pytest.raises(requests.ReadTimeout):
        served.session.post(served.url(f"{name}:cancel"), timeout=0.1)
    assert served.emulator.state(name) == "CANCELLING"
    assert served.emulator.requests[-1].status is None


def test_token_faults_have_the_form_of_oauth(served: Served) -> None:
    for fault, expected in (
        (Fault("token", status=500), "internal_failure"),
        (Fault("token", status=400, message="Account deleted."), "invalid_grant"),
        (Fault("token", status=401, rpc_status="invalid_client"), "invalid_client"),
    ):
        served.emulator.add_fault(fault)
        answer = served.session.post(f"{served.server.base_url}/token", data={}, timeout=30)
        assert answer.status_code == fault.status
        assert answer.json()["error"] == expected


def test_quota(serve: Callable[..., Served]) -> None:
    served = serve(requests_per_second=2, projects=[PROJECT, "other"])
    assert [served.get(LISTING).status_code for _ in range(3)] == [200, 200, 429]
    refused = served.get(LISTING)
    code, status, message = error_of(refused)
    assert (code, status) == (429, "RESOURCE_EXHAUSTED")
    assert message.startswith("Quota exceeded for quota metric 'Number of read requests' and limit")
    assert reason_of(refused) == "RATE_LIMIT_EXCEEDED"
    assert refused.headers["Retry-After"] == "1"
    assert served.get("projects/other/operations").status_code == 200
    served.clock.advance(0.5)
    assert [served.get(LISTING).status_code for _ in range(2)] == [200, 429]
    served.clock.advance(100)
    assert [served.get(LISTING).status_code for _ in range(3)] == [200, 200, 429]


def test_retry_after_of_a_slow_quota(serve: Callable[..., Served]) -> None:
    served = serve(requests_per_second=0.1)
    served.get(LISTING)
    assert served.get(LISTING).headers["Retry-After"] == "10"
