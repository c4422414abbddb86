"""What Airflow reads before it imports anything else of this package. Nothing here imports Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_eeops import __version__
from airflow_provider_eeops.api.settings import FIELDS

__all__ = ["UI_FIELD_BEHAVIOUR", "get_provider_info"]

_INTEGRATION = "Google Earth Engine"

_MODULES = {
    "hooks": ("operations",),
    "operators": ("operations", "exports"),
    "sensors": ("operations",),
    "triggers": ("operations",),
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["host", "schema", "login", "password"],
    # Nothing reads it. The page of Airflow 3.3.1 and 3.3.2 tests no connection without one: it sends 0 for none, which
    # the API takes for another server's, see https://github.com/apache/airflow/pull/73298.
    "relabeling": {"port": "Port (not used)"},
    "placeholders": {"port": "0, if Test says Bad Request"},
}
"""What the form hides and relabels: all is in the extras."""


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, see Airflow's ``provider_info.schema.json``."""
    package = "airflow_provider_eeops"
    return {
        "package-name": "airflow-provider-eeops",
        "name": "Google Earth Engine operations",
        "description": "Cancels Google Earth Engine's long-running operations and says what became of each.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://developers.google.com/earth-engine/reference/rest/v1alpha/projects.operations",
                "tags": ["google"],
            }
        ],
        **{
            kind: [
                {"integration-name": _INTEGRATION, "python-modules": [f"{package}.{kind}.{each}" for each in modules]}
            ]
            for kind, modules in _MODULES.items()
        },
        "task-decorators": [
            {"class-name": f"{package}.decorators.exports.earthengine_task", "name": "earthengine"},
        ],
        "notifications": [f"{package}.notifications.operations.EarthEngineCancelOperationsNotifier"],
        "extra-links": [
            f"{package}.links.EarthEngineTasksLink",
            f"{package}.links.EarthEngineTaskManagerLink",
        ],
        "cli": [f"{package}.cli.definition.get_cli_commands"],
        "connection-types": [
            {
                "connection-type": "earthengine",
                "hook-class-name": f"{package}.hooks.operations.EarthEngineOperationsHook",
                "hook-name": "Google Earth Engine",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": {
                    field.name: {
                        "label": field.label,
                        "description": field.description,
                        "schema": dict(field.schema),
                    }
                    for field in FIELDS
                },
            }
        ],
    }
