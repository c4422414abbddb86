"""Cancel what has not ended."""

import ee

ee.Initialize(project="my-project")

for operation in ee.data.listOperations():
    if operation["metadata"]["state"] in {"PENDING", "RUNNING"}:
        ee.data.cancelOperation(operation["name"])
        print("cancelled", operation["name"])
