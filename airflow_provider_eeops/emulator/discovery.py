"""The documents that Google's own client asks for first, read from the earthengine-api package."""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.routes import VERSIONS

__all__ = ["algorithms", "discovery_document"]

_WRITTEN_FOR = "v1alpha"


def discovery_document(version: str, base_url: str) -> bytes:
    """Discovery document of one API version, pointing at this server.

    :raises ApiError: if there is no such version, or the earthengine-api package is absent
    """
    if version not in VERSIONS:
        raise ApiError(404, f"Discovery document not found for the Earth Engine API, version {version!r}.")
    document = json.loads(_read("cloud_api_discovery_document.json").replace(b"v1alpha/", f"{version}/".encode()))
    document |= {
        "version": version,
        "id": document["id"].replace(_WRITTEN_FOR, version),
        "rootUrl": f"{base_url}/",
        "baseUrl": f"{base_url}/",
    }
    return json.dumps(document).encode()


def algorithms() -> bytes:
    """Catalogue of Earth Engine's algorithms.

    :raises ApiError: if the earthengine-api package is absent
    """
    return _read("algorithms.json")


@functools.cache
def _read(file_name: str) -> bytes:
    folder = _package_folder()
    file = None if folder is None else folder / "tests" / file_name
    if file is None or not file.is_file():
        raise ApiError(501, f"{file_name} is in the earthengine-api package: pip install earthengine-api")
    return file.read_bytes()


def _package_folder() -> Path | None:
    spec: Any = importlib.util.find_spec("ee")  # found, not imported: importing it costs a second
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
