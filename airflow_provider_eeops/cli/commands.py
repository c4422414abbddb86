"""What the commands do: the hook's calls, a question before something is changed, rows and an exit code after."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.utils.cli import suppress_logs_and_warning

from airflow_provider_eeops.api.cancelling import cancel_operations, invalid_results
from airflow_provider_eeops.api.models import Operation, OperationResult, Outcome, Report, counted
from airflow_provider_eeops.api.policies import failed_to_cancel, not_confirmed
from airflow_provider_eeops.api.polling import in_parallel, observe, wait
from airflow_provider_eeops.api.selecting import DEFAULT_MAX_OPERATIONS, OperationSelector, criteria_for_listing, select
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.checks import require_count, require_positive
from airflow_provider_eeops.cli.bars import Bar
from airflow_provider_eeops.cli.printing import Row, print_fields, print_rows, say
from airflow_provider_eeops.cli.reading import (
    check_can_confirm,
    confirmed,
    flags_named,
    given_operations,
    selection_flags,
    span,
)
from airflow_provider_eeops.exceptions import EarthEngineError, InvalidInputError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.stopping import sleep_unless

if TYPE_CHECKING:
    from airflow_provider_eeops.api.names import ParsedNames

__all__ = ["cancel", "delete", "describe", "list_operations", "wait_for"]

_OK, _SOME_NOT, _USAGE = 0, 1, 2
_INTERRUPTED = 128 + signal.SIGINT
_CLOSED_PIPE = 128 + signal.SIGPIPE
"""As a shell has it of a program that the signal ends."""

_DEFAULT_POLL_INTERVAL = 10.0
_NO_ANSWER = "no answer was waited for: interrupted"

_FIRST_FEW = 10

_Command = Callable[[argparse.Namespace, EarthEngineOperationsHook], int]


def _command(run: _Command) -> Callable[[argparse.Namespace], None]:
    """Give a command a hook, and end it with an exit code, whatever it meets."""

    @suppress_logs_and_warning
    def with_hook(args: argparse.Namespace) -> None:
        # As Airflow's own commands have it: the database of connections is read, not a supervisor asked.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        for flag, value in (("--conn-id", args.conn_id), ("--project", args.project)):
            if value == "":  # a shell's unset variable: another connection or project was meant than the default
                raise InvalidInputError(f"{flag} is empty: give it a value, or leave it out")
        with (
            _own_warnings_shown(verbose=args.verbose),
            EarthEngineOperationsHook(args.conn_id, project_id=args.project) as hook,
        ):
            sys.exit(run(args, hook))

    @wraps(run)
    def command(args: argparse.Namespace) -> None:
        try:
            with_hook(args)
        except InvalidInputError as error:
            say(f"error: {error}")
            sys.exit(_USAGE)
        except (EarthEngineError, AirflowException) as error:
            say(f"error: {error}")
            sys.exit(_SOME_NOT)
        except KeyboardInterrupt:
            say("Interrupted." if getattr(args, "has_asked", False) else "Interrupted: nothing was changed.")
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            _let_go()
            sys.exit(_CLOSED_PIPE)
        except OSError as error:  # of requests there is none: they meet errors of ours
            _let_go()
            with suppress(OSError):
                say(f"error: the output could not be written: {error.strerror}")
            sys.exit(_SOME_NOT)

    return command


def _let_go() -> None:
    """Have what nobody reads go nowhere: Python would complain when it flushes at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _own_warnings_shown(*, verbose: bool) -> Iterator[None]:
    """Show what this package warns of, such as what a listing passed over; other logs only if asked for."""
    if verbose:
        yield
        return
    root = logging.getLogger()
    before, root.handlers = root.handlers, [_OwnWarnings(logging.WARNING)]
    logging.disable(logging.INFO)  # until now all are disabled
    try:
        yield
    finally:
        logging.disable(logging.CRITICAL)
        root.handlers = before


class _OwnWarnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("airflow_provider_eeops."):
            with suppress(OSError):
                say(f"warning: {record.getMessage()}")


@_command
def list_operations(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> int:
    """List the operations of a project."""
    limit = None if args.limit is None else require_count("--limit", args.limit)
    with flags_named():
        criteria = criteria_for_listing(selection_flags(args))
    with Bar("operations looked at", None) as bar:
        selection = select(_counting(hook.list_operations(), bar), criteria, now=hook.get_conn().clock.time())
    found = sorted(selection, key=_created, reverse=True)[:limit]
    if args.output in {"json", "yaml"}:
        print_rows([_fields(operation) for operation in found], args.output)
    else:
        print_rows([_row(operation) for operation in found], args.output)
    say(f"{len(found)} of {counted(selection.looked_at)} shown.")
    return _OK


@_command
def describe(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> int:
    """Show all that is known of operations."""
    names = _named(args, hook).require_valid()
    seen = observe(hook.get_conn(), names)
    print_fields([_fields(seen.operations[name]) for name in names if name in seen.operations], args.output)
    for name, error in seen.errors.items():
        say(str(OperationResult.from_error(name, error)))
    return _SOME_NOT if seen.errors else _OK


@_command
def cancel(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> int:
    """Request cancellation of operations, and wait if asked to."""
    timeout, poll_interval, most = _cancel_flags(args)
    parsed, by_selection = _chosen(args, hook, yes=args.yes or args.dry_run)
    if most is None and by_selection:
        most = DEFAULT_MAX_OPERATIONS
    if most is not None and len(parsed.names) > most:
        raise InvalidInputError(
            f"{counted(len(parsed.names))} found, --max-operations is {most}: nothing was asked to cancel"
        )
    if not parsed.names and not parsed.invalid:
        say("No operation to cancel.")
        return _OK
    if args.dry_run:
        would = [OperationResult(name, Outcome.NOT_REQUESTED) for name in parsed.names]
        return _reported(Report((*would, *invalid_results(parsed.invalid))), args, failed=bool(parsed.invalid))
    if not confirmed(_question("Request cancellation of", parsed.names), yes=args.yes):
        return _USAGE
    args.has_asked = True
    with _interruptible() as interrupted:
        report = _request_cancellation(hook, parsed, interrupted)
        open_names = tuple(result.name for result in report.having(Outcome.CANCEL_REQUESTED))
        if args.wait and open_names and not interrupted.is_set():
            watch = Watch(open_names, deadline=None if timeout is None else time.time() + timeout)
            _wait(hook, watch, poll_interval, interrupted)
            report = report.updated(watch.report().results)
    failed = failed_to_cancel(report, if_finished="ignore", if_not_found="ignore" if by_selection else "fail")
    if interrupted.is_set():
        _say_what_is_left(report)
    code = _reported(report, args, failed=bool(failed))
    return _INTERRUPTED if interrupted.is_set() else code


@_command
def wait_for(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> int:
    """Wait until operations are confirmed."""
    timeout, poll_interval = _waiting(args)
    with flags_named():
        accepted = parse_states(args.accept)
    parsed, _by_selection = _chosen(args, hook, yes=True)
    names = tuple(parsed.require_valid())
    if not names:
        say("No operation to wait for.")
        return _OK
    watch = Watch(names, deadline=None if timeout is None else time.time() + timeout, accepted_states=accepted)
    with _interruptible() as interrupted:
        verdict = _wait(hook, watch, poll_interval, interrupted)
    report = watch.report()
    failed = verdict is not Verdict.SETTLED or not_confirmed(report, if_not_found="fail")
    code = _reported(report, args, failed=bool(failed))
    return _INTERRUPTED if interrupted.is_set() else code


@_command
def delete(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> int:
    """Delete the records of operations that have ended."""
    if args.operations:
        check_can_confirm(yes=args.yes)
    names = _named(args, hook).require_valid()
    client = hook.get_conn()
    seen = observe(client, names)
    ended = [name for name in names if name in seen.operations and seen.operations[name].confirmed]
    problems = {name: str(OperationResult.from_error(name, error)) for name, error in seen.errors.items()}
    for name, operation in seen.operations.items():
        if not operation.confirmed:
            problems[name] = f"{name}: {operation.state}, not deleted: cancel it, or let it end, first"
    if ended and not confirmed(_question("Delete the records of", ended), yes=args.yes):
        return _USAGE
    left = dict.fromkeys(ended)
    args.has_asked = bool(ended)
    with _interruptible() as interrupted, Bar("deleted", len(ended)) as bar, suppress(KeyboardInterrupt):
        for name, met in in_parallel(ended, _unless(interrupted, client.delete_operation), max_concurrency=8):
            bar.advance()
            if isinstance(met, _NotAskedError):
                continue
            del left[name]
            if isinstance(met, EarthEngineError):
                problems[name] = f"{name}: not deleted: {met.reason}"
    deleted = [name for name in ended if name not in left and name not in problems]
    say(f"{counted(len(deleted))} deleted.")
    for problem in problems.values():
        say(problem)
    if interrupted.is_set():
        _say_names("not deleted, or without an answer", list(left))
        return _INTERRUPTED
    return _SOME_NOT if problems else _OK


# What they have in common


def _named(args: argparse.Namespace, hook: EarthEngineOperationsHook) -> ParsedNames:
    given = given_operations(args)
    if not args.operations:
        raise InvalidInputError("no operation was given: name one or more, or '-' to read them from stdin")
    return hook.parse(given)


def _chosen(args: argparse.Namespace, hook: EarthEngineOperationsHook, *, yes: bool) -> tuple[ParsedNames, bool]:
    """Return the operations that were named or selected, and whether they were selected.

    :param yes: whether a yes was given, or none is needed.
    """
    with flags_named():
        flags = selection_flags(args)
        selector = OperationSelector(**flags) if flags else None
    if args.operations and flags:
        raise InvalidInputError("operations are named and selected by flags: do one of both")
    if not args.operations and not flags:
        raise InvalidInputError(
            "no operation was given: name one or more, '-' to read them from stdin, or select them by flags"
        )
    check_can_confirm(yes=yes)
    if selector is None:
        return _named(args, hook), False
    selection = hook.select_operations(selector)
    say(f"{selection}{f'{os.linesep}{selection.lines()}' if selection else ''}")
    return hook.parse(list(selection), accept_ids=False), True


def _request_cancellation(hook: EarthEngineOperationsHook, parsed: ParsedNames, interrupted: threading.Event) -> Report:
    answered: dict[str, OperationResult] = {}
    with Bar("cancel requests answered", len(parsed.names)) as bar:

        def take(result: OperationResult) -> None:
            answered[result.name] = result
            bar.advance()

        try:
            return cancel_operations(
                hook.get_conn(), parsed.names, invalid=parsed.invalid, on_result=take, stopped=interrupted.is_set
            )
        except KeyboardInterrupt:
            return _as_far_as(parsed, answered)


def _as_far_as(parsed: ParsedNames, answered: Mapping[str, OperationResult]) -> Report:
    """Report of what was left at once: a request without an answer may have been sent all the same."""
    return Report(
        tuple(
            answered.get(name) or OperationResult(name, Outcome.ERROR, error_message=_NO_ANSWER)
            for name in parsed.names
        )
        + tuple(invalid_results(parsed.invalid))
    )


def _say_what_is_left(report: Report) -> None:
    """Name what to ask for again, a name a line, as ``cancel -`` reads them."""
    left = [
        result.name
        for result in report.results
        if result.outcome is Outcome.NOT_REQUESTED or result.error_message == _NO_ANSWER
    ]
    _say_names("not asked to cancel, or without an answer", left)


def _say_names(what: str, names: Sequence[str]) -> None:
    if names:
        lines = "\n".join(names)
        say(f"{counted(len(names))} {what}:\n{lines}")


def _counting(operations: Iterable[Operation], bar: Bar) -> Iterator[Operation]:
    for operation in operations:
        bar.advance()
        yield operation


class _NotAskedError(EarthEngineError):
    """Ctrl-C came before the request."""


def _unless(interrupted: threading.Event, call: Callable[[str], None]) -> Callable[[str], None]:
    """Have a call make no request once the command is interrupted."""

    def call_(name: str) -> None:
        if interrupted.is_set():
            raise _NotAskedError("not asked: interrupted")
        call(name)

    return call_


def _cancel_flags(args: argparse.Namespace) -> tuple[float | None, float, int | None]:
    """Check what can be before any request; return the timeout, the poll interval, the most operations."""
    for flag, value in (("--timeout", args.timeout), ("--poll-interval", args.poll_interval)):
        if value is not None and not args.wait:
            raise InvalidInputError(f"{flag} means nothing without --wait")
    if args.dry_run and args.wait:
        raise InvalidInputError("--dry-run asks nothing to cancel, so there is nothing to --wait for: remove one")
    most = None if args.max_operations is None else require_count("--max-operations", args.max_operations)
    return (*_waiting(args), most)


def _waiting(args: argparse.Namespace) -> tuple[float | None, float]:
    poll_interval = _DEFAULT_POLL_INTERVAL if args.poll_interval is None else args.poll_interval
    return span("--timeout", args.timeout), require_positive("--poll-interval", poll_interval)


def _wait(
    hook: EarthEngineOperationsHook, watch: Watch, poll_interval: float, interrupted: threading.Event
) -> Verdict | None:
    """Wait for what a watch waits for; None if interrupted."""
    with Bar("confirmed", len(watch.names), is_long=True) as bar:
        try:
            return wait(
                hook.get_conn(),
                watch,
                poll_interval=poll_interval,
                on_poll=lambda _changed: bar.reach(len(watch.names) - len(watch.pending)),
                sleep=lambda seconds: _sleep(seconds, interrupted),
            )
        except (_InterruptedError, KeyboardInterrupt):
            return None


def _sleep(seconds: float, interrupted: threading.Event) -> None:
    if sleep_unless(interrupted.is_set, seconds):
        raise _InterruptedError


class _InterruptedError(Exception):
    """Ctrl-C while waiting."""


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Let the first Ctrl-C end the work in good order, and the second at once."""
    interrupted = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        with suppress(OSError):
            say("Interrupted: ending what is under way. Ctrl-C again to leave at once.")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _question(what: str, names: Sequence[str]) -> str:
    lines = "\n".join(f"- {name}" for name in names[:_FIRST_FEW])
    more = f"\n- and {len(names) - _FIRST_FEW} more" if len(names) > _FIRST_FEW else ""
    return f"{lines}{more}\n{what} {counted(len(names))}?"


def _reported(report: Report, args: argparse.Namespace, *, failed: bool) -> int:
    say(f"{report.summary}.")
    print_rows(report.to_dict()["operations"], args.output)
    return _SOME_NOT if failed else _OK


def _row(operation: Operation) -> Row:
    return {
        "name": operation.name,
        "state": str(operation.state),
        "type": operation.type,
        "description": operation.description,
        "created": operation.create_time and operation.create_time.isoformat(timespec="seconds"),
        "eecu_seconds": operation.eecu_seconds,
    }


def _fields(operation: Operation) -> Row:
    return {
        name: value.isoformat() if isinstance(value, datetime) else list(value) if isinstance(value, tuple) else value
        for name, value in asdict(operation).items()
    } | {"state": str(operation.state)}


def _created(operation: Operation) -> Any:
    return operation.create_time.timestamp() if operation.create_time else 0.0
