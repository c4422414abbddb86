import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_eeops.emulator import discovery
from tests.support.emulation import PROJECT, Served, error_of


@pytest.fixture
def forgotten() -> Iterator[None]:
    discovery._read.cache_clear()
    yield
    discovery._read.cache_clear()


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_document_leads_here_in_the_version_asked_for(served: Served, version: str) -> None:
    answer = requests.get(f"{served.server.base_url}/$discovery/rest", params={"version": version}, timeout=30)
    document = answer.json()
    assert document["version"] == version
    assert document["rootUrl"] == document["baseUrl"] == f"{served.server.base_url}/"
    paths = [
        method["path"] for method in document["resources"]["projects"]["resources"]["operations"]["methods"].values()
    ]
    assert all(path.startswith(f"{version}/") for path in paths)


def test_unknown_version(served: Served) -> None:
    answer = requests.get(f"{served.server.base_url}/$discovery/rest", params={"version": "v7"}, timeout=30)
    assert error_of(answer)[0] == 404


def test_algorithms(served: Served) -> None:
    answer = served.get(f"projects/{PROJECT}/algorithms", alt="json", prettyPrint="false")
    assert len(answer.json()["algorithms"]) > 100


@pytest.mark.usefixtures("forgotten")
def test_without_the_package_the_error_names_it(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    served = serve()
    for answer in (
        requests.get(f"{served.server.base_url}/$discovery/rest", timeout=30),
        served.get(f"projects/{PROJECT}/algorithms"),
    ):
        code, _, message = error_of(answer)
        assert code == 501
        assert "pip install earthengine-api" in message


@pytest.mark.usefixtures("forgotten")
def test_without_the_packages_tests_the_error_names_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(discovery, "_package_folder", lambda: tmp_path)
    assert "pip install earthengine-api" in json.dumps(served.get(f"projects/{PROJECT}/algorithms").json())
