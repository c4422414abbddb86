"""The two forms of a connection, Airflow 3.2's and the one before it, are one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from airflow_provider_eeops.api.settings import FIELDS, STAND_IN_OF_FORM, Settings
from airflow_provider_eeops.get_provider_info import get_provider_info
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

NAMES = [field.name for field in FIELDS]
HAS_WTFORMS = find_spec("wtforms") is not None and find_spec("flask_appbuilder") is not None


class Shown(NamedTuple):
    """What a form shows of a field."""

    label: str
    description: str
    kind: str
    default: Any
    choices: tuple[str, ...]
    is_secret: bool


def of_metadata(about: Mapping[str, Any]) -> Shown:
    """As Airflow 3.2 and later read the provider's metadata; before, a number may be typed as text."""
    schema = about["schema"]
    kind, null = schema["type"]
    assert null == "null", "a field that must be filled in"
    kind = "string" if kind == "number" else kind
    choices, is_secret = tuple(schema.get("enum", ())), schema.get("format") == "password"
    return Shown(about["label"], about["description"], kind, schema.get("default"), choices, is_secret)


def of_stand_in(widget: Any) -> Shown:
    """As Airflow 3.0 and 3.1 read its stand-ins."""
    dumped = widget.param.dump()
    return of_metadata(
        {
            "label": dumped["schema"]["title"],
            "description": dumped["description"],
            "schema": {**dumped["schema"], "default": dumped["value"]},
        }
    )


def of_wtforms(widget: Any) -> Shown:
    """As Airflow 2 takes a field of wtforms."""
    kinds = {"BooleanField": "boolean", "IntegerField": "integer", "PasswordField": "string", "StringField": "string"}
    choices = [one.values for one in widget.kwargs.get("validators", ()) if type(one).__name__ == "AnyOf"]
    return Shown(
        widget.args[0],
        widget.kwargs["description"],
        kinds[widget.field_class.__name__],
        widget.kwargs["default"],
        tuple(choices[0]) if choices else (),
        widget.field_class.widget.input_type == "password",
    )


@pytest.fixture
def legacy(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Shown]]:
    """What the form before Airflow 3.2 shows: with wtforms where it is there, with Airflow's stand-ins elsewhere."""
    if HAS_WTFORMS:
        yield {name: of_wtforms(each) for name, each in EarthEngineOperationsHook.get_connection_form_widgets().items()}
        return
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    stand_ins: dict[str, dict[str, Any]] = {
        "wtforms": {
            "BooleanField": HookMetaService.MockBooleanField,
            "IntegerField": HookMetaService.MockIntegerField,
            "PasswordField": HookMetaService.MockPasswordField,
            "StringField": HookMetaService.MockStringField,
        },
        "wtforms.validators": {"Optional": HookMetaService.MockOptional, "any_of": HookMetaService.MockEnum},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {
            "BS3PasswordFieldWidget": HookMetaService.MockAnyWidget,
            "BS3TextFieldWidget": HookMetaService.MockAnyWidget,
        },
    }
    for name, members in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    yield {name: of_stand_in(each) for name, each in EarthEngineOperationsHook.get_connection_form_widgets().items()}


@pytest.fixture
def modern() -> dict[str, Shown]:
    """What the form of Airflow 3.2 and later shows."""
    (connection_type,) = get_provider_info()["connection-types"]
    return {name: of_metadata(each) for name, each in connection_type["conn-fields"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_show_the_same_of_a_field(name: str, legacy: dict[str, Shown], modern: dict[str, Shown]) -> None:
    assert legacy[name] == modern[name]


def test_both_forms_have_all_fields_in_the_same_order(legacy: dict[str, Shown], modern: dict[str, Shown]) -> None:
    assert list(legacy) == list(modern) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_label_and_help(name: str, modern: dict[str, Shown]) -> None:
    shown = modern[name]
    assert shown.label[0].isupper()
    assert shown.description.endswith(".")


def test_what_may_be_secret_is_masked_and_nothing_else(legacy: dict[str, Shown], modern: dict[str, Shown]) -> None:
    secret = {field.name for field in fields(Settings) if not field.repr}
    for form in (legacy, modern):
        assert {name for name, shown in form.items() if shown.is_secret} == secret


def test_both_forms_hide_the_same() -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    behaviour = connection_type["ui-field-behaviour"]
    assert EarthEngineOperationsHook.get_ui_field_behaviour() == {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }


def test_a_form_that_nobody_filled_in_says_nothing(legacy: dict[str, Shown], modern: dict[str, Shown]) -> None:
    for form in (legacy, modern):
        for empty in (None, ""):
            extras = {name: empty if shown.default is None else shown.default for name, shown in form.items()}
            assert Settings.from_extras(extras) == Settings()


@pytest.mark.parametrize(
    "name",
    ["scope", "num_retries", "api_version", "base_url", "requests_per_second", "connect_timeout", "read_timeout"],
)
def test_the_help_names_the_default(name: str, modern: dict[str, Shown]) -> None:
    default = getattr(Settings(), name)
    if isinstance(default, tuple):
        default = default[0].rsplit("/", 1)[1]
    said = f"{default:g}" if isinstance(default, float) else default
    assert f"Default: {said}" in modern[name].description


def test_the_hook_and_its_form_import_no_web_framework() -> None:
    code = """
import sys
from airflow.providers.common.compat.sdk import BaseHook
for name in ("flask", "flask_appbuilder", "flask_babel", "wtforms"):
    sys.modules[name] = None
import airflow_provider_eeops.hooks.operations, airflow_provider_eeops.forms
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)


def test_airflow_finds_the_form_without_a_deprecation_warning() -> None:
    code = """
import json, sys, warnings
from unittest.mock import MagicMock
from airflow.exceptions import AirflowProviderDeprecationWarning
from airflow.providers_manager import ProvidersManager
reads_metadata = hasattr(ProvidersManager, "_load_ui_metadata")
if reads_metadata:  # or else it asks the hook, which it warns of
    web = ("flask_appbuilder", "flask_appbuilder.fieldwidgets", "wtforms", "wtforms.validators")
    sys.modules.update(dict.fromkeys(web, MagicMock()))
manager = ProvidersManager()
with warnings.catch_warnings(record=True) as met:
    warnings.simplefilter("always")
    hook = manager.hooks["earthengine"]
    widgets = manager.connection_form_widgets
    list(manager._hooks_lazy_dict.values())
ours = [each for name, each in widgets.items() if "__earthengine__" in name]
print()
print(json.dumps({
    "hook": [hook.hook_name, hook.connection_testable],
    "reads_metadata": reads_metadata,
    "fields": [each.field_name for each in ours],
    "secret": [each.field_name for each in ours if each.is_sensitive],
    "met": [str(each.message) for each in met if issubclass(each.category, AirflowProviderDeprecationWarning)],
}))
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["hook"] == ["Google Earth Engine", True]
    assert [warning for warning in found["met"] if "airflow_provider_eeops" in warning] == []
    # Airflow 3.0 and 3.1 make their stand-ins elsewhere.
    assert found["fields"] == (NAMES if found["reads_metadata"] or HAS_WTFORMS else [])
    assert found["secret"] == [field.name for field in FIELDS if field.is_secret and found["fields"]]


@pytest.mark.skipif(not HAS_WTFORMS, reason="Airflow 2's form is made with wtforms")
@pytest.mark.parametrize(
    ("sent", "stored", "shown"),
    [
        (None, None, ""),
        (None, "a secret", STAND_IN_OF_FORM),
        (None, {"private_key": "a secret"}, STAND_IN_OF_FORM),
        (STAND_IN_OF_FORM, None, STAND_IN_OF_FORM),
        ("another secret", None, ""),
    ],
)
def test_the_form_of_airflow_2_keeps_a_stored_secret_and_shows_none(sent: str | None, stored: Any, shown: str) -> None:
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    class Connection(Form):  # type: ignore[misc]
        keyfile_dict = EarthEngineOperationsHook.get_connection_form_widgets()["keyfile_dict"]

    form = Connection(MultiDict() if sent is None else MultiDict({"keyfile_dict": sent}))
    if stored is not None:
        form.keyfile_dict.data = stored
    html = str(form.keyfile_dict())
    assert f'value="{shown}"' in html
    assert "a secret" not in html
    assert "another" not in html
