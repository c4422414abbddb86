"""Cancel what runs for too long or uses too much."""

import time
from datetime import UTC, datetime, timedelta

import ee

MOST_EECU_SECONDS = 100 * 3600
LONGEST = timedelta(minutes=240)

ee.Initialize(project="my-project")

while True:
    for operation in ee.data.listOperations():
        metadata = operation["metadata"]
        if metadata["state"] != "RUNNING":
            continue
        running = datetime.now(UTC) - datetime.fromisoformat(metadata["startTime"])
        if metadata.get("batchEecuUsageSeconds", 0) > MOST_EECU_SECONDS or running > LONGEST:
            ee.data.cancelOperation(operation["name"])
    time.sleep(10)
