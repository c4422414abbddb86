from __future__ import annotations

import importlib
import json
from importlib.metadata import distribution, entry_points, version
from importlib.resources import files

import jsonschema
import pytest

import airflow_provider_eeops
from airflow_provider_eeops.api.settings import FIELDS, Settings
from airflow_provider_eeops.get_provider_info import get_provider_info

DISTRIBUTION = "airflow-provider-eeops"


def test_agrees_with_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_is_what_the_entry_point_names() -> None:
    (entry_point,) = [
        each for each in entry_points(group="apache_airflow_provider") if each.dist and each.dist.name == DISTRIBUTION
    ]
    assert entry_point.load()() == get_provider_info()


def test_names_the_distribution_and_its_version() -> None:
    info = get_provider_info()
    assert info["package-name"] == DISTRIBUTION
    assert info["versions"] == [airflow_provider_eeops.__version__] == [version(DISTRIBUTION)]


def test_every_class_module_and_function_it_names_can_be_imported() -> None:
    info = get_provider_info()
    modules = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for each in info[kind]
        for module in each["python-modules"]
    ]
    classes = [*(each["class-name"] for each in info["task-decorators"])]
    classes += [*info["notifications"], *info["cli"], *(each["hook-class-name"] for each in info["connection-types"])]
    assert [importlib.import_module(module).__name__ for module in modules] == modules
    for path in classes:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name).__name__ == name


def test_the_connection_type_is_the_hooks() -> None:
    from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

    (connection_type,) = get_provider_info()["connection-types"]
    assert connection_type["connection-type"] == EarthEngineOperationsHook.conn_type
    assert connection_type["hook-name"] == EarthEngineOperationsHook.hook_name


def test_the_form_has_every_parameter_of_the_connection() -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    assert list(connection_type["conn-fields"]) == [field.name for field in FIELDS] == list(Settings.names())


@pytest.mark.parametrize("name", ["keyfile_dict", "credential_config_file", "proxies"])
def test_the_form_masks_what_may_be_secret(name: str) -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    assert connection_type["conn-fields"][name]["schema"]["format"] == "password"


def test_every_parameter_of_the_form_is_read() -> None:
    extras = {field.name: None for field in FIELDS}
    assert Settings.from_extras(extras).unknown == ()


def test_runtime_dependencies_are_few_and_light() -> None:
    required = [each.split(";")[0] for each in distribution(DISTRIBUTION).requires or [] if "extra ==" not in each]
    assert sorted(each.split(">")[0].strip() for each in required) == [
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "google-auth",
        "requests",
        "urllib3",
    ]
