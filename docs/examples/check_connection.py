"""Test the connection where tasks run: with a worker's identity and network."""

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

with DAG("check_connection", schedule=None):

    @task
    def check() -> str:
        good, message = EarthEngineOperationsHook().test_connection()
        if not good:
            raise RuntimeError(message)
        return message

    check()
