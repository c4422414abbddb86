"""What a callable returns -> the exports to start, and the operations that were started already.

Google's client is the user's dependency: an ``ee.batch.Task`` is told by its shape, and of the client only what made
that task is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_eeops.api.ee_state import initialized_project, load_ee
from airflow_provider_eeops.api.names import operation_id
from airflow_provider_eeops.exceptions import InvalidInputError

__all__ = ["METHODS", "Export", "exports_in"]

METHODS: Mapping[str, str] = {
    "EXPORT_CLASSIFIER": "classifier:export",
    "EXPORT_FEATURES": "table:export",
    "EXPORT_IMAGE": "image:export",
    "EXPORT_TILES": "map:export",
    "EXPORT_VIDEO": "video:export",
}
"""The API's method for each type of task."""

_SHOWN = 80


@dataclass(frozen=True, eq=False)
class Export:
    """An export that was not started.

    :param type: such as ``EXPORT_IMAGE``; its operation has the same.
    :param description: the user's description.
    :param config: the body of the request, but that ``expression`` may be an object of Google's client.
    :param workload_tag: tag for a body that has none.
    :param task: the ``ee.batch.Task`` it was read from.
    """

    type: str
    description: str
    config: Mapping[str, Any] = field(repr=False)
    workload_tag: Any = None
    task: Any = field(default=None, repr=False)

    @classmethod
    def from_task(cls, task: Any) -> Export:
        """Read an ``ee.batch.Task`` that was not started.

        :param task: the task.
        :raises InvalidInputError: it holds nothing that can be started.
        """
        config = getattr(task, "config", None)
        type_ = str(getattr(task.task_type, "value", task.task_type))
        if not isinstance(config, Mapping) or not config:
            raise InvalidInputError(
                f"an Earth Engine task of type {type_[:_SHOWN]} has no config to start it with: make it with"
                " ee.batch.Export"
            )
        description = str(config.get("description") or "")
        if type_ not in METHODS:
            raise InvalidInputError(
                f"the Earth Engine task {description[:_SHOWN]!r} is of type {type_[:_SHOWN]!r}: what can be started is"
                f" of type {', '.join(METHODS)}"
            )
        return cls(type_, description, config, getattr(task, "workload_tag", None), task)

    @property
    def method(self) -> str:
        """The API's method that starts it, such as ``image:export``."""
        return METHODS[self.type]

    def body(self) -> dict[str, Any]:
        """Make the body of the request; made anew each time, as the expressions of thousands are large.

        :raises InvalidInputError: Google's client cannot encode the expression.
        """
        body = dict(self.config)
        tag = body.pop("workloadTag", None) or self.workload_tag
        if tag:
            body["workloadTag"] = tag
        expression = body.get("expression")
        if expression is not None and not isinstance(expression, Mapping):
            try:
                body["expression"] = load_ee().serializer.encode(expression, for_cloud_api=True)
            except Exception as error:
                raise InvalidInputError(
                    f"the expression of the export {self.description[:_SHOWN]!r} cannot be encoded:"
                    f" {type(error).__name__}: {error}"
                ) from error
        return body

    def started_as(self, name: str) -> None:
        """Let the user's task know its operation, as ``start()`` would.

        :param name: operation name.
        """
        if self.task is not None:
            self.task.id = operation_id(name)
            self.task.name = name


def exports_in(in_order: Sequence[Any], *, project_id: str | None) -> list[Export | str]:
    """Read what a callable returned: exports to start, and names of operations.

    :param in_order: names and tasks that were not started, as the parser of names finds them.
    :param project_id: project that the exports are to be started in.
    :raises InvalidInputError: one cannot be started, or not there; nothing was started.
    """
    read: list[Export | str] = [each if isinstance(each, str) else Export.from_task(each) for each in in_order]
    first = next((each for each in read if isinstance(each, Export)), None)
    if first is None:
        return read
    if not project_id:
        raise InvalidInputError(
            f"the export {first.description[:_SHOWN]!r} needs a project to be started in: pass project_id, or set"
            " 'project' in the connection"
        )
    made_in = initialized_project()
    if made_in is not None and made_in != project_id:
        raise InvalidInputError(
            f"the export {first.description[:_SHOWN]!r} was made with Earth Engine initialised for project {made_in},"
            f" and this task starts exports in project {project_id}: nothing was started. Pass"
            f" project_id={made_in!r}, or initialise Earth Engine for {project_id}"
        )
    return read
