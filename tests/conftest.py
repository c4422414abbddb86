"""Keep every test's Airflow out of the user's AIRFLOW_HOME, and take its warnings for errors but those of itself."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import warnings

import pytest

from tests.support.versions import IS_AIRFLOW_2, OTHERS_WARNINGS

_HOME = tempfile.mkdtemp(prefix="eeops-airflow-home-")

for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = _HOME  # read when airflow is first imported, so set before any test module is
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{_HOME}/airflow.db"


def pytest_configure(config: pytest.Config) -> None:
    for line in OTHERS_WARNINGS:
        config.addinivalue_line("filterwarnings", line)
    if IS_AIRFLOW_2:
        with warnings.catch_warnings():  # its web framework, of which the form's fields are, warns of itself
            warnings.simplefilter("ignore")
            importlib.import_module("flask_appbuilder.fieldwidgets")


def pytest_unconfigure(config: pytest.Config) -> None:
    del config
    shutil.rmtree(_HOME, ignore_errors=True)
