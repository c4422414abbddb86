"""``earthengine_session`` with Google's own client, which is initialised in this very process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import ee
import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import (
    CredentialsError,
    InvalidInputError,
    InvalidSettingsError,
    ProjectNotAllowedError,
)
from airflow_provider_eeops.session import earthengine_session
from tests.support.masking import redact
from tests.unit.glue.conftest import SetConnection


@pytest.fixture(autouse=True)
def _only_the_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Google's client also asks for a catalogue elsewhere, and does without one."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert not ee.data.is_initialized()
    yield
    ee.Reset()


def start(description: str) -> str:
    task = ee.batch.Export.table.toDrive(ee.FeatureCollection([ee.Feature(None, {"a": 1})]), description=description)
    task.start()
    return str(task.operation_name)


def projects_asked(emulator: Emulator) -> list[str]:
    """Projects of the exports, as the requests were for them."""
    return [record.path.split("/")[3] for record in emulator.requests if record.method == "export"]


@pytest.mark.usefixtures("connection")
def test_two_projects_one_after_the_other(emulator: Emulator) -> None:
    names = []
    for project_id in ("one", "two", "one"):
        with earthengine_session(project_id=project_id) as hook:
            assert hook.project_id == project_id
            names.append(start("export"))
            assert hook.get_operation(names[-1]).description == "export"
            assert next(each["name"] for each in ee.data.listOperations()) == names[-1]
        assert not ee.data.is_initialized()
    assert [name.split("/")[1] for name in names] == projects_asked(emulator) == ["one", "two", "one"]
    assert emulator.count("other") == 0


def test_the_connection_says_as_whom(emulator: Emulator, server: EmulatorServer, set_connection: SetConnection) -> None:
    set_connection(keyfile_dict=server.service_account_info("exporter@example.com"))
    with earthengine_session():
        start("export")
    (record,) = [record for record in emulator.requests if record.method == "export"]
    assert record.principal == "exporter@example.com"


def test_anonymous(emulator: Emulator, set_connection: SetConnection) -> None:
    emulator.require_token = False
    set_connection(keyfile_dict=None, is_anonymous=True)
    with earthengine_session():
        start("export")
    assert emulator.count("token") == 0


@pytest.mark.usefixtures("connection")
def test_the_same_again_within() -> None:
    with earthengine_session() as outer:
        with earthengine_session(project_id="one") as inner:
            assert inner is not outer
            start("inner")
        assert ee.data.is_initialized()
        start("outer")
    assert not ee.data.is_initialized()


@pytest.mark.usefixtures("connection")
def test_another_project_is_refused_while_one_is_open(emulator: Emulator) -> None:
    with earthengine_session():
        requests = len(emulator.requests)
        with (
            pytest.raises(InvalidSettingsError, match=r"project one at .* is open .* for project two at"),
            earthengine_session(project_id="two"),
        ):
            pytest.fail("it began")
        assert len(emulator.requests) == requests
        assert start("still").startswith("projects/one/")


def test_another_identity_is_refused_while_one_is_open(server: EmulatorServer, set_connection: SetConnection) -> None:
    set_connection()
    set_connection("other", keyfile_dict=server.service_account_info("other@example.com"))
    set_connection("slower", num_retries=5)
    set_connection("same")
    with earthengine_session():
        with pytest.raises(InvalidSettingsError, match="as other@example"), earthengine_session("other"):
            pytest.fail("it began")
        with pytest.raises(InvalidSettingsError, match="other settings of the"), earthengine_session("slower"):
            pytest.fail("it began")
        with earthengine_session("same"):
            start("same")


def test_what_the_user_initialised_is_left_alone(server: EmulatorServer, set_connection: SetConnection) -> None:
    set_connection(is_anonymous=True, keyfile_dict=None)
    server.emulator.require_token = False
    ee.Initialize(None, url=server.base_url, project="one")
    with earthengine_session():
        start("theirs")
    assert ee.data.is_initialized()
    with (
        pytest.raises(InvalidSettingsError, match=r"for project one at .* by a call of ee.Initialize"),
        earthengine_session(project_id="two"),
    ):
        pytest.fail("it began")
    assert start("theirs still").startswith("projects/one/")


@pytest.mark.usefixtures("connection")
def test_what_is_initialised_anew_in_a_session_is_not_taken_for_it(server: EmulatorServer) -> None:
    server.emulator.require_token = False
    with earthengine_session():
        ee.Initialize(None, url=server.base_url, project="two")
        with pytest.raises(InvalidSettingsError, match="for project two"), earthengine_session():
            pytest.fail("it began")
    assert not ee.data.is_initialized()


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_it_is_reset_whatever_happens(error: type[BaseException]) -> None:
    with pytest.raises(error), earthengine_session():
        raise error
    assert not ee.data.is_initialized()


def test_without_earthengine_api(connection: None, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    del connection
    monkeypatch.setitem(sys.modules, "ee", None)
    with pytest.raises(InvalidInputError, match="pip install earthengine-api"), earthengine_session():
        pytest.fail("it began")
    assert emulator.requests == []


def test_without_a_project(set_connection: SetConnection, emulator: Emulator) -> None:
    emulator.require_token = False
    set_connection(project=None, keyfile_dict=None, is_anonymous=True)
    with pytest.raises(InvalidSettingsError, match="needs a project: pass project_id"), earthengine_session():
        pytest.fail("it began")


def test_a_project_that_is_not_allowed(set_connection: SetConnection, emulator: Emulator) -> None:
    set_connection(allowed_projects="one")
    with pytest.raises(ProjectNotAllowedError, match="two is not in one"), earthengine_session(project_id="two"):
        pytest.fail("it began")
    assert emulator.requests == []


@pytest.mark.usefixtures("connection")
def test_a_project_without_the_api(emulator: Emulator) -> None:
    del emulator
    with pytest.raises(ee.EEException, match="three-projects"), earthengine_session(project_id="three-projects"):
        pytest.fail("it began")
    assert not ee.data.is_initialized()
    with earthengine_session():
        start("after")


def test_a_key_that_is_not_accepted(server: EmulatorServer, set_connection: SetConnection) -> None:
    set_connection(keyfile_dict=server.service_account_info("nobody@example.com"))
    server.emulator.add_fault(Fault("token", status=401, times=None))
    with pytest.raises(CredentialsError, match="no token for nobody@example") as caught, earthengine_session():
        pytest.fail("it began")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not ee.data.is_initialized()


@pytest.mark.usefixtures("connection")
def test_the_token_is_masked() -> None:
    with earthengine_session() as hook:
        token = hook.credentials.token
        assert len(token) > 10
        assert redact(f"a {token} b") == "a *** b"
