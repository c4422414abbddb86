"""The connection's form as Airflow before 3.2 asks a hook for it. Later ones read the provider's metadata."""

from __future__ import annotations

from typing import Any

from airflow_provider_eeops.api.settings import FIELDS, STAND_IN_OF_FORM, ConnectionField
from airflow_provider_eeops.get_provider_info import UI_FIELD_BEHAVIOUR

__all__ = ["connection_form_widgets", "ui_field_behaviour"]


def connection_form_widgets() -> dict[str, Any]:
    """Return a widget for each parameter of the connection, by name.

    Airflow 2 shows them as they are; Airflow 3.0 and 3.1 put stand-ins in place of wtforms, and read those.

    :raises ImportError: there is no wtforms or Flask-AppBuilder: Airflow 3.0 shows no fields then.
    """
    return {field.name: _widget(field) for field in FIELDS}


def _widget(field: ConnectionField) -> Any:
    # From these modules alone, as it is there that Airflow puts the stand-ins; and of these classes, no others.
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    about: dict[str, Any] = {"description": field.description, "default": field.default}
    if "boolean" in field.types:
        return BooleanField(field.label, **about)
    about["validators"] = [Optional(), *([any_of(field.choices)] if field.choices else [])]
    if field.is_secret:
        return PasswordField(field.label, widget=_secret_widget(), **about)
    # A number with a fraction is text here, and is read as well.
    kind = IntegerField if "integer" in field.types else StringField
    return kind(field.label, widget=BS3TextFieldWidget(), **about)


def _secret_widget() -> Any:
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget

    class StoredSecretWidget(BS3PasswordFieldWidget):  # type: ignore[misc]
        """Shows that a secret is stored, and has it kept: left empty in Airflow 2's form, it would be deleted."""

        def __call__(self, field: Any, **kwargs: Any) -> Any:
            is_kept = field.raw_data == [STAND_IN_OF_FORM] if field.raw_data else bool(field.data)
            self.hide_value = False
            return super().__call__(field, value=STAND_IN_OF_FORM if is_kept else "", **kwargs)

    return StoredSecretWidget()


def ui_field_behaviour() -> dict[str, Any]:
    """Return what the form hides and relabels, in a hook's spelling."""
    return {name.replace("-", "_"): value.copy() for name, value in UI_FIELD_BEHAVIOUR.items()}
