"""Which call of the API a request is: a pure function of the HTTP method and the path."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

__all__ = ["CONTROL_PREFIX", "STARTED_TYPES", "VERSIONS", "Call", "match"]

VERSIONS: Final = ("v1", "v1alpha", "v1beta")

CONTROL_PREFIX: Final = "/emulator/"

# What each export or import starts.
STARTED_TYPES: Final = {
    "image:export": "EXPORT_IMAGE",
    "table:export": "EXPORT_FEATURES",
    "video:export": "EXPORT_VIDEO",
    "map:export": "EXPORT_TILES",
    "videoMap:export": "EXPORT_VIDEO",
    "classifier:export": "EXPORT_CLASSIFIER",
    "image:import": "INGEST_IMAGE",
    "table:import": "INGEST_TABLE",
}

_IN_PROJECT = re.compile(rf"/(?P<version>{'|'.join(VERSIONS)})/projects/(?P<project>[^/:]+)/(?P<rest>.+)", re.DOTALL)
_IMPERSONATE = re.compile(r"serviceAccounts/(?P<email>[^/:]+):generateAccessToken")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    :param method: as in the request log
    :param name: the operation, or for `impersonate` the service account
    :param kind: for `export`, which one: a key of STARTED_TYPES
    """

    method: str
    version: str = ""
    project: str = ""
    name: str | None = None
    kind: str = ""


_OF_OPERATION = {("GET", ""): "get", ("DELETE", ""): "delete", ("POST", "cancel"): "cancel", ("POST", "wait"): "wait"}
_OF_PROJECT = {("GET", "operations"): "list", ("GET", "algorithms"): "algorithms"}
_OTHER = Call("other")
_FIXED = {
    ("POST", "/token"): Call("token"),
    ("POST", "/v1/token"): Call("sts"),
    ("GET", "/$discovery/rest"): Call("discovery"),
}


def match(verb: str, raw_path: str) -> Call:
    """Call that a request is; `other` if none.

    :param raw_path: path without the query, still percent-encoded
    """
    path = unquote(raw_path)
    in_project = _IN_PROJECT.fullmatch(path)
    if in_project is not None:
        return _in_project(verb, *in_project.group("version", "project", "rest"))
    return _FIXED.get((verb, path), _OTHER)


def _in_project(verb: str, version: str, project: str, rest: str) -> Call:
    if rest.startswith("operations/"):
        return _on_operation(verb, version, project, rest)
    impersonate = _IMPERSONATE.fullmatch(rest)
    if project == "-" and impersonate is not None and verb == "POST":
        return Call("impersonate", version, name=impersonate["email"])
    if verb == "POST" and rest in STARTED_TYPES:
        return Call("export", version, project, kind=rest)
    method = _OF_PROJECT.get((verb, rest))
    return _OTHER if method is None else Call(method, version, project)


def _on_operation(verb: str, version: str, project: str, rest: str) -> Call:
    verb_of_path = ""
    if verb == "POST":
        rest, _, verb_of_path = rest.rpartition(":")
    method = _OF_OPERATION.get((verb, verb_of_path))
    if method is None or "" in rest.split("/"):
        return _OTHER
    return Call(method, version, project, f"projects/{project}/{rest}")
