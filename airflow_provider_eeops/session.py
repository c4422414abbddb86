"""Google's own client, ``ee``, with an Airflow connection.

::

    with earthengine_session("earthengine_default"):
        size = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").size().getInfo()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow_provider_eeops.api.ee_state import initialized
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.masking import Masking

__all__ = ["earthengine_session", "session_of"]


@contextmanager
def earthengine_session(
    earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
    *,
    project_id: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
) -> Iterator[EarthEngineOperationsHook]:
    """Have ``ee`` initialised with an Airflow connection in a block, and reset after it.

    One project, host and identity at a time: ``ee`` has one of each in a process. In the block, a session for the same
    may begin again; one for another is refused. One after the other, a process may have any. If ``ee.Initialize`` was
    called for the same project and host before, it is left as it is; for another, the session is refused.

    ``ee`` uses the connection's proxies, CA certificates and connect timeout, and waits 330 s at most for an answer, or
    the connection's read timeout if that is longer; ``ee.data.setDeadline`` changes nothing in it.

    :param earthengine_conn_id: id of the connection.
    :param project_id: project that is asked. Default: the connection's, else the credentials'.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    :raises InvalidInputError: ``earthengine-api`` is not installed, there is no project, or ``ee`` is in use for
        another one.
    :raises CredentialsError: there is no token for the credentials.
    """
    hook = EarthEngineOperationsHook(
        earthengine_conn_id, project_id=project_id, impersonation_chain=impersonation_chain
    )
    with hook, session_of(hook):
        yield hook


@contextmanager
def session_of(hook: EarthEngineOperationsHook) -> Iterator[None]:
    """Have ``ee`` initialised with a hook's connection in a block, as :func:`earthengine_session` does.

    :param hook: the hook.
    """
    masking = Masking()
    with initialized(hook.settings, hook.credentials, hook.project_id, on_secret=masking.learn):
        try:
            yield
        finally:
            masking.come_by()
