"""The package as Airflow sees it: what it registers, stores and prints. Each Airflow has its own checks of it."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import runpy
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.cli import cli_parser
from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseNotifier, BaseOperator
from airflow.providers_manager import ProvidersManager

import airflow_provider_eeops
from airflow_provider_eeops.api.selecting import OperationSelector
from airflow_provider_eeops.get_provider_info import get_provider_info
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.links import LINKS
from tests.support.this_airflow import link_keys, registered_hook, rendered_fields, serialized_and_back
from tests.support.versions import AIRFLOW, CANNOT_RUN

NAME = "projects/one/operations/A"

VALUES: Mapping[str, Any] = {
    "accepted_states": ["SUCCEEDED"],
    "cancel_on_kill": False,
    "cancel_on_timeout": True,
    "deferrable": True,
    "earthengine_conn_id": "other",
    "fail_fast": False,
    "if_empty": "skip",
    "if_finished": "skip",
    "if_not_found": "ignore",
    "impersonation_chain": ["a@one.example", "b@one.example"],
    "initialize": False,
    "max_concurrency": 3,
    "max_operations": 7,
    "on_retry": "restart",
    "op_args": [1],
    "op_kwargs": {"scale": 100},
    "operations": [NAME, {"name": NAME}],
    "poll_failure_limit": 2,
    "poll_interval": 5.0,
    "project_id": "one",
    "python_callable": print,
    "selector": OperationSelector(states=["RUNNING"], description="nightly-*"),
    "templates_dict": {"day": "{{ ds }}"},
    "timeout": timedelta(minutes=5),
    "validate_only": "{{ params.validate_only }}",
    "wait_for_completion": True,
    "xcom_key": "mine",
    "xcom_task_ids": ["export"],
}
"""A value for each parameter, other than its default."""

SOURCES = {"operations": set(), "xcom_task_ids": {"xcom_key"}, "selector": set()}
"""Parameters of which one is given, and what goes with each."""


def classes(base: type, *folders: str) -> Iterator[Any]:
    """Public classes in modules of the package; a new one is found by itself."""
    for folder in folders:
        package = importlib.import_module(f"{airflow_provider_eeops.__name__}.{folder}")
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for member in map(vars(module).get, module.__all__):
                if inspect.isclass(member) and issubclass(member, base) and member.__module__ == module.__name__:
                    yield member


OPERATORS = tuple(classes(BaseOperator, "operators", "sensors"))
NOTIFIERS = tuple(classes(BaseNotifier, "notifications"))


def parameters(made: Any) -> set[str]:
    """Parameters of a class's own, without those of its base classes."""
    own = inspect.signature(inspect.unwrap(made.__init__)).parameters.values()
    return {each.name for each in own if each.kind is inspect.Parameter.KEYWORD_ONLY}


def every_way(made: Any) -> list[dict[str, Any]]:
    """Arguments that set all parameters; several sets where some exclude each other."""
    taken = parameters(made)
    of_sources = taken & set().union(SOURCES, *SOURCES.values())
    ways = [{source} | (SOURCES[source] & taken) for source in SOURCES if source in taken] or [set()]
    return [{name: VALUES[name] for name in sorted(taken - of_sources | way)} for way in ways]


EVERY_TASK = [
    pytest.param(operator, arguments, id=f"{operator.__name__}-{number}")
    for operator in OPERATORS
    for number, arguments in enumerate(every_way(operator))
]


def test_operators_sensors_and_notifiers_are_found() -> None:
    assert {"EarthEngineCancelOperationsOperator", "EarthEngineOperationsSensor"} <= {
        each.__name__ for each in OPERATORS
    }
    assert [each.__name__ for each in NOTIFIERS] == ["EarthEngineCancelOperationsNotifier"]


# What is stored of a DAG


@pytest.mark.parametrize(("operator", "arguments"), EVERY_TASK)
def test_a_task_with_every_parameter_is_stored_and_read_back(operator: Any, arguments: dict[str, Any]) -> None:
    with DAG("dag", schedule=None) as dag:
        task = operator(task_id="task", retries=2, **arguments)
    back = serialized_and_back(dag).get_task("task")
    assert (back.task_type, back.retries, back.ui_color) == (operator.__name__, 2, operator.ui_color)
    assert list(back.template_fields) == list(operator.template_fields)
    stored = json.loads(rendered_fields(task))
    assert stored, "there is something to compare"
    assert {name: getattr(back, name) for name in stored} == stored


@pytest.mark.parametrize(("operator", "arguments"), EVERY_TASK)
def test_a_mapped_task_is_stored_and_read_back(operator: Any, arguments: dict[str, Any]) -> None:
    name = "operations" if "operations" in arguments else "project_id"
    value, others = arguments[name], {each: arguments[each] for each in arguments if each != name}
    with DAG("dag", schedule=None) as dag:
        operator.partial(task_id="task", **others).expand(**{name: [value, value]})
    back = serialized_and_back(dag).get_task("task")
    assert back.task_type == operator.__name__
    assert back.expand_input.value == {name: [value, value]}


@pytest.mark.parametrize(("operator", "arguments"), EVERY_TASK)
def test_template_fields_of_tasks_are_attributes_and_parameters(operator: Any, arguments: dict[str, Any]) -> None:
    task = operator(task_id="task", **arguments)
    assert [name for name in operator.template_fields if not hasattr(task, name)] == []
    assert set(operator.template_fields) <= parameters(operator)


@pytest.mark.parametrize("notifier", NOTIFIERS)
def test_template_fields_of_notifiers_are_attributes_and_parameters(notifier: Any) -> None:
    for arguments in every_way(notifier):
        made = notifier(**arguments)
        assert [name for name in notifier.template_fields if not hasattr(made, name)] == []
    assert set(notifier.template_fields) <= parameters(notifier)


EXAMPLES = sorted((Path(__file__).parents[3] / "example_dags").glob("example_*.py"))


# The sensor of Python functions imports determine_kwargs from where Airflow no longer has it.
@pytest.mark.filterwarnings("ignore:The `airflow.utils.operator_helpers.determine_kwargs` attribute:FutureWarning")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_without_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := CANNOT_RUN.get(path.stem):
        pytest.skip(reason)
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path))


# Links


def test_the_links_of_tasks_are_registered() -> None:
    declared = {type(link) for operator in OPERATORS for link in operator.operator_extra_links}
    registered = set(get_provider_info()["extra-links"])
    assert {f"{link.__module__}.{link.__name__}" for link in declared} == registered
    assert registered <= set(ProvidersManager().extra_links_class_names)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("operator", "arguments"), EVERY_TASK)
def test_the_links_of_a_stored_task_are_shown(operator: Any, arguments: dict[str, Any]) -> None:
    with DAG("dag", schedule=None) as dag:
        operator(task_id="task", **arguments)
    assert link_keys(serialized_and_back(dag).get_task("task")) == {link.name: link.xcom_key for link in LINKS}


# What is registered

UNKNOWN_KEYS = {"cli"} if AIRFLOW < (3, 2) else set()
"""What this Airflow's schema of providers does not have, and does not read."""


def test_agrees_with_airflows_schema_of_provider_yaml() -> None:
    schema = json.loads(files("airflow").joinpath("provider.yaml.schema.json").read_text())
    info = get_provider_info()
    assert set(info) - set(schema["properties"]) == UNKNOWN_KEYS
    known = {name: value for name, value in info.items() if name not in UNKNOWN_KEYS}
    of_a_release = {"state": "ready", "source-date-epoch": 0, "dependencies": [], "lifecycle": "production"}
    jsonschema.validate(
        known | {name: of_a_release[name] for name in of_a_release.keys() & schema["properties"]}, schema
    )


def test_airflow_has_the_hook() -> None:
    info = registered_hook("earthengine")
    assert info.hook_class_name == f"{EarthEngineOperationsHook.__module__}.{EarthEngineOperationsHook.__name__}"
    assert (info.connection_id_attribute_name, info.hook_name) == ("earthengine_conn_id", "Google Earth Engine")
    assert info.connection_testable


def test_the_hook_has_the_attributes_of_a_hook() -> None:
    hook = EarthEngineOperationsHook
    assert issubclass(hook, BaseHook)
    assert (hook.conn_name_attr, hook.default_conn_name, hook.conn_type, hook.hook_name) == (
        "earthengine_conn_id",
        "earthengine_default",
        "earthengine",
        "Google Earth Engine",
    )
    assert hook.conn_name_attr in inspect.signature(hook.__init__).parameters


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("hooks", ["earthengine", "earthengine_conn_id", "Google Earth Engine"]),
        ("links", get_provider_info()["extra-links"]),
        ("notifications", get_provider_info()["notifications"]),
        ("triggers", ["airflow_provider_eeops.triggers.operations"]),
        ("list", ["airflow-provider-eeops", airflow_provider_eeops.__version__]),
    ],
)
def test_what_airflow_providers_prints(
    listing: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    arguments = cli_parser.get_parser().parse_args(["providers", listing, "--output", "plain"])
    arguments.func(arguments)
    printed = capsys.readouterr().out
    assert [word for word in expected if word not in printed] == []
