"""``@task.earthengine``: a function that returns exports, as a task that owns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from airflow_provider_eeops.operators.exports import EarthEngineExportOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

__all__ = ["earthengine_task"]


class _EarthEngineDecoratedOperator(DecoratedOperator, EarthEngineExportOperator):
    """The operator behind the decorator."""

    template_fields: Sequence[str] = EarthEngineExportOperator.template_fields
    template_fields_renderers: ClassVar[dict[str, str]] = EarthEngineExportOperator.template_fields_renderers
    custom_operator_name: str = "@task.earthengine"

    def __init__(self, *, python_callable: Callable[..., Any], op_args: Any, op_kwargs: Any, **kwargs: Any) -> None:
        upstream = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(
            kwargs_to_upstream=upstream, python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs
        )

    def xcom_push(self, context: Context, key: str, value: Any) -> None:
        """Push; Airflow 3.0's decorated operators ask for this method, which its operators do not have."""
        context["ti"].xcom_push(key=key, value=value)


def earthengine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function that returns exports: it starts them, waits for them, and owns them until they end.

    ::

        @task.earthengine(earthengine_conn_id="earthengine_default", deferrable=True)
        def export_ndvi(month: str):
            return [ee.batch.Export.image.toCloudStorage(...), ...]

    :param python_callable: the function.
    :param kwargs: parameters of
        :class:`~airflow_provider_eeops.operators.exports.EarthEngineExportOperator`, and of any operator.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_EarthEngineDecoratedOperator, **kwargs
    )
