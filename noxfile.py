"""Tests and example DAGs on every Airflow from 2.11 on: ``make test-matrix``.

``nox --list`` shows the sessions. ``nox -s airflow-2.11.2-3.11 -- tests/unit/glue`` runs some of the tests in one.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"
nox.options.envdir = ".cache/nox"
nox.options.reuse_venv = "yes"

PYTHONS = ("3.11", "3.12", "3.13")

PINS = {
    "2.11.2": ".ci/airflow-2.11.2.txt",
    "3.0.6": ".ci/airflow-3.0.6.txt",
    "3.1.8": ".ci/airflow-3.1.8.txt",
    "3.2.2": ".ci/airflow-3.2.2.txt",
    "3.3.2": ".ci/constraints.txt",
}
"""Constraints by version of Airflow."""

NO_PYTHON = {"2.11.2": {"3.13"}, "3.0.6": {"3.13"}}
"""Pythons that an Airflow's metadata exclude."""

FOLDERS = ("tests/unit", "tests/properties", "tests/secrets", "tests/trust", "tests/integration")

ONCE_IS_ENOUGH = (
    "tests/integration/test_packaging.py",
    "tests/integration/test_wheel.py::test_the_unit_tests_pass_where_there_is_only_the_wheel",
)
"""What builds the package, or runs the unit tests again, whatever the Airflow: ``make test`` does it."""

# An hour of a machine in use by others must be no failure; a hang is one.
LIMITS = ("--timeout", "600")


def on_airflow(version: str) -> None:
    """Add the sessions of one Airflow: one for each Python that it takes.

    :param version: its version.
    """
    pythons = [python for python in PYTHONS if python not in NO_PYTHON.get(version, ())]

    @nox.session(name=f"airflow-{version}", python=pythons)
    def airflow(session: nox.Session) -> None:
        """Unit and integration tests, and the example DAGs; after ``--``, the tests that are given."""
        session.install("--constraint", PINS[version], "--editable", ".[emulator]", "--group", "matrix")
        *side_by_side, last = FOLDERS
        if session.posargs:
            session.run("python", "-m", "pytest", *LIMITS, *session.posargs)
            return
        session.run("python", "-m", "pytest", "-q", "-n", "auto", *LIMITS, *side_by_side)
        left_out = [f"--deselect={each}" for each in ONCE_IS_ENOUGH]
        session.run("python", "-m", "pytest", *LIMITS, *left_out, last)  # one Airflow for all of them


for each in PINS:
    on_airflow(each)
