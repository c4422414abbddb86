"""The same as example_export_after without this package: what a pipeline has to do by itself."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseHook, get_current_context, task
from exports import make_export

LIVE = {"PENDING", "RUNNING", "CANCELLING", "SUCCEEDED"}


# [START before]
def initialized() -> Any:
    import ee
    from google.oauth2 import service_account

    extras = BaseHook.get_connection("earthengine_default").extra_dejson
    key = service_account.Credentials.from_service_account_file(extras["key_path"])
    credentials = key.with_scopes(["https://www.googleapis.com/auth/earthengine"])
    ee.Initialize(credentials, project=extras["project"], url=extras.get("base_url"))
    return ee


def of_this_run(ee: Any) -> list[dict[str, Any]]:
    mark = f" {get_current_context()['run_id']}"
    return [op for op in ee.data.listOperations() if op["metadata"].get("description", "").endswith(mark)]


with DAG("example_export_by_hand", schedule=None):

    @task(retries=2)
    def start() -> list[str]:
        ee = initialized()
        known = {op["metadata"]["description"]: op for op in of_this_run(ee) if op["metadata"]["state"] in LIVE}
        names = []
        for month in range(1, 4):
            description = f"by-hand-{month} {get_current_context()['run_id']}"
            if description in known:  # of an earlier try
                names.append(known[description]["name"])
                continue
            exported = make_export(description)
            exported.start()  # if its answer is lost, the next try may start it again
            names.append(exported.operation_name)
        return names

    @task.sensor(mode="reschedule", poke_interval=10, timeout=3600)
    def wait(names: list[str]) -> bool:
        operations = [initialized().data.getOperation(name) for name in names]
        failed = [op["error"]["message"] for op in operations if "error" in op]
        if failed:
            raise AirflowFailException("; ".join(failed))
        return all(op.get("done") for op in operations)

    @task(retries=5)
    def cancel() -> None:
        ee = initialized()
        for op in of_this_run(ee):
            if not op.get("done"):
                ee.data.cancelOperation(op["name"])

    waited = wait(start())  # type: ignore[arg-type]
    waited >> cancel().as_teardown()
# [END before]
