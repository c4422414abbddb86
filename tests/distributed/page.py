"""The measured part of docs/scaling.md; the rest of the page is written by hand."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

from tests.distributed.place import HEARTBEAT_TIMEOUT, POLL_INTERVAL
from tests.distributed.plan import EACH
from tests.distributed.record import Lost, Polls, Record, Shutdown
from tests.distributed.tasks import HELD

__all__ = ["written"]

_BLOCK = re.compile(r"(<!-- measured -->\n).*?(<!-- measured until here -->)", re.DOTALL)


def written(text: str, record: Record) -> str:
    """Return the page with the figures of a run.

    :param text: the page.
    :param record: the run.
    :raises ValueError: the page has no place for them.
    """
    if _BLOCK.search(text) is None:
        raise ValueError("the page has no '<!-- measured -->' with its end")
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_figures(record)}\n\n{block[2]}", text)


def _figures(record: Record) -> str:
    about, stored = record.about, record.stored
    states = Counter(seen.state for seen in record.waits)
    late = sorted(seen.late for seen in record.waits if seen.late is not None)
    lines = [
        ("date", about["date"]),
        ("Airflow", f"{about['apache-airflow']}, Python {about['python']}"),
        ("Celery", f"{about['celery']}, Airflow's provider {about['apache-airflow-providers-celery']}"),
        ("PostgreSQL, Redis", f"{about['postgresql']}, {about['redis']}"),
        ("cores, load over 15 minutes", f"{about['cores']}, {about['load']}"),
        ("the whole suite", f"{record.seconds:.0f} s"),
        ("waits, operations", f"{len(record.waits)}, {EACH * len(record.waits)}"),
        ("from the start of the run until all waits were deferred", f"{record.deferred:.0f} s"),
        (
            "in PostgreSQL while all waits were deferred",
            f"{stored['connections']} connections, {stored['triggers']} triggers",
        ),
        (
            "bytes of the longest trigger's arguments, of the list of all operations in XCom",
            f"{stored['trigger_bytes']}, {stored['xcom_bytes']}",
        ),
        *(_polls("while triggers come", each) for each in record.joining),
        *(_polls("two triggerers", each) for each in record.before),
        *(_polls("one is left", each) for each in record.after),
        ("triggers of the triggerer that was killed", record.moved),
        ("until the other one had them", f"{record.taken_over:.0f} s"),
        ("waits that ran on the killed worker", record.resuming),
        ("waits that were queued at the kill, and still were when the other triggerer had them", record.stuck),
        ("waits that ended", ", ".join(f"{number} {state}" for state, number in sorted(states.items(), key=str))),
        ("of these in more than one try", sum(seen.tries > 1 for seen in record.waits)),
        (
            "from the end of the deciding operation to the end of the wait, median and longest",
            f"{median(late):.0f} s, {late[-1]:.0f} s",
        ),
        ("from the kill to the end of the last wait", f"{record.waited:.0f} s"),
        *_lost("with a retry", [each for each in record.lost if each.dag == "held_retry"]),
        *_lost("with a teardown", [each for each in record.lost if each.dag == "held_teardown"]),
        ("tasks of the other worker that own operations", _counted(record.surviving)),
        ("operations asked to cancel that should not have been", len(record.unknown)),
        *map(_shutdown, record.shutdowns),
        *(
            (f"CPU, memory of the {part}", f"{used['cpu_seconds']:.0f} s, {used['mebibytes']:.0f} MiB")
            for part, used in record.usage.items()
        ),
    ]
    table = "".join(f"| {what} | {value} |\n" for what, value in lines)
    return (
        f"Poll interval {POLL_INTERVAL:g} s; a task counts as lost after {HEARTBEAT_TIMEOUT} s without a heartbeat."
        "\nCPU is counted from the start of each part until a minute after all waits were deferred.\n\n"
        f"| | |\n|---|---|\n{table}"
    ).rstrip()


def _polls(when: str, polls: Polls) -> tuple[str, str]:
    number = polls.seconds / POLL_INTERVAL  # of intervals
    told = ", ".join(f"{count / number:.1f} {method}" for method, count in sorted(polls.requests.items())) or "none"
    return (
        f"requests per poll interval, {when}: {polls.triggerer} with {polls.triggers} triggers",
        f"{told}; counted for {polls.seconds:.0f} s",
    )


def _lost(net: str, lost: list[Lost]) -> list[tuple[str, str]]:
    if not lost:
        return []
    asked = [seconds for each in lost for seconds in each.asked]
    states = Counter(state for each in lost for state in each.states)
    return [
        (
            f"{len(lost)} tasks of the killed worker, {net}",
            f"{len(asked)} operations asked to cancel after {min(asked):.0f} to {max(asked):.0f} s: {_told(states)}",
        )
    ]


def _shutdown(seen: Shutdown) -> tuple[str, str]:
    within = f" within {max(seen.asked):.1f} s" if seen.asked else ""
    gone = "a process of it ran on" if seen.gone is None else f"all its processes gone after {seen.gone:.1f} s"
    return (
        f"{seen.signal} to the worker `{seen.worker}`",
        f"{len(seen.asked)} of {HELD} operations asked to cancel{within}, {gone}, the task ends {seen.ended}",
    )


def _counted(states: list[str | None]) -> str:
    return f"{len(states)}: {_told(Counter(states))}"


def _told(states: Counter[str] | Counter[str | None]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items(), key=str))
