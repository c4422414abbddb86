"""The export operator with exports that Google's own client made, against the emulator, in a process of their own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ee") is None, reason="earthengine-api is not installed")

CODE = """
import json
import warnings
warnings.simplefilter("ignore")
import ee
from airflow_provider_eeops.operators.exports import EarthEngineExportOperator
from tests.support.task_instance import FakeTaskInstance

def exports():
    region = ee.Geometry.Rectangle([0, 0, 1, 1])
    image = ee.Image(1).addBands(ee.Image.constant(2).add(3)).rename(["a", "b"])
    table = ee.FeatureCollection([ee.Feature(region, {"a": ee.Number(1).add(2)})])
    export = ee.batch.Export
    ee.data.setDefaultWorkloadTag("nightly")
    return [
        export.image.toCloudStorage(image, description="image", bucket="bucket", region=region, scale=1000),
        [export.image.toDrive(image, description="drive", region=region, scale=1000)],
        export.image.toAsset(image, "asset", "projects/one/assets/a", region=region, scale=1000),
        export.table.toCloudStorage(table, description="table", bucket="bucket"),
        export.map.toCloudStorage(
            image.select("a").visualize(), description="map", bucket="bucket", region=region, maxZoom=2),
        export.video.toCloudStorage(
            ee.ImageCollection([image.visualize(), image.visualize()]), description="video", bucket="bucket",
            dimensions=64, framesPerSecond=1, region=region),
        export.classifier.toAsset(ee.Classifier.smileCart(), "classifier", "projects/one/assets/c"),
    ]

ti = FakeTaskInstance()
made = EarthEngineExportOperator(
    task_id="task", python_callable=exports, project_id="one", poll_interval=0.02, deferrable=False)
rows = made.execute({"ti": ti})
print(json.dumps([rows, ti.xcom_pull(key="earthengine_operations")]))
"""


def test_every_kind_of_export_is_started_as_the_client_would(tmp_path: Path) -> None:
    emulator = Emulator(projects=("one",), pending_seconds=0, run_seconds=0)
    with EmulatorServer(emulator) as server:
        connection = {
            "conn_type": "earthengine",
            "extra": {"base_url": server.base_url, "keyfile_dict": server.service_account_info()},
        }
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={
                **{name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
                "HOME": str(tmp_path),
                "AIRFLOW_HOME": str(tmp_path),
                "AIRFLOW_CONN_EARTHENGINE_DEFAULT": json.dumps(connection),
                "PYTHONPATH": str(Path.cwd()),
                "https_proxy": "http://127.0.0.1:9",  # whatever else the client asks for fails at once
                "no_proxy": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    rows, recorded = json.loads(done.stdout.splitlines()[-1])
    assert [row["description"] for row in rows] == ["image", "drive", "asset", "table", "map", "video", "classifier"]
    assert {row["state"] for row in rows} == {"SUCCEEDED"}
    assert [row["name"] for row in rows] == recorded
    sent = {record.body["description"]: record for record in emulator.requests if record.method == "export"}
    assert [sent[row["description"]].path.rpartition("/")[2] for row in rows] == [
        "image:export",
        "image:export",
        "image:export",
        "table:export",
        "map:export",
        "video:export",
        "classifier:export",
    ]
    assert {record.body["workloadTag"] for record in sent.values()} == {"nightly"}
    assert all(set(record.body["expression"]) == {"result", "values"} for record in sent.values())
    assert len({record.body["requestId"] for record in sent.values()}) == 7
    assert rows[0]["destination_uris"] == ["https://console.developers.google.com/storage/browser/bucket/image"]
