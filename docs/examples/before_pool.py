"""Cancel many at once."""

import sys
from multiprocessing import Pool

import ee


def initialize() -> None:
    ee.Initialize(project="my-project")


def cancel(task_id: str) -> str:
    ee.data.cancelOperation(f"projects/my-project/operations/{task_id}")
    return task_id


if __name__ == "__main__":
    ids = sys.argv[1:]
    with Pool(4, initializer=initialize) as pool:  # each process for itself: forked ones would share connections
        for done, task_id in enumerate(pool.imap(cancel, ids), start=1):
            print(f"{done}/{len(ids)} {task_id}")
