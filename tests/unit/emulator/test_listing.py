from collections.abc import Callable
from typing import Any

import pytest

from tests.support.emulation import PROJECT, Served, error_of

LISTING = f"projects/{PROJECT}/operations"


def pages(served: Served, **parameters: Any) -> list[list[str]]:
    found = []
    token = ""
    while True:
        page = served.get(LISTING, pageToken=token, **parameters).json()
        found.append([operation["name"] for operation in page["operations"]])
        token = page.get("nextPageToken", "")
        if not token:
            return found


def test_an_empty_listing_is_an_empty_object(served: Served) -> None:
    assert served.get(LISTING).json() == {}


@pytest.mark.parametrize(("count", "size", "lengths"), [(6, 3, [3, 3]), (7, 3, [3, 3, 1]), (2, 3, [2])])
def test_newest_first_and_a_token_only_if_there_is_more(
    served: Served, count: int, size: int, lengths: list[int]
) -> None:
    names = [served.emulator.add_operation() for _ in range(count)]
    found = pages(served, pageSize=size, filter="done=false")
    assert [len(page) for page in found] == lengths
    assert [name for page in found for name in page] == names[::-1]


def test_default_and_limit_of_the_page_size(serve: Callable[..., Served]) -> None:
    served = serve(page_size_limit=5, page_size_default=2)
    for _ in range(12):
        served.emulator.add_operation()
    assert len(served.get(LISTING).json()["operations"]) == 2
    assert len(served.get(LISTING, pageSize=0).json()["operations"]) == 2
    assert len(served.get(LISTING, pageSize=500).json()["operations"]) == 5


def test_pages_do_not_shift(served: Served) -> None:
    names = [served.emulator.add_operation() for _ in range(6)]
    first = served.get(LISTING, pageSize=2).json()
    served.emulator.add_operation()
    served.emulator.remove_operation(names[3])
    second = served.get(LISTING, pageSize=2, pageToken=first["nextPageToken"]).json()
    assert [operation["name"] for operation in second["operations"]] == [names[2], names[1]]


def test_projects_are_apart(serve: Callable[..., Served]) -> None:
    served = serve(projects=["one", "two"])
    mine, theirs = (served.emulator.add_operation(project=project) for project in ("one", "two"))
    assert served.emulator.names() == [mine, theirs]
    assert served.emulator.names("two") == [theirs]
    assert [each["name"] for each in served.get("projects/two/operations").json()["operations"]] == [theirs]


def test_bad_page_tokens(serve: Callable[..., Served]) -> None:
    served = serve(projects=[PROJECT, "other"])
    for project in (PROJECT, "other"):
        for _ in range(2):
            served.emulator.add_operation(project=project)
    foreign = served.get("projects/other/operations", pageSize=1).json()["nextPageToken"]
    for token in ("x", "!!!!", "AAAA", foreign, foreign[:-2], "MTI6"):
        assert error_of(served.get(LISTING, pageToken=token))[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("size", ["-1", "ten", "2147483648", "1.5"])
def test_bad_page_sizes(served: Served, size: str) -> None:
    assert error_of(served.get(LISTING, pageSize=size))[:2] == (400, "INVALID_ARGUMENT")


def test_partial_success_is_unimplemented(served: Served) -> None:
    assert served.get(LISTING, returnPartialSuccess="false").status_code == 200
    assert error_of(served.get(LISTING, returnPartialSuccess="true"))[:2] == (501, "UNIMPLEMENTED")


def test_unknown_query_parameters_are_refused(served: Served) -> None:
    name = served.emulator.add_operation()
    assert served.get(LISTING, alt="json", prettyPrint="false").status_code == 200
    code, _, message = error_of(served.get(LISTING, page_size=3))
    assert code == 400
    assert '"page_size"' in message
    assert served.get(name, pageSize=3).status_code == 400


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2/projects/emulator-project/operations"),
        ("GET", "/v1/projects/emulator-project/operations/"),
        ("GET", "/v1/projects/emulator-project/operations/a//b"),
        ("GET", "/v1/projects//operations"),
        ("POST", "/v1/projects/emulator-project/operations"),
        ("POST", "/v1/projects/emulator-project/operations/X"),
        ("POST", "/v1/projects/emulator-project/operations/X:stop"),
        ("PATCH", "/v1/projects/emulator-project/operations/X"),
        ("GET", "/v1/projects/emulator-project/image:export"),
        ("POST", "/v1/projects/emulator-project/image:paint"),
        ("GET", "/token"),
        ("PUT", "/v1/projects/-/serviceAccounts/a@b:generateAccessToken"),
    ],
)
def test_unknown_paths(served: Served, verb: str, path: str) -> None:
    answer = served.session.request(verb, served.server.base_url + path, timeout=30)
    assert error_of(answer) == (404, "NOT_FOUND", "Method not found.")
    assert served.emulator.requests[-1].method == "other"
