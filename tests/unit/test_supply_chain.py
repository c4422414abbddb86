"""What runs and publishes this package: the workflows, the pins, and the floors that are tested."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.advisories import findings, main, pins

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
FLOORS = sorted((ROOT / ".ci").glob("floors-airflow-*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [
    Requirement(text)
    for text in (*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["emulator"])
]
PINNED = re.compile(r"^ *(- )?uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    return workflow


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def events(path: Path) -> Any:
    return read(path)[True]  # YAML 1.1 takes "on" for a boolean


def test_there_are_workflows_to_look_at() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "release", "weekly"]
    assert all(steps(path) for path in WORKFLOWS)


@every_workflow
def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is(path: Path) -> None:
    uses = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert len(uses) == sum("uses" in step for step in steps(path)) > 0
    assert [line for line in uses if not PINNED.match(line)] == []


def test_an_action_has_one_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for step in steps(path):
            if "uses" in step:
                name, _, commit = step["uses"].partition("@")
                versions.setdefault(name, set()).add(commit)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@every_workflow
def test_a_workflow_may_read_and_no_more(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}
    writers = {
        name: job["permissions"]
        for name, job in read(path)["jobs"].items()
        if any(access == "write" for access in job.get("permissions", {}).values())
    }
    if path.stem == "release":
        assert writers == {
            "attest": {"id-token": "write", "attestations": "write"},
            "publish": {"id-token": "write"},
        }
    else:
        assert writers == {}


@every_workflow
def test_nothing_runs_a_strangers_code_with_our_rights(path: Path) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(events(path))
    assert "secrets." not in path.read_text()
    for step in steps(path):
        assert "${{" not in step.get("run", "")


@every_workflow
def test_a_checkout_leaves_no_credential_behind(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@every_workflow
def test_every_job_ends(path: Path) -> None:
    assert all(0 < job["timeout-minutes"] <= 60 for job in read(path)["jobs"].values())


def test_only_a_tag_publishes_and_only_what_was_tested_and_built_once() -> None:
    (path,) = (path for path in WORKFLOWS if "gh-action-pypi-publish@" in path.read_text())
    assert events(path) == {"push": {"tags": ["v*"]}}
    jobs = read(path)["jobs"]
    publish = jobs["publish"]
    assert publish["if"] == "github.ref_type == 'tag'"
    assert publish["environment"] == "pypi"
    assert set(publish["needs"]) == {"test", "build", "attest"}
    assert [step["uses"].split("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    builds = [name for name, job in jobs.items() for step in job["steps"] if "make dist" in step.get("run", "")]
    assert builds == ["build"]
    assert "password" not in str(publish)


@pytest.mark.parametrize("path", FLOORS, ids=lambda path: path.stem)
def test_the_floors_that_are_tested_are_versions_that_are_allowed(path: Path) -> None:
    pinned = pins(path.read_text())
    assert pinned["apache-airflow"] == path.stem.removeprefix("floors-airflow-")
    assert [str(each) for each in RUNTIME if pinned[canonicalize_name(each.name)] not in each.specifier] == []


def test_make_floors_installs_each_of_them() -> None:
    (line,) = re.findall(r"^FLOORS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [f"floors-airflow-{version}.txt" for version in line.split()] == [path.name for path in FLOORS]


def of_noxfile(name: str) -> Any:
    """A constant of noxfile.py, read: nox is installed where it is run from only."""
    (found,) = (
        node.value
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return ast.literal_eval(found)


def test_each_airflow_is_pinned_to_the_version_that_its_session_names() -> None:
    pinned = {
        version: pins((ROOT / path).read_text())["apache-airflow"] for version, path in of_noxfile("PINS").items()
    }
    assert pinned == {version: version for version in of_noxfile("PINS")}
    assert {path for path in of_noxfile("PINS").values() if "airflow" in path} == {
        f".ci/{path.name}" for path in (ROOT / ".ci").glob("airflow-*.txt")
    }


def test_the_workflow_runs_each_session() -> None:
    matrix = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["airflow"]["strategy"]["matrix"]
    assert matrix["airflow"] == list(of_noxfile("PINS"))
    assert matrix["python"] == list(of_noxfile("PYTHONS"))
    excluded = {(each["airflow"], each["python"]) for each in matrix["exclude"]}
    assert excluded == {(airflow, python) for airflow, some in of_noxfile("NO_PYTHON").items() for python in some}


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_each_floor_is_installed_somewhere(requirement: Requirement) -> None:
    (floor,) = requirement.specifier
    assert floor.operator == ">="
    tested = {Version(pins(path.read_text())[canonicalize_name(requirement.name)]) for path in FLOORS}
    assert Version(floor.version) in tested


@pytest.mark.parametrize("path", sorted((ROOT / ".ci").glob("*.txt")), ids=lambda path: path.name)
def test_pins_name_no_place_to_get_them_from(path: Path) -> None:
    assert re.findall(r"^\s*-|://| @ ", path.read_text(), re.MULTILINE) == []


ADVISORY = """
id: PYSEC-2024-1
affected:
- package: {ecosystem: PyPI, name: some-thing}
  ranges:
  - type: ECOSYSTEM
    events: [{introduced: "0"}, {fixed: 1.2.3}, {introduced: 2.0.0}, {fixed: 2.1.0}]
  versions: ["3.0"]
"""


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.9", True),
        ("1.2.2", True),
        ("1.2.3", False),
        ("2.0.5", True),
        ("2.1.0", False),
        ("2.10", False),
        ("3.0", True),
    ],
)
def test_an_advisory_is_found(tmp_path: Path, capsys: Any, version: str, affected: bool) -> None:
    folder = tmp_path / "vulns" / "some-thing"
    folder.mkdir(parents=True)
    (folder / "PYSEC-2024-1.yaml").write_text(ADVISORY)
    pinned = tmp_path / "pins.txt"
    pinned.write_text(f"# none\nSome_Thing=={version} ; python_version < '4'\nother==1\n")
    assert main(str(tmp_path), str(pinned)) == int(affected)
    out = capsys.readouterr().out
    assert f"2 pins, {int(affected)} with a known vulnerability; the newest advisory here is PYSEC-2024-1." in out
    assert (f"- some-thing {version}: PYSEC-2024-1, fixed in 1.2.3, 2.1.0" in out) is affected
    (folder / "PYSEC-2024-1.yaml").write_text(f"{ADVISORY}withdrawn: 2024-02-02T00:00:00Z\n")
    assert list(findings(tmp_path / "vulns", {"some-thing": version})) == []


def test_no_advisories_is_no_clean_bill(tmp_path: Path, capsys: Any) -> None:
    pinned = tmp_path / "pins.txt"
    pinned.write_text("other==1\n")
    assert main(str(tmp_path), str(pinned)) == 2
    assert "has no advisories" in capsys.readouterr().out
