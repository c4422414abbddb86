"""README.md and docs/ say what is true: generated blocks are fresh, links lead somewhere, code runs."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report
from airflow_provider_eeops.api.observing import CANCEL, Span
from airflow_provider_eeops.api.settings import FIELDS, Settings
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.docs import ROOT, code_blocks, default_of, main, pages, param_docs, refreshed, signature_of
from tests.support.versions import HAS_NO_SDK, IS_AIRFLOW_2

README = ROOT / "README.md"
DOCS = ROOT / "docs"
MAKEFILE = ROOT / "Makefile"
PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages()}

# What a page documents, each parameter of it in a table of that page.
DOCUMENTED = {
    "airflow_provider_eeops.operators.operations:EarthEngineCancelOperationsOperator": "operator.md",
    "airflow_provider_eeops.sensors.operations:EarthEngineOperationsSensor": "sensor.md",
    "airflow_provider_eeops.triggers.operations:EarthEngineOperationsTrigger": "trigger.md",
    "airflow_provider_eeops.notifications.operations:EarthEngineCancelOperationsNotifier": "notifier.md",
    "airflow_provider_eeops.hooks.operations:EarthEngineOperationsHook": "hook.md",
    "airflow_provider_eeops.tracking:track_operations": "tracking.md",
    "airflow_provider_eeops.emulator:Emulator": "emulator.md",
    "airflow_provider_eeops.emulator:Fault": "emulator.md",
    "airflow_provider_eeops.api.cancelling:cancel_operations": "api.md",
    "airflow_provider_eeops.api.selecting:OperationSelector": "selecting.md",
    "airflow_provider_eeops.api.logfields:log_fields": "observability.md",
    "airflow_provider_eeops.api.polling:wait": "api.md",
    "airflow_provider_eeops.api.watching:Watch": "api.md",
}

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def load(where: str) -> Any:
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"^(```.*?^```|    .*?)$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_cells(table: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def block(page: str, what: str) -> str:
    (found,) = re.findall(rf"<!-- include: {re.escape(what)} -->\n(.*?)<!-- end -->", PAGES[page], re.DOTALL)
    return str(found)


def test_every_attribute_of_a_span_is_documented() -> None:
    name = "projects/one/operations/A"
    span = Span(CANCEL, [name], now=lambda: 0.0, then=lambda _span: None)
    span.conclude(Report((OperationResult(name, Outcome.CANCELLED),)))
    told = {re.sub(r"(?<=outcomes)\..*", ".OUTCOME", attribute) for attribute in span.attributes}
    table = PAGES["docs/observability.md"].split("| attribute | meaning |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == told | {"error.type"}


def test_the_log_line_that_is_shown_has_documented_fields() -> None:
    (shown,) = code_blocks(PAGES["docs/observability.md"], "json")
    line = json.loads(shown)
    of_airflow = {"timestamp", "level", "event", "logger", "filename", "lineno"}
    of_airflow |= {"dag_id", "run_id", "task_id", "map_index", "try_number", "ti_id"}
    assert of_airflow < set(line) <= of_airflow | set(signature_of(log_fields))


@pytest.mark.parametrize("page", PAGES)
def test_generated_blocks_are_fresh(page: str) -> None:
    assert PAGES[page] == refreshed(PAGES[page]), "run: python -m tests.support.docs"


def test_every_include_has_an_end() -> None:
    for page, text in PAGES.items():
        if page != "docs/contributing.md":
            assert text.count("<!-- include: ") == text.count("<!-- end -->"), page


def test_refreshing_writes_nothing_new(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "set anew by main, restored by monkeypatch")
    assert main() == 0
    assert capsys.readouterr().out == ""


def test_an_edited_block_is_stale() -> None:
    text = PAGES["docs/connection.md"]
    edited = text.replace("Key File Path", "Path of the Key")
    assert edited != text
    assert refreshed(edited) == text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for found in LINK.finditer(prose(PAGES[page])):
        target, _, anchor = found["target"].partition("#")
        if target.startswith("https://"):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.is_file(), f"{page}: {found[0]}"
        assert path.resolve().is_relative_to(ROOT), f"{page}: {found[0]}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {found[0]}"


def test_every_page_is_on_the_map() -> None:
    listed = {found["target"] for found in LINK.finditer(PAGES["docs/index.md"])}
    assert {Path(page).name for page in PAGES if page.startswith("docs/")} - {"index.md"} <= listed


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_no_machine_and_no_registry(page: str) -> None:
    text = PAGES[page].replace("--update-pypi-packages-from-file", "")  # gcloud's
    assert not re.search(r"/(work|root|home|tmp)/|pypi|files\.pythonhosted", text, re.IGNORECASE)


@pytest.mark.parametrize("where", DOCUMENTED)
def test_every_parameter_is_documented(where: str) -> None:
    documented = load(where)
    told, taken = param_docs(documented), signature_of(documented)
    assert list(told) == list(taken), "docstring and signature differ"
    assert all(told.values())
    table = block(f"docs/{DOCUMENTED[where]}", f"parameters {where}")
    assert first_cells(table) == list(taken)
    for name, parameter in taken.items():
        assert f"| `{name}` | {default_of(parameter)} |" in table


def test_every_class_of_the_provider_has_a_page() -> None:
    modules = ("operators", "sensors", "triggers", "notifications", "hooks")
    for module in (f"airflow_provider_eeops.{each}.operations" for each in modules):
        exported = importlib.import_module(module).__all__
        classes = {name for name in exported if inspect.isclass(load(f"{module}:{name}"))}
        assert classes == {where.split(":")[1] for where in DOCUMENTED if where.startswith(f"{module}:")}


def test_every_connection_parameter_is_documented() -> None:
    table = block("docs/connection.md", "connection-fields")
    assert first_cells(table) == [field.name for field in FIELDS]


@pytest.mark.parametrize("page", ["README.md", "docs/cancelling.md"])
def test_every_outcome_is_documented(page: str) -> None:
    for outcome in Outcome:
        assert f"| {outcome.words} |" in PAGES[page]


def test_the_report_example_is_one() -> None:
    (example,) = code_blocks(PAGES["docs/cancelling.md"], "json")
    assert Report.from_dict(json.loads(example)).to_dict() == json.loads(example)


def python_blocks() -> Iterator[Any]:
    for page, text in PAGES.items():
        for number, code in enumerate(code_blocks(text, "python")):
            yield pytest.param(code, id=f"{page}-{number}")


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_blocks_compile(code: str) -> None:
    compile(code, "block", "exec")


def test_the_first_dag_is_a_tested_example() -> None:
    first = code_blocks(PAGES["README.md"], "python")[0]
    example = (ROOT / "example_dags" / "example_owned_exports.py").read_text(encoding="utf-8")
    assert first in example
    assert len([line for line in first.splitlines() if line]) <= 20
    tests = (ROOT / "tests" / "integration" / "test_example_dags.py").read_text(encoding="utf-8")
    assert "def test_example_owned_exports(" in tests


@pytest.mark.parametrize("folder", ["example_dags", "docs/examples"])
def test_every_example_is_on_a_page(folder: str) -> None:
    names = {path.name for path in (ROOT / folder).glob("*.py")}
    assert names
    assert {name for name in names if not any(f"{folder}/{name}" in text for text in PAGES.values())} == set()


def commands() -> Iterator[Any]:
    for page, text in PAGES.items():
        for line in re.findall(
            r"^    (.*(?:airflow earthengine|python -m airflow_provider_eeops) .*)$", text, re.MULTILINE
        ):
            for command in line.split(" | "):
                program, found, arguments = re.split(r"(earthengine|airflow_provider_eeops) ", command, maxsplit=1)
                yield pytest.param(arguments, id=f"{page}: {program}{found} {arguments}")


@pytest.mark.parametrize("arguments", list(commands()))
def test_commands_of_the_pages_are_understood(arguments: str) -> None:
    from airflow_provider_eeops.__main__ import _parser

    _parser().parse_args(shlex.split(arguments))


def connection_extras() -> Iterator[Any]:
    for page, text in PAGES.items():
        for command in re.findall(r"airflow connections add (?:.*\\\n)*.*--conn-extra .*", text):
            words = shlex.split(command)
            yield pytest.param(words[words.index("--conn-extra") + 1], id=page)
        for value in re.findall(r"AIRFLOW_CONN_\w+='(.*)'", text):
            yield pytest.param(json.dumps(json.loads(value)["extra"]), id=page)


@pytest.mark.parametrize("extra", list(connection_extras()))
def test_connections_in_the_pages_are_good(extra: str) -> None:
    assert Settings.from_extras(json.loads(extra)).unknown == ()


def test_the_api_script_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = code_blocks(PAGES["docs/api.md"], "python")[0]
    assert len([line for line in script.splitlines() if line]) <= 10
    with EmulatorServer(Emulator(require_token=False, run_seconds=600, cancel_seconds=0)) as server:
        running, finished = server.emulator.add_operation(), server.emulator.add_operation(finished=True)
        monkeypatch.setattr(sys, "argv", ["script", running.rsplit("/", 1)[1], finished])
        exec(compile(script.replace("http://127.0.0.1:8085", server.base_url), "script", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "2 operations: 1 cancelled, 1 finished first",
        f"{running}: cancelled (CANCELLED): Cancelled.",
        f"{finished}: finished first (SUCCEEDED)",
    ]


def blocks_on_the_emulator() -> Iterator[Any]:
    for page in ("docs/emulator.md", "docs/tracking.md"):
        for number, code in enumerate(code_blocks(PAGES[page], "python")):
            if "emulator import" in code:
                lacking = pytest.mark.skipif(IS_AIRFLOW_2 and "airflow.sdk" in code, reason=HAS_NO_SDK)
                yield pytest.param(code, id=f"{page}-{number}", marks=lacking)


@pytest.mark.parametrize("code", list(blocks_on_the_emulator()))
def test_blocks_on_the_emulator_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {}
    exec(compile(code, "block", "exec"), space)
    tests = [value for name, value in space.items() if name.startswith("test_")]
    for test in tests:
        test(monkeypatch)
    assert tests or "assert " in code


def test_control_requests_of_the_page_are_good() -> None:
    from airflow_provider_eeops.emulator import control

    emulator = Emulator()
    page = PAGES["docs/emulator.md"]
    listed = set(re.findall(r"^\| `(GET|POST|DELETE) /emulator/(\w+)", page, re.MULTILINE))
    assert listed == set(control._ACTIONS)
    requests = re.findall(r"curl -X POST http://127\.0\.0\.1:8085/emulator/(\w+) -d '(.*)'", page)
    assert len(requests) == 3
    for path, body in requests:
        assert control.respond(emulator, "POST", path, {}, body.encode()).status == 200


def test_paths_in_code_words_exist() -> None:
    for page, text in PAGES.items():
        for path in re.findall(r"`((?:tests|example_dags|docs)/[\w/.]*)`", text):
            assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.skipif(not MAKEFILE.exists(), reason="there is a Makefile in a checkout, not in an sdist")
def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for text in PAGES.values() for name in re.findall(r"(?:`|^    )make ([\w-]+)", text, re.MULTILINE)}
    assert {"demo", "standalone", "check", "test"} <= named <= targets


def test_pages_are_plain_and_narrow() -> None:
    for page, text in PAGES.items():
        assert text.endswith("\n"), page
        for line in text.splitlines():
            plain = not line.startswith(("|", "    ", "-", "<!--")) and not re.search(r"\]\(", line)
            assert len(line) <= 120 or not plain, f"{page}: {line}"
            assert "\t" not in line, f"{page}: {line}"


def test_root_is_the_checkout() -> None:
    assert README.is_file()
    assert Path(__file__).is_relative_to(ROOT)


def test_the_site_has_every_page() -> None:
    listed = set(re.findall(r"^   ([\w-]+)$", (ROOT / "docs" / "contents.rst").read_text(), re.MULTILINE))
    written = {page.stem for page in (ROOT / "docs").glob("*.md")} | {"reference"}
    assert listed == written
