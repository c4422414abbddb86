"""The commands and their flags. Read at every start of ``airflow``, so it loads nothing that a command needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ARG_YES, ActionCommand, Arg, GroupCommand, lazy_load_command

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

__all__ = ["COMMANDS", "get_cli_commands"]

_FUNCTIONS = "airflow_provider_eeops.cli.commands"

_EXIT_CODES = """exit codes:
  0    all as asked: shown, cancellation requested, confirmed, deleted
  1    some not: the output says which and why
  2    the command could not be understood, or was not confirmed; no request to change anything was made
  130  interrupted; the output says what was asked and what was not
  141  who read the output has gone, as with '| head -1'
"""

_CONNECTION = (
    Arg(("--conn-id",), help="Connection id", default="earthengine_default"),
    Arg(("--project",), help="Project of operation ids given without one, and to list. Default: the connection's"),
)
_COMMON = (*_CONNECTION, ARG_OUTPUT, ARG_VERBOSE)

_NAMES = Arg(
    ("operations",),
    nargs="*",
    metavar="OPERATION",
    help="Operation names, or ids with a project; '-' reads them from stdin, one a line or as JSON",
)

_SELECTION = (
    Arg(("--state",), action="append", dest="states", metavar="STATE", help="In this state; may be repeated"),
    Arg(
        ("--type",),
        action="append",
        dest="types",
        metavar="TYPE",
        help="Of this type, such as EXPORT_IMAGE; may be repeated",
    ),
    Arg(("--description",), metavar="GLOB", help="Description that matches from end to end, such as 'nightly-*'"),
    Arg(("--created-before",), metavar="TIME", help="Created earlier: ISO 8601 with a time zone"),
    Arg(("--created-after",), metavar="TIME", help="Created then or later"),
    Arg(("--older-than",), metavar="SPAN", help="Created longer ago: seconds, or such as 90m, 36h, 7d"),
    Arg(("--min-eecu-seconds",), metavar="NUMBER", help="Has used so many EECU-seconds, or more"),
)

_MOST = Arg(
    ("--max-operations",),
    type=int,
    metavar="NUMBER",
    help="Do nothing if more are found. Default: 100 when selected by flags, else no limit",
)
_WAITING = (
    Arg(("--timeout",), metavar="SPAN", help="Wait no longer than this: seconds, or such as 90m, 36h"),
    Arg(("--poll-interval",), type=float, metavar="SECONDS", help="Between polls. Default: 10"),
)

COMMANDS = (
    ActionCommand(
        name="list",
        help="List operations of a project, other people's too, newest first",
        func=lazy_load_command(f"{_FUNCTIONS}.list_operations"),
        args=(
            *_SELECTION,
            Arg(("--limit",), type=int, metavar="NUMBER", help="Show no more than this; all are read all the same"),
            *_COMMON,
        ),
        epilog=_EXIT_CODES,
    ),
    ActionCommand(
        name="describe",
        help="Show all that is known of operations",
        func=lazy_load_command(f"{_FUNCTIONS}.describe"),
        args=(_NAMES, *_COMMON),
        epilog=_EXIT_CODES,
    ),
    ActionCommand(
        name="cancel",
        help="Request cancellation of operations, by name or by selection",
        description="Request cancellation of operations. They are cancelled later, or finish all the same: --wait"
        " tells.",
        func=lazy_load_command(f"{_FUNCTIONS}.cancel"),
        args=(
            _NAMES,
            *_SELECTION,
            _MOST,
            Arg(("--wait",), action="store_true", help="Wait until every operation is confirmed"),
            *_WAITING,
            Arg(("--dry-run",), action="store_true", help="Show what would be asked to cancel; ask nothing"),
            ARG_YES,
            *_COMMON,
        ),
        epilog=_EXIT_CODES,
    ),
    ActionCommand(
        name="wait",
        help="Wait until operations are confirmed: SUCCEEDED, CANCELLED or FAILED",
        func=lazy_load_command(f"{_FUNCTIONS}.wait_for"),
        args=(
            _NAMES,
            *_SELECTION,
            *_WAITING,
            Arg(
                ("--accept",),
                action="append",
                metavar="STATE",
                help="Terminal state that is not a failure; may be repeated. Default: all",
            ),
            *_COMMON,
        ),
        epilog=_EXIT_CODES,
    ),
    ActionCommand(
        name="delete",
        help="Delete the records of operations that have ended",
        description="Delete the records of operations that have ended. Those that have not are left alone: to delete"
        " the record of an operation does not stop it.",
        func=lazy_load_command(f"{_FUNCTIONS}.delete"),
        args=(_NAMES, ARG_YES, *_COMMON),
        epilog=_EXIT_CODES,
    ),
)


def get_cli_commands() -> list[CLICommand]:
    """Return what Airflow's command line takes up, see ``cli`` in Airflow's ``provider_info.schema.json``."""
    return [
        GroupCommand(
            name="earthengine",
            help="List, cancel and wait for Google Earth Engine operations",
            subcommands=COMMANDS,
        )
    ]
