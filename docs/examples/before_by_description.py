"""Cancel by description."""

import re

import ee

PATTERN = re.compile(r"nightly-\d{4}")

ee.Initialize(project="my-project")

for operation in ee.data.listOperations():
    metadata = operation["metadata"]
    if metadata["state"] in {"PENDING", "RUNNING"} and PATTERN.match(metadata.get("description", "")):
        ee.data.cancelOperation(operation["name"])
