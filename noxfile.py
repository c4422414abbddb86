"""Every Airflow from 2.11 on, each in an environment of its own; ``make test-matrix`` runs them on one Python.

``nox --list`` shows the sessions. ``nox -s airflow-2.11.2-3.11 -- tests/unit/glue`` runs some of the tests on one.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.envdir = ".cache/nox"

PINS = {
    "2.11.2": ".ci/airflow-2.11.2.txt",
    "3.0.6": ".ci/airflow-3.0.6.txt",
    "3.1.8": ".ci/airflow-3.1.8.txt",
    "3.2.2": ".ci/airflow-3.2.2.txt",
    "3.3.2": ".ci/constraints.txt",
}
PYTHONS = ["3.11", "3.12", "3.13"]

# Airflow 2.11 and 3.0 refuse to be installed with Python 3.13.
NOT_ON_PYTHON_3_13 = {"2.11.2", "3.0.6"}


def on_airflow(version: str) -> None:
    """Add the session of one Airflow, for each Python that it takes.

    :param version: of Airflow.
    """
    pythons = [python for python in PYTHONS if not (python == "3.13" and version in NOT_ON_PYTHON_3_13)]

    @nox.session(name=f"airflow-{version}", python=pythons)
    def airflow(session: nox.Session) -> None:
        """Unit tests, integration tests and the example DAGs."""
        session.install("--constraint", PINS[version], "--editable", ".[emulator]", "--group", "matrix")
        session.run("python", "-m", "pytest", *session.posargs)


for each in PINS:
    on_airflow(each)
