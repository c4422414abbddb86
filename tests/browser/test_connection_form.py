"""The form of a connection in Airflow's own page, in a real browser."""

from __future__ import annotations

import json

import pytest

from airflow_provider_eeops.api.settings import FIELDS
from tests.browser.story import CONN_ID, PASSWORD, PERMISSION, Story
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.secret_search import Search

pytestmark = pytest.mark.e2e

SECRET = {field.name for field in FIELDS if field.is_secret}


@pytest.fixture
def search(earth_engine: EmulatorClient) -> Search:
    search = Search()
    key = json.loads(earth_engine.key_path.read_text())
    for name in ("private_key", "private_key_id"):
        search.plant(name, key[name])
    search.plant("the proxy's password", PASSWORD)
    return search


@pytest.fixture
def principal(earth_engine: EmulatorClient) -> str:
    return str(json.loads(earth_engine.key_path.read_text())["client_email"])


def test_the_form_has_every_field_empty(story: Story) -> None:
    assert set(story.blank) == {field.name for field in FIELDS}
    assert {name for name, (_, value) in story.blank.items() if value not in {"", "on"}} == set()


def test_what_may_be_secret_is_typed_masked(story: Story) -> None:
    for fields in (story.blank, story.stored):
        assert {name for name, (kind, _) in fields.items() if kind == "password"} == SECRET


def test_without_an_id_it_cannot_be_saved(story: Story) -> None:
    assert story.can_save == [False, True]


def test_the_test_names_principal_and_project(story: Story, principal: str, earth_engine: EmulatorClient) -> None:
    assert "Test Connection Successful" in story.said["saved"]
    assert f"{principal} may list operations of project {earth_engine.project} (v1alpha at" in story.said["saved"]
    assert story.said["changed"] == story.said["saved"], "the key stayed, though it was not typed again"


def test_the_test_names_the_one_permission_that_lacks(story: Story, principal: str) -> None:
    assert "Test Connection Failed" in story.said["denied"]
    assert f"{principal} may not cancel operations of project" in story.said["denied"]
    assert f"the principal lacks {PERMISSION}" in story.said["denied"]


def test_the_test_names_the_field_that_is_wrong(story: Story) -> None:
    assert "Test Connection Failed" in story.said["invalid"]
    assert "connection extra project: 'no project' is not a project id" in story.said["invalid"]


def test_what_was_typed_is_there_again_and_secrets_are_not(story: Story, earth_engine: EmulatorClient) -> None:
    values = {name: value for name, (_, value) in story.stored.items()}
    assert (values["project"], values["base_url"]) == (earth_engine.project, earth_engine.base_url)
    assert (values["keyfile_dict"], values["proxies"]) == ("***", "***")


def test_no_answer_has_a_secret(story: Story, search: Search) -> None:
    """The answers to what was saved, listed and tested are among those that were looked at."""
    of_connections = [text for address, text in story.sent if "/api/v2/connections" in address and CONN_ID in text]
    assert len(of_connections) > 3
    assert search.found_in(text for _, text in story.sent) == []


def test_no_page_holds_a_secret_that_was_not_typed_into_it(story: Story, search: Search) -> None:
    assert any(CONN_ID in text for text in story.held)
    assert search.found_in(story.held) == []


def test_airflows_logs_have_no_secret(story: Story, airflow: LocalAirflow, search: Search) -> None:
    del story
    texts = [path.read_text(errors="replace") for path in airflow.home.rglob("*.log")]
    assert any("connections/test" in text for text in texts)
    assert search.found_in(texts) == []
