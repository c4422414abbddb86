"""What a person does with the form of a connection, and what they see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.browser.chromium import visiting
from tests.browser.pages import ConnectionsPage, log_in
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow

__all__ = ["CONN_ID", "PASSWORD", "PERMISSION", "Story", "tell"]

CONN_ID = "earthengine_form"
PASSWORD = "hush/hush hour+4711"
PERMISSION = "earthengine.operations.update"

_PROXIES = '{"https": "http://user:hush%2Fhush%20hour%2B4711@proxy.example:3128"}'


@dataclass
class Story:
    """What was seen.

    :param blank: kind and value of each field before anything was typed.
    :param can_save: whether the form could be saved: without an id, and with one.
    :param said: what the test said, by what it was pressed after.
    :param stored: kind and value of each field when it was opened again.
    :param sent: address and text of each answer that a page got.
    :param held: texts that the pages held which did not have the secrets typed into them.
    """

    blank: dict[str, tuple[str, str]] = field(default_factory=dict)
    can_save: list[bool] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


def tell(airflow: LocalAirflow, earth_engine: EmulatorClient, folder: Path, pictures: Path) -> Story:
    """Add a connection, save it, test it; then, as somebody else, open it, change it and test it again.

    :param folder: an empty folder, for the browsers' own files.
    :param pictures: folder for pictures of the pages.
    """
    story = Story()
    key = earth_engine.key_path.read_text()
    with visiting(folder / "first") as visit:
        log_in(visit.page, airflow.url, airflow.password)
        connections = ConnectionsPage(visit.page, airflow.url)
        connections.open()
        connections.add("Google Earth Engine")
        story.blank = dict(connections.shown())
        connections.fill(
            project=earth_engine.project, keyfile_dict=key, base_url=earth_engine.base_url, proxies=_PROXIES
        )
        story.can_save.append(connections.can_save)
        connections.name(CONN_ID)
        story.can_save.append(connections.can_save)
        connections.picture(pictures / "connection-form.png", height=1300)
        connections.save()
        connections.open()
        story.said["saved"] = connections.test(CONN_ID)
        connections.picture(pictures / "connection-test.png", height=620)
    story.sent += visit.received()
    with visiting(folder / "second") as visit:
        log_in(visit.page, airflow.url, airflow.password)
        connections = ConnectionsPage(visit.page, airflow.url)
        connections.open()
        connections.edit(CONN_ID)
        story.stored = dict(connections.shown())
        visit.look()
        connections.fill(read_timeout="20")
        connections.save()
        story.said["changed"] = connections.test(CONN_ID)
        visit.look()
        earth_engine.deny(PERMISSION)
        connections.open()
        story.said["denied"] = connections.test(CONN_ID)
        connections.picture(pictures / "connection-test-denied.png", height=620)
        earth_engine.allow_all()
        connections.open()
        connections.edit(CONN_ID)
        connections.fill(keyfile_dict="", project="no project")
        connections.save()
        story.said["invalid"] = connections.test(CONN_ID)
        visit.look()
    story.held += visit.held
    story.sent += visit.received()
    return story
