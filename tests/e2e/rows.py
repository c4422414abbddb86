"""The kill matrix: every way for a task to end badly, and every owner of operations for which it makes sense."""

from __future__ import annotations

import re

from tests.e2e import events
from tests.e2e.matrix import (
    DEFERRED,
    EXPORT,
    EXPORT_DEFERRED,
    HEARTBEAT,
    HEARTBEAT_TIMEOUT,
    OPERATOR,
    OPERATOR_DEFERRED,
    OWN_DEFERRED,
    SENSOR,
    TASK,
    Bound,
    Row,
)
from tests.e2e.starting import EXPORT_SECONDS
from tests.e2e.versions import LATER, TOLD, TOLD_BY

__all__ = [
    "ALL",
    "ASKING",
    "EXPORTS_WITHOUT_TRIGGERER",
    "ROWS",
    "WHILE_API_SERVER_STOPPED",
    "WHILE_CANCEL_FAILS",
    "WHILE_SCHEDULER_STOPPED",
    "WITHOUT_TRIGGERER",
]

IN_PROCESS = Bound(5, "the task process itself, at once")
TIMER = Bound(5, "the task process itself, at once; counted from its first line")
KILLED = Bound(5 + TOLD, f"{TOLD_BY}, which then has 5 s")
SIGNALLED = Bound(5, "the signal tells the process, which then has 5 s")
LOOPED = Bound(5 + HEARTBEAT + TOLD, "as marked failed; six instances are marked one after the other")
TRIGGERER = Bound(10, "the triggerer notices within its loop of 1 s, and the work is detached")
NEXT_TRY_SEEN = Bound(30, "the trigger looks every 2 s until it sees what the next try owns")
CLEARED = Bound(30, "the trigger is told once the export has run again and the next try is scheduled")
DEADLINE = Bound(10 + LATER, "the trigger polls every 2 s, or a worker takes over from it")
DAG_TIMEOUT = Bound(10 + TOLD, "the scheduler looks at runs every few seconds, then as marked failed")
RESUMED = Bound(25, "the scheduler looks for it every 5 s, and a worker takes over")
CALLBACK = Bound(25, "the scheduler notices the end, and a child of the DAG processor parses the file and calls")
CLEANUP = Bound(30, "the scheduler notices the end and starts the cleanup task")
MENDED = Bound(60, "Earth Engine fails for about 10 s, and the cleanup task tries again some seconds apart")
SECOND = Bound(30, "retry_delay of 1 s, the scheduler starts the next try, whose tracker opens")
LOST = Bound(
    HEARTBEAT_TIMEOUT + 30, f"{HEARTBEAT_TIMEOUT} s without a heartbeat, looked for every 5 s, then a callback"
)
ALERT = Bound(20, "the scheduler looks for missed deadlines in its loop, and the triggerer calls")
POLLS = Bound(30, "two polls fail, each after a retry")
WAITED = Bound(90, "the wait ends when the operations do")
REGAINED = Bound(120, "a triggerer counts as lost after 10 s; then the wait ends when the operations do")
EXPORTED = Bound(EXPORT_SECONDS + 30, "the wait ends when the exports do")
AT_ONCE = Bound(5, "nothing is to come")

USE_RETRY_CALLBACK = "`on_retry_callback`, row 14b"
STARTS_AGAIN = "nothing: they are cancelled, and the next try starts them again"
USE_LOST_WORKER = "a teardown, row 13b, or `on_failure_callback`, row 15: they come when the task has ended"

WORKER = ("worker",)
TRIGGER = ("trigger", "triggerer")
EITHER = ("trigger", "triggerer", "worker")
PROCESSOR = ("DAG processor",)
TAKEN_OVER = ("worker (cleanup, try 1)",)

REFUSED = {"method": "cancel", "status": 503, "times": None}
HELD = {"method": "cancel", "action": "hang", "seconds": 6, "times": None}
BROKEN = {"method": "cancel", "action": "reset_before", "times": None}
UNSEEN = {"method": "get", "status": 503, "times": None}

ROWS = [
    Row("1", TASK, "exception in the task", "tracked", events.operations_started, IN_PROCESS, do="raise"),
    Row("2", TASK, "execution_timeout, running", "tracked_execution_timeout", events.seconds_of_execution(8), TIMER),
    Row("2", SENSOR, "execution_timeout, running", "sensor_execution_timeout", events.seconds_of_execution(15), TIMER),
    Row(
        *("3", TASK, "execution_timeout with a retry left", "tracked_execution_timeout_retry"),
        *(events.seconds_of_execution(8), TIMER),
        ends="success",
        next_try=True,
    ),
    Row("4", TASK, "marked failed while running", "tracked", events.marked_failed, KILLED),
    Row("4", SENSOR, "marked failed while running", "sensor", events.marked_failed, KILLED),
    Row(
        *("4", OPERATOR, "marked failed while it waits", "operator", events.marked_failed, KILLED),
        operation={"cancel_seconds": 15},
    ),
    Row(
        *("5", TASK, "cleared while running; the next try starts at once", "tracked", events.cleared("work"), KILLED),
        ends="success",
        next_try=True,
    ),
    Row(
        *("5", SENSOR, "cleared while running, the export along with it", "sensor_after_export"),
        *(events.cleared("export", "work"), KILLED),
        task="export",
        ends=None,
        next_try=True,
    ),
    Row("6", TASK, "DAG run marked failed, running", "tracked", events.run_marked_failed, KILLED),
    Row("6", SENSOR, "DAG run marked failed, running", "sensor", events.run_marked_failed, KILLED),
    Row("6", DEFERRED, "DAG run marked failed, deferred", "deferred", events.run_marked_failed, TRIGGERER, TRIGGER),
    Row(
        *("7", TASK, "dagrun_timeout, running", "tracked_dagrun_timeout", events.dagrun_timeout(30), DAG_TIMEOUT),
        ends="skipped",
    ),
    Row(
        *("7", SENSOR, "dagrun_timeout, running", "sensor_dagrun_timeout", events.dagrun_timeout(30), DAG_TIMEOUT),
        ends="skipped",
    ),
    Row(
        *("7", DEFERRED, "dagrun_timeout, deferred", "deferred_dagrun_timeout"),
        *(events.dagrun_timeout(30), DAG_TIMEOUT, TRIGGER),
        ends="skipped",
    ),
    Row("8a", DEFERRED, "marked failed", "deferred", events.marked_failed, TRIGGERER, TRIGGER),
    Row("8b", DEFERRED, "marked success", "deferred", events.marked_success, TRIGGERER, TRIGGER, ends="success"),
    Row(
        *("8c", DEFERRED, "cleared, the export along with it", "deferred_after_export"),
        *(events.cleared("export", "work"), CLEARED, TRIGGER),
        task="export",
        ends=None,
        next_try=True,
    ),
    Row(
        *("8d", DEFERRED, "cleared alone: the next try waits on the same operations", "deferred"),
        *(events.cleared("work"), WAITED),
        cancelled=False,
        operation={"run_seconds": 60},
        ends="success",
    ),
    Row(
        *("8e", OPERATOR_DEFERRED, "marked failed", "operator_deferred", events.marked_failed, TRIGGERER, TRIGGER),
        operation={"cancel_seconds": 15},
    ),
    Row(
        *("8f", OWN_DEFERRED, "cleared; the next try starts others and defers", "start_and_wait"),
        *(events.cleared("work"), NEXT_TRY_SEEN, TRIGGER),
        ends=None,
        next_try=True,
    ),
    Row(
        *("10", SENSOR, "own timeout, with cancel_on_timeout", "sensor_timeout_cancels"),
        *(events.seconds_of_execution(15), DEADLINE),
        says="Cancellation was requested: ",
    ),
    Row(
        *("10", DEFERRED, "own timeout, with cancel_on_timeout", "deferred_timeout_cancels"),
        *(events.seconds_of_execution(15), DEADLINE, EITHER),
        says="Cancellation was requested: ",
    ),
    Row(
        *("11", DEFERRED, "execution_timeout while deferred", "deferred_execution_timeout"),
        *(events.seconds_after_start(15), DEADLINE, EITHER),
    ),
    Row(
        *("12", DEFERRED, "Airflow's own deferral timeout wins, with cancel_on_timeout", "deferred_cancels"),
        *(events.deferral_timeout, RESUMED, EITHER),
    ),
    Row("13a", TASK, "SIGKILL, DAG-level callback", "dag_callback", events.sigkill, CALLBACK, PROCESSOR),
    Row("13b", TASK, "SIGKILL, all_done cleanup task", "tracked_cleanup", events.sigkill, CLEANUP, TAKEN_OVER),
    Row(
        *("14a", TASK, "SIGKILL, retry left", "tracked_retry", events.sigkill, SECOND, ("worker (work, try 2)",)),
        ends="success",
        next_try=True,
        since="3.3",
        instead=USE_RETRY_CALLBACK,
    ),
    Row(
        *("14b", TASK, "SIGKILL, retry left, on_retry_callback", "retry_callback", events.sigkill, CALLBACK, PROCESSOR),
        ends="success",
        next_try=True,
    ),
    Row(
        *("15", TASK, "supervisor and task SIGKILLed, heartbeat lost", "task_callback"),
        *(events.sigkill_with_supervisor, LOST, PROCESSOR),
    ),
    Row(
        *("16", TASK, "SIGTERM to the worker", "tracked", events.sigterm_to_worker, SIGNALLED),
        do="wait and look",
        since="3.3",
        instead=USE_LOST_WORKER,
        also=2,
    ),
    Row(
        *("16", SENSOR, "SIGTERM to the worker", "sensor", events.sigterm_to_worker, SIGNALLED),
        since="3.3",
        instead=USE_LOST_WORKER,
        also=2,
    ),
    Row(
        *("17", TASK, "Deadline Alert missed", "deadline", events.deadline(30), ALERT, ("triggerer",)),
        ends=None,
    ),
    Row(
        *("18", TASK, "one of 20 mapped instances fails", "mapped_callback", events.others_started(20), IN_PROCESS),
        do="fail one",
        conf={"failing": 19, "instances": 20},
        owned="1/19/",
        map_index=19,
    ),
    Row(
        *("21a", SENSOR, "polls fail until the limit", "sensor_polls_fail"),
        *(events.with_faults(events.none, **UNSEEN), POLLS),
        cancelled=False,
        says="503",
    ),
    Row(
        *("21a", DEFERRED, "polls fail until the limit", "deferred_polls_fail"),
        *(events.with_faults(events.none, **UNSEEN), POLLS),
        cancelled=False,
        says="503",
    ),
    Row(
        *("21b", SENSOR, "polls fail until the limit, with cancel_on_timeout", "sensor_polls_fail_cancels"),
        *(events.with_faults(events.none, **UNSEEN), POLLS, EITHER),
        says="Cancellation was requested: ",
    ),
    Row(
        *("21b", DEFERRED, "polls fail until the limit, with cancel_on_timeout", "deferred_polls_fail_cancels"),
        *(events.with_faults(events.none, **UNSEEN), POLLS, EITHER),
        says="Cancellation was requested: ",
    ),
    Row(
        *("22", TASK, "the task succeeds", "tracked", events.operations_started, AT_ONCE),
        do="succeed",
        cancelled=False,
        ends="success",
    ),
    Row(
        *("22", SENSOR, "the task succeeds", "sensor", events.none, WAITED),
        operation={"run_seconds": 50},
        cancelled=False,
        ends="success",
    ),
    Row(
        *("22", DEFERRED, "the task succeeds", "deferred", events.none, WAITED),
        operation={"run_seconds": 50},
        cancelled=False,
        ends="success",
    ),
]
"""Rows that run side by side."""

EXPORT_ROWS = [
    Row(
        *("2", EXPORT, "execution_timeout, running", "exporting_execution_timeout"),
        *(events.seconds_of_execution(15), TIMER),
    ),
    Row(
        *(
            "3",
            EXPORT,
            "execution_timeout with a retry left, which waits for them",
            "exporting_execution_timeout_retry",
        ),
        *(events.seconds_of_execution(70), EXPORTED),
        cancelled=False,
        ends="success",
        since="3.3",
        instead=STARTS_AGAIN,
    ),
    Row("4", EXPORT, "marked failed while running", "exporting", events.marked_failed, KILLED),
    Row(
        *(
            "5",
            EXPORT,
            "cleared while running; the next try starts at once",
            "exporting",
            events.cleared("work"),
            KILLED,
        ),
        ends=None,
        next_try=True,
    ),
    Row("6", EXPORT, "DAG run marked failed, running", "exporting", events.run_marked_failed, KILLED),
    Row(
        *("6", EXPORT_DEFERRED, "DAG run marked failed, deferred", "exporting_deferred"),
        *(events.run_marked_failed, TRIGGERER, TRIGGER),
    ),
    Row(
        *("7", EXPORT, "dagrun_timeout, running", "exporting_dagrun_timeout", events.dagrun_timeout(30), DAG_TIMEOUT),
        ends="skipped",
    ),
    Row(
        *("7", EXPORT_DEFERRED, "dagrun_timeout, deferred", "exporting_deferred_dagrun_timeout"),
        *(events.dagrun_timeout(30), DAG_TIMEOUT, TRIGGER),
        ends="skipped",
    ),
    Row("8a", EXPORT_DEFERRED, "marked failed", "exporting_deferred", events.marked_failed, TRIGGERER, TRIGGER),
    Row(
        *("8b", EXPORT_DEFERRED, "marked success", "exporting_deferred", events.marked_success, TRIGGERER, TRIGGER),
        ends="success",
    ),
    Row(
        *("8d", EXPORT_DEFERRED, "cleared: the next try waits on the same operations", "exporting_deferred"),
        *(events.cleared("work"), EXPORTED),
        cancelled=False,
        ends="success",
    ),
    Row(
        *("10", EXPORT, "own timeout", "exporting_timeout", events.seconds_of_execution(15), DEADLINE),
        says="Cancellation was requested: ",
    ),
    Row(
        *("10", EXPORT_DEFERRED, "own timeout", "exporting_deferred_timeout"),
        *(events.seconds_of_execution(15), DEADLINE, EITHER),
        says="Cancellation was requested: ",
    ),
    Row(
        *("11", EXPORT_DEFERRED, "execution_timeout while deferred", "exporting_deferred_execution_timeout"),
        *(events.seconds_after_start(15), DEADLINE, EITHER),
    ),
    Row(
        *("12", EXPORT_DEFERRED, "Airflow's own deferral timeout wins", "exporting_deferred"),
        *(events.deferral_timeout, RESUMED, EITHER),
    ),
    Row(
        *("13a", EXPORT, "SIGKILL, DAG-level callback", "exporting_dag_callback"),
        *(events.sigkill, CALLBACK, PROCESSOR),
    ),
    Row("13b", EXPORT, "SIGKILL, all_done cleanup task", "exporting_cleanup", events.sigkill, CLEANUP, TAKEN_OVER),
    Row(
        *("14a", EXPORT, "SIGKILL, retry left: the next try waits for them", "exporting_retry"),
        *(events.sigkill, EXPORTED),
        cancelled=False,
        ends="success",
    ),
    Row(
        *("14c", EXPORT, 'SIGKILL, retry left, on_retry="restart"', "exporting_restart"),
        *(events.sigkill, SECOND, ("worker (work, try 2)",)),
        ends=None,
        next_try=True,
    ),
    Row(
        *("15", EXPORT, "supervisor and task SIGKILLed, heartbeat lost", "exporting_task_callback"),
        *(events.sigkill_with_supervisor, LOST, PROCESSOR),
    ),
    Row(
        *("16", EXPORT, "SIGTERM to the worker", "exporting", events.sigterm_to_worker, SIGNALLED),
        since="3.3",
        instead=USE_LOST_WORKER,
        also=2,
    ),
    Row(
        *("17", EXPORT, "Deadline Alert missed", "exporting_deadline", events.deadline(30), ALERT, ("triggerer",)),
        ends=None,
    ),
    Row(
        *("22", EXPORT, "the task succeeds", "exporting", events.none, EXPORTED),
        cancelled=False,
        ends="success",
    ),
    Row(
        *("22", EXPORT_DEFERRED, "the task succeeds", "exporting_deferred", events.none, EXPORTED),
        cancelled=False,
        ends="success",
    ),
]
"""More of them: those of exports that a task returns."""

ROWS += EXPORT_ROWS


WHILE_CANCEL_FAILS = [
    Row(
        *("20a", TASK, "503 during the kill", "tracked_cleanup"),
        *(events.with_faults(events.marked_failed, **REFUSED), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20b", TASK, "no answer during the kill", "tracked_cleanup"),
        *(events.with_faults(events.marked_failed, **HELD), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20c", TASK, "connections reset during the kill", "tracked_cleanup"),
        *(events.with_faults(events.marked_failed, **BROKEN), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20a", SENSOR, "503 during the kill", "sensor_cleanup"),
        *(events.with_faults(events.marked_failed, **REFUSED), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20b", SENSOR, "no answer during the kill", "sensor_cleanup"),
        *(events.with_faults(events.marked_failed, **HELD), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20a", EXPORT, "503 during the kill", "exporting_cleanup"),
        *(events.with_faults(events.marked_failed, **REFUSED), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
    Row(
        *("20b", DEFERRED, "no answer during the kill", "deferred_cleanup"),
        *(events.with_faults(events.marked_failed, **HELD), MENDED, TAKEN_OVER),
        errors_first=True,
    ),
]
"""Rows in which no operation can be asked to cancel until the log of the dying task has said so."""

ASKING = [
    Row(
        *("4b", TASK, "marked failed inside a call to Airflow, six at once", "tracked_many"),
        *(events.all_marked_failed(6), LOOPED),
        do="ask airflow",
        count=18,
        map_index=0,
    ),
]
"""Rows that need the machine for themselves."""

WHILE_API_SERVER_STOPPED = [
    Row(
        *("19a", TASK, "SIGTERM to the task while the API server is down", "tracked", events.sigterm, SIGNALLED),
        do="wait and look",
    ),
    Row("19a", SENSOR, "SIGTERM to the task while the API server is down", "sensor", events.sigterm, SIGNALLED),
    Row("19a", EXPORT, "SIGTERM to the task while the API server is down", "exporting", events.sigterm, SIGNALLED),
    Row(
        *("19b", TASK, "execution_timeout while the API server is down", "tracked_execution_timeout_long"),
        *(events.seconds_of_execution(20), TIMER),
    ),
]

WHILE_SCHEDULER_STOPPED = [
    Row(
        *("19c", TASK, "SIGTERM to the task while the scheduler is down", "tracked", events.sigterm, SIGNALLED),
        do="wait and look",
    ),
    Row(
        *("19d", TASK, "execution_timeout while the scheduler is down", "tracked_execution_timeout_long"),
        *(events.seconds_of_execution(20), TIMER),
    ),
    Row(
        "19e",
        DEFERRED,
        "marked failed while the scheduler is down",
        "deferred",
        events.marked_failed,
        TRIGGERER,
        TRIGGER,
    ),
]

WITHOUT_TRIGGERER = [
    Row(
        *("9a", DEFERRED, "triggerer SIGTERM, started again", "deferred", events.triggerer_terminated, REGAINED),
        operation={"run_seconds": 90},
        cancelled=False,
        ends="success",
    ),
    Row(
        *("9b", DEFERRED, "triggerer SIGKILL, started again", "deferred", events.triggerer_killed, REGAINED),
        operation={"run_seconds": 90},
        cancelled=False,
        ends="success",
    ),
    Row(
        *("9c", DEFERRED, "trigger moved to another triggerer", "deferred", events.trigger_moved, REGAINED),
        operation={"run_seconds": 90},
        cancelled=False,
        ends="success",
    ),
]
"""Rows in which every wait loses its triggerer, one after the other."""

EXPORTS_WITHOUT_TRIGGERER = [
    Row(
        *("9b", EXPORT_DEFERRED, "triggerer SIGKILL, started again", "exporting_deferred"),
        *(events.triggerer_killed, REGAINED),
        cancelled=False,
        ends="success",
    ),
]
"""The same for exports, whose time is the same for all."""

ALL = sorted(
    [
        *(*ROWS, *WHILE_CANCEL_FAILS, *ASKING, *WHILE_API_SERVER_STOPPED, *WHILE_SCHEDULER_STOPPED),
        *(*WITHOUT_TRIGGERER, *EXPORTS_WITHOUT_TRIGGERER),
    ],
    key=lambda row: (int(re.sub(r"\D", "", row.number)), row.number),
)
"""All of them, as the table has them."""
