"""The command line where Airflow's own does not take it up, before 3.2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow_provider_eeops import __version__
from airflow_provider_eeops.cli.definition import COMMANDS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    :param argv: the arguments, without the program's name.
    :raises SystemExit: always, with the exit code.
    """
    args = _parser().parse_args(argv)
    args.func(args)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_eeops",
        description="List, cancel and wait for Google Earth Engine operations, with an Airflow connection.",
    )
    parser.add_argument("--version", action="version", version=f"airflow-provider-eeops {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description or command.help,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for arg in command.args:
            arg.add_to_parser(subparser)
        subparser.set_defaults(func=command.func)
    return parser


if __name__ == "__main__":
    main()
