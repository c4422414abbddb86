"""The commands, run as a shell runs them, but in this process."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow import __version__ as airflow_version
from airflow.cli.cli_config import GroupCommand

from airflow_provider_eeops.__main__ import main
from airflow_provider_eeops.cli.definition import get_cli_commands
from airflow_provider_eeops.emulator import Emulator, Fault
from tests.support.clock import AdvancingClock
from tests.support.signals import interrupted_when
from tests.unit.glue.conftest import SetConnection

A, B = (f"projects/one/operations/{id_}" for id_ in "AB")


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def outcomes(self) -> dict[str, str]:
        return {row["name"]: row["outcome"] for row in self.json}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Run = Callable[..., Ran]


def named_on_stderr(err: str) -> set[str]:
    """Names that stand alone on a line, as they can be given to another command."""
    return {line for line in err.splitlines() if re.fullmatch(r"projects/\S+", line)}


@pytest.fixture
def run(connection: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    del connection
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # a command sets it; put back after the test
    before = signal.getsignal(signal.SIGINT)

    def run_(*argv: str, stdin: str = "", is_terminal: bool = False) -> Ran:
        monkeypatch.setattr(sys, "stdin", Terminal(stdin) if is_terminal else io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(argv)
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    yield run_
    assert signal.getsignal(signal.SIGINT) is before


# list


def test_list_shows_every_operation_newest_first(run: Run, emulator: Emulator, clock: AdvancingClock) -> None:
    emulator.add_operation("A")
    clock.advance(60)
    emulator.add_operation("B", type="EXPORT_FEATURES")
    ran = run("list", "-o", "json")
    assert [row["name"] for row in ran.json] == [B, A]
    assert ran.json[0]["type"] == "EXPORT_FEATURES"
    assert ran.json[0]["end_time"] is None
    assert (ran.code, ran.err) == (0, "2 of 2 operations shown.\n")


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--state", "CANCELLED"], [A]),
        (["--state", "RUNNING", "--state", "CANCELLED"], [B, A]),
        (["--type", "EXPORT_FEATURES"], [B]),
        (["--description", "night*"], [B]),
        (["--older-than", "90s"], [A]),
        (["--limit", "1"], [B]),
    ],
)
def test_list_shows_what_the_flags_select(
    run: Run, emulator: Emulator, clock: AdvancingClock, flags: list[str], shown: list[str]
) -> None:
    clock.advance(-120)
    emulator.add_operation("A", cancelled=True)
    clock.advance(60)
    emulator.add_operation("B", type="EXPORT_FEATURES", description="nightly")
    clock.advance(60)
    assert [row["name"] for row in run("list", "-o", "json", *flags).json] == shown


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
def test_every_format_shows_the_same(run: Run, emulator: Emulator, output: str) -> None:
    emulator.add_operation("A", description="1e5")
    ran = run("list", "-o", output)
    assert ran.code == 0
    if output in {"json", "yaml"}:
        (row,) = yaml.safe_load(ran.out)
        assert (row["name"], row["description"], row["state"]) == (A, "1e5", "RUNNING")
    else:
        header, *lines = [line for line in ran.out.splitlines() if line.strip(" =+")]
        assert header.split()[0] == "name"
        assert A in lines[0]
        assert "1e5" in lines[0]


def test_what_steers_a_terminal_is_shown_and_not_sent_to_it(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", description="\x1b[2Jgone\r\nand")
    for output in ("table", "plain"):
        ran = run("list", "-o", output)
        assert r"\x1b[2Jgone\r\nand" in ran.out
        assert "\x1b" not in ran.out


def test_what_a_listing_passes_over_is_said(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    others = [{"name": f"projects/other/operations/{id_}"} for id_ in "XYZ"]
    listing = {"operations": [emulator.operation(A), *others]}
    emulator.add_fault(Fault("list", status=200, body=json.dumps(listing).encode(), times=None))
    told = "warning: The listing of project one names 3 operations of another: passed over.\n"
    ran = run("list", "-o", "json")
    assert [row["name"] for row in ran.json] == [A]
    assert (ran.code, ran.err) == (0, f"{told}1 of 1 operation shown.\n")
    ran = run("cancel", "--type", "EXPORT_IMAGE", "--yes", "-o", "json")
    assert ran.outcomes.keys() == {A}
    assert told in ran.err


def test_nothing_to_list_is_no_error(run: Run) -> None:
    ran = run("list")
    assert (ran.code, ran.out) == (0, "")
    assert "0 of 0 operations" in ran.err


# describe


def test_describe_shows_all_that_is_known_and_what_is_not_found(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    ran = run("describe", "A", "NONE", "-o", "json")
    assert ran.code == 1
    assert [row["name"] for row in ran.json] == [A]
    assert "projects/one/operations/NONE: not found" in ran.err
    assert "RUNNING" in run("describe", A).out


# cancel


def test_cancel_asks_for_each_and_says_what_became_of_it(run: Run, emulator: Emulator) -> None:
    for id_ in "AB":
        emulator.add_operation(id_, cancel_seconds=1000)
    ran = run("cancel", "A", B, "--yes", "-o", "json")
    assert ran.outcomes == {A: "cancel_requested", B: "cancel_requested"}
    assert ran.code == 0
    assert emulator.cancel_requested(A)
    assert emulator.cancel_requested(B)


def test_one_bad_name_stops_no_other(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", cancel_seconds=1000)
    ran = run("cancel", "A", "../B", "NONE", "--yes", "-o", "json")
    assert ran.code == 1
    assert ran.outcomes == {A: "cancel_requested", "projects/one/operations/NONE": "not_found", "'../B'": "error"}


def test_cancel_waits_until_confirmed(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    ran = run("cancel", "A", "--yes", "--wait", "--poll-interval", "0.1", "-o", "json")
    assert (ran.code, ran.outcomes) == (0, {A: "cancelled"})


def test_what_is_not_confirmed_in_time_is_an_exit_code(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", cancel_seconds=1000)
    ran = run("cancel", "A", "--yes", "--wait", "--poll-interval", "0.1", "--timeout", "0.3s", "-o", "json")
    assert (ran.code, ran.outcomes) == (1, {A: "not_confirmed_in_time"})


@pytest.mark.parametrize("text", [f"{A}\n\n  B \n", json.dumps([A, {"name": B}]), json.dumps({"operations": [A, B]})])
def test_names_come_from_stdin(run: Run, emulator: Emulator, text: str) -> None:
    for id_ in "AB":
        emulator.add_operation(id_, cancel_seconds=1000)
    ran = run("cancel", "-", "--yes", "-o", "json", stdin=text)
    assert ran.outcomes == {A: "cancel_requested", B: "cancel_requested"}


def test_what_list_prints_is_what_cancel_reads(run: Run, emulator: Emulator) -> None:
    for id_ in "AB":
        emulator.add_operation(id_)
    listed = run("list", "-o", "json").out
    assert run("cancel", "-", "--yes", "-o", "json", stdin=listed).outcomes.keys() == {A, B}


def test_cancel_takes_what_the_flags_select(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", description="nightly", cancel_seconds=1000)
    emulator.add_operation("B", description="daily")
    ran = run("cancel", "--description", "nightly", "--yes", "-o", "json")
    assert ran.outcomes == {A: "cancel_requested"}
    assert not emulator.cancel_requested(B)


def test_a_dry_run_asks_nothing_to_cancel(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    ran = run("cancel", "A", "--dry-run", "-o", "json")
    assert (ran.code, ran.outcomes) == (0, {A: "not_requested"})
    assert emulator.count("cancel") == 0


def test_what_is_gone_since_it_was_listed_is_no_failure(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    emulator.add_fault(Fault("cancel", status=404))
    assert run("cancel", "--type", "EXPORT_IMAGE", "--yes").code == 0
    emulator.add_fault(Fault("cancel", status=404))
    assert run("cancel", "A", "--yes").code == 1


def test_more_than_may_be_cancelled_are_none(run: Run, emulator: Emulator) -> None:
    for id_ in "AB":
        emulator.add_operation(id_)
    ran = run("cancel", "--type", "EXPORT_IMAGE", "--max-operations", "1", "--yes")
    assert ran.code == 2
    assert "2 operations found, --max-operations is 1" in ran.err
    assert emulator.count("cancel") == 0


def test_a_script_without_yes_cancels_nothing(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    ran = run("cancel", "A")
    assert ran.code == 2
    assert "give --yes" in ran.err
    assert emulator.count("cancel") == 0


@pytest.mark.parametrize(("answer", "code", "cancels"), [("y\n", 0, 1), ("n\n", 2, 0), ("\n", 2, 0), ("", 2, 0)])
def test_a_person_is_asked(run: Run, emulator: Emulator, answer: str, code: int, cancels: int) -> None:
    emulator.add_operation("A")
    ran = run("cancel", "A", stdin=answer, is_terminal=True)
    assert ran.code == code
    assert f"- {A}\nRequest cancellation of 1 operation? [y/N]" in ran.err
    assert emulator.count("cancel") == cancels


def test_ctrl_c_says_what_was_asked_and_what_was_not(run: Run, emulator: Emulator) -> None:
    names = [emulator.add_operation(f"N{number:03}", cancel_seconds=1000) for number in range(200)]
    emulator.add_fault(Fault("cancel", seconds=0.05, times=None))
    with interrupted_when(lambda: emulator.count("cancel") >= 40):
        ran = run("cancel", "-", "--yes", "-o", "json", stdin="\n".join(names))
    asked = {row["name"] for row in ran.json if row["outcome"] == "cancel_requested"}
    left = {row["name"] for row in ran.json if row["outcome"] == "not_requested"}
    assert ran.code == 130
    assert asked == {name for name in names if emulator.cancel_requested(name)}
    assert asked | left == set(names)
    assert left
    assert "Ctrl-C again" in ran.err
    assert named_on_stderr(ran.err) == left
    assert f"{len(left)} operations not asked to cancel, or without an answer:" in ran.err


def test_a_second_ctrl_c_says_what_was_answered_too(run: Run, emulator: Emulator) -> None:
    names = [emulator.add_operation(f"N{number:03}", cancel_seconds=1000) for number in range(60)]
    emulator.add_fault(Fault("cancel", seconds=1, name=names[-1], times=None))
    first = interrupted_when(lambda: emulator.count("cancel") >= 59)
    second = interrupted_when(lambda: emulator.count("cancel") >= 60)
    with first, second:
        ran = run("cancel", "-", "--yes", "-o", "json", stdin="\n".join(names))
    assert ran.code == 130
    assert set(ran.outcomes) == set(names)
    assert "cancel_requested" in ran.outcomes.values()


def test_a_second_ctrl_c_in_the_wait_says_what_was_requested_too(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", cancel_seconds=1000)
    emulator.add_fault(Fault("get", seconds=0.5, times=None))
    first = interrupted_when(lambda: emulator.count("get") >= 2)
    second = interrupted_when(lambda: emulator.count("get") >= 2)
    with first, second:
        ran = run("cancel", "A", "--yes", "--wait", "--poll-interval", "1000", "-o", "json")
    assert ran.code == 130
    assert ran.outcomes.keys() == {A}
    assert emulator.cancel_requested(A)
    assert named_on_stderr(ran.err) == set()


def test_ctrl_c_before_the_answer_changes_nothing(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.add_operation("A")

    class Interrupting(Terminal):
        def readline(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr("tests.unit.glue.test_cli.Terminal", Interrupting)
    ran = run("cancel", "A", is_terminal=True)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.endswith("Interrupted: nothing was changed.\n")
    assert emulator.count("cancel") == 0


def test_ctrl_c_while_the_outcomes_are_printed_does_not_deny_the_requests(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    emulator.add_operation("A", cancel_seconds=1000)
    monkeypatch.setattr("airflow_provider_eeops.cli.commands.print_rows", interrupt)
    ran = run("cancel", "A", "--yes")
    assert ran.code == 130
    assert emulator.cancel_requested(A)
    assert "nothing was changed" not in ran.err


# wait


def test_wait_ends_when_all_are_confirmed(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", run_seconds=0.1)
    ran = run("wait", "A", "--poll-interval", "0.1", "-o", "json")
    assert (ran.code, ran.json[0]["state"]) == (0, "SUCCEEDED")


@pytest.mark.parametrize(("accept", "code"), [([], 0), (["--accept", "CANCELLED"], 1), (["--accept", "SUCCEEDED"], 0)])
def test_a_state_that_is_not_accepted_is_an_exit_code(
    run: Run, emulator: Emulator, accept: list[str], code: int
) -> None:
    emulator.add_operation("A", run_seconds=0)
    assert run("wait", "A", "--poll-interval", "0.1", *accept).code == code


def test_ctrl_c_ends_a_wait_and_says_what_was_seen(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A")
    with interrupted_when(lambda: emulator.count("get") == 1):
        ran = run("wait", "A", "--poll-interval", "1000", "-o", "json")
    assert (ran.code, ran.outcomes) == (130, {A: "not_confirmed_in_time"})


# delete


def test_delete_takes_the_record_of_what_has_ended_and_no_other(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("A", run_seconds=0)
    emulator.add_operation("B")
    ran = run("delete", "A", "B", "--yes")
    assert ran.code == 1
    assert "1 operation deleted." in ran.err
    assert f"{B}: RUNNING, not deleted" in ran.err
    assert emulator.count("delete") == 1
    assert run("describe", "A").code == 1


def test_ctrl_c_says_what_was_deleted_and_what_was_not(run: Run, emulator: Emulator) -> None:
    names = [emulator.add_operation(f"N{number:03}", finished=True) for number in range(100)]
    emulator.add_fault(Fault("delete", seconds=0.05, times=None))
    with interrupted_when(lambda: emulator.count("delete") >= 20):
        ran = run("delete", "-", "--yes", stdin="\n".join(names))
    left = {name for name in names if emulator.has(name)}
    assert ran.code == 130
    assert f"{len(names) - len(left)} operations deleted." in ran.err
    assert 0 < len(left) < len(names)
    assert named_on_stderr(ran.err) == left


# What cannot be meant


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["cancel"], "no operation was given"),
        (["wait"], "no operation was given"),
        (["describe"], "no operation was given"),
        (["delete"], "no operation was given"),
        (["cancel", "A", "--type", "EXPORT_IMAGE"], "do one of both"),
        (["cancel", "A", "--timeout", "5"], "--timeout means nothing without --wait"),
        (["cancel", "A", "--dry-run", "--wait"], "remove one"),
        (["cancel", "A", "--max-operations", "0"], "--max-operations is 0"),
        (["cancel", "A", "--wait", "--timeout", "soon"], "--timeout is 'soon'"),
        (["cancel", "A", "--wait", "--poll-interval", "0"], "poll-interval is 0"),
        (["cancel", "--state", "SUCCEEDED"], "such operations have ended"),
        (["cancel", "--state", "PENDING", "--state", "RUNNING"], "narrows nothing"),
        (["cancel", "--older-than", "0d", "--yes"], "--older-than is '0d'"),
        (["cancel", "--created-before", "2026-01-01"], "no time zone"),
        (["list", "--state", "ENDED"], "--state names 'ENDED'"),
        (["list", "--state", "states"], "--state names 'states'"),
        (["list", "--type", "export_image"], "--type names 'export_image': upper case is needed"),
        (["list", "--limit", "0"], "--limit is 0"),
        (["list", "--limit", "-1"], "--limit is -1"),
        (["list", "--older-than", "-1"], "--older-than is '-1'"),
        (["list", "--min-eecu-seconds", "-1"], "--min-eecu-seconds is '-1'"),
        (["list", "--min-eecu-seconds", "many"], "--min-eecu-seconds is 'many'"),
        (["list", "--min-eecu-seconds", "nan"], "--min-eecu-seconds is 'nan'"),
        (["list", "--created-after", "soon"], "--created-after is 'soon'"),
        (
            ["list", "--created-before", "2026-01-01T00:00Z", "--created-after", "2026-02-01T00:00Z"],
            "--created-before is 2026-01-01T00:00:00+00:00, --created-after is 2026-02-01",
        ),
        (["list", "--older-than", "1d", "--created-before", "2026-01-01T00:00Z"], "--older-than and --created-before"),
        (["list", "--description", "*"], "--description is '*'"),
        (["list", "--project", ""], "--project is empty"),
        (["list", "--conn-id", ""], "--conn-id is empty"),
        (["wait", "A", "--accept", "RUNNING"], "--accept has 'RUNNING'"),
        (["wait", "A", "--poll-interval", "-1"], "--poll-interval is -1"),
        (["wait", "A", "--poll-interval", "inf"], "--poll-interval is inf"),
        (["wait", "A", "--timeout", "0"], "--timeout is '0'"),
        (["cancel", "A", "--poll-interval", "5"], "--poll-interval means nothing without --wait"),
        (["cancel", "A", "--max-operations", "-1"], "--max-operations is -1"),
        (["cancel", "-", "-", "--yes"], "'-' is given more than once"),
        (["cancel", "A"], "give --yes"),
        (["cancel", "--type", "EXPORT_IMAGE"], "give --yes"),
        (["delete", "A"], "give --yes"),
        (["list", "--project", "../x"], "not a project id"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_request(
    run: Run, emulator: Emulator, argv: list[str], told: str
) -> None:
    emulator.add_operation("A")
    ran = run(*argv)
    assert ran.code == 2
    assert told in ran.err
    assert (ran.out, emulator.count()) == ("", 0)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["stop"],
        ["list", "A"],
        ["list", "--output", "xml"],
        ["list", "--limit", "1.5"],
        ["wait", "A", "--poll-interval", "often"],
        ["cancel", "--wait", "--frobnicate"],
        ["delete", "--type", "EXPORT_IMAGE"],
        ["describe", "A", "--state", "RUNNING"],
    ],
)
def test_what_no_command_is_is_a_usage_error(run: Run, argv: list[str]) -> None:
    ran = run(*argv)
    assert ran.code == 2
    assert "usage:" in ran.err


@pytest.mark.parametrize("stdin", [None, b"\xff\xfe\x00"])
def test_stdin_that_cannot_be_read_is_a_usage_error(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: Any
) -> None:
    run("list")
    stream = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(SystemExit) as ended:
        main(["describe", "-"])
    assert ended.value.code == 2
    assert "stdin" in capsys.readouterr().err
    assert emulator.count("get") == 0


def test_a_connection_that_does_not_exist_is_named(run: Run) -> None:
    ran = run("list", "--conn-id", "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err


def test_what_the_api_refuses_is_an_error_and_no_traceback(run: Run, emulator: Emulator) -> None:
    emulator.deny("earthengine.operations.list")
    ran = run("list")
    assert ran.code == 1
    assert "earthengine.operations.list" in ran.err
    assert "Traceback" not in ran.err


def test_the_project_can_be_another(run: Run, emulator: Emulator) -> None:
    emulator.add_operation("C", project="two")
    assert [row["name"] for row in run("list", "--project", "two", "-o", "json").json] == ["projects/two/operations/C"]


def test_logs_are_shown_only_when_asked_for(run: Run, set_connection: SetConnection, emulator: Emulator) -> None:
    set_connection(frobnicate=1)
    emulator.add_operation("A")
    ran = run("list", "-o", "json")
    assert "frobnicate" not in ran.out + ran.err


# Terminals and pipes


def _python(*argv: str) -> list[str]:
    return [sys.executable, "-m", "airflow_provider_eeops", *argv]


@dataclass
class Shown:
    """What a command left on a terminal.

    :param text: what was written to it.
    :param code: the exit code.
    """

    text: str
    code: int


def in_terminal(argv: list[str], *, columns: int, typed: bytes = b"", when: Callable[[], bool] = lambda: True) -> Shown:
    """Run a command in a pseudo-terminal, and type once it is time.

    :param argv: the command.
    :param columns: how wide the terminal is.
    :param typed: what is typed.
    :param when: when to type.
    """
    terminal, end = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
    with subprocess.Popen(argv, stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True) as process:
        os.close(end)
        shown = b""
        with suppress(OSError):  # how a terminal says that nobody has it open any more
            while True:
                ready, _, _ = select.select([terminal], [], [], 0.05)
                if typed and when():
                    os.write(terminal, typed)
                    typed = b""
                if ready:
                    if not (chunk := os.read(terminal, 1 << 16)):
                        break
                    shown += chunk
                elif process.poll() is not None:
                    break
        os.close(terminal)
        return Shown(shown.decode(), process.wait(timeout=60))


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("merged", [False, True])
def test_a_pipe_that_is_closed_leaves_no_traceback(emulator: Emulator, *, merged: bool) -> None:
    for number in range(500):
        emulator.add_operation(f"N{number:03}")
    with subprocess.Popen(
        _python("list", "-o", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},  # Airflow 2 warns of itself while it is imported
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        told = process.stderr.read() if process.stderr is not None else ""
    assert process.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


@pytest.mark.usefixtures("connection")
def test_a_full_disk_is_an_error_and_no_traceback(emulator: Emulator) -> None:
    emulator.add_operation("A")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = subprocess.run(_python("list"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert "error: the output could not be written: No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_nothing_said_goes_to_stdout_where_stderr_is_closed(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.add_operation("A")
    monkeypatch.setattr(sys, "stderr", None)  # as Python has it then
    assert [row["name"] for row in run("list", "-o", "json").json] == [A]


def test_what_the_encoding_does_not_have_is_escaped(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.add_operation("A", description="f\u00fcr \U0001f30d")
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert run("list", "-o", "plain").code == 0
    assert b"f\\xfcr \\U0001f30d" in shown.getvalue()


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(("columns", "is_table"), [(200, True), (40, False), (10, False)])
def test_a_name_stays_whole_in_a_narrow_terminal(emulator: Emulator, columns: int, *, is_table: bool) -> None:
    name = emulator.add_operation("A" * 24)
    shown = in_terminal(_python("list"), columns=columns)
    assert (shown.code, "Traceback" in shown.text) == (0, False)
    assert name in shown.text
    assert ("=+=" in shown.text) is is_table


@pytest.mark.usefixtures("connection")
def test_a_bulk_cancel_in_a_narrow_terminal_shows_a_bar_and_every_name(emulator: Emulator) -> None:
    names = [emulator.add_operation(f"N{number:03}") for number in range(50)]
    emulator.add_fault(Fault("cancel", seconds=0.1, times=None))
    shown = in_terminal(_python("cancel", *names, "--wait", "--poll-interval", "0.2"), columns=20, typed=b"y\n")
    assert (shown.code, "Traceback" in shown.text) == (0, False)
    assert "[y/N]" in shown.text
    assert re.search(r"\d+/50", shown.text), "no bar"
    assert all(name in shown.text for name in names)
    assert all(emulator.state(name) == "CANCELLED" for name in names)


@pytest.mark.usefixtures("connection")
def test_ctrl_c_in_a_process_names_what_was_not_asked_to_be_asked_then(emulator: Emulator) -> None:
    names = [emulator.add_operation(f"N{number:03}", cancel_seconds=1000) for number in range(200)]
    emulator.add_fault(Fault("cancel", seconds=0.05, times=None))
    with subprocess.Popen(
        _python("cancel", "-", "--yes", "-o", "json"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write("\n".join(names))
        process.stdin.close()
        process.stdin = None
        while emulator.count("cancel") < 40:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    left = named_on_stderr(err)
    asked = {name for name in names if emulator.cancel_requested(name)}
    assert process.returncode == 130
    assert (left | asked, left & asked) == (set(names), set())
    assert left
    assert {row["name"] for row in json.loads(out) if row["outcome"] == "cancel_requested"} == asked
    emulator.clear_faults()
    again = subprocess.run(
        _python("cancel", "-", "--yes"), input="\n".join(left), text=True, capture_output=True, check=False
    )
    assert again.returncode == 0
    assert all(emulator.cancel_requested(name) for name in names)


# Airflow's own command line


def test_airflow_takes_the_commands_up() -> None:
    (group,) = get_cli_commands()
    assert isinstance(group, GroupCommand)
    assert group.name == "earthengine"
    assert [command.name for command in group.subcommands] == ["list", "describe", "cancel", "wait", "delete"]


@pytest.mark.skipif(airflow_version < "3.2", reason="Airflow takes up providers' commands from 3.2 on")
@pytest.mark.usefixtures("connection")
def test_airflows_command_runs_them(emulator: Emulator) -> None:
    emulator.add_operation("A")
    airflow = Path(sys.executable).with_name("airflow")
    ran = subprocess.run(
        [airflow, "earthengine", "list", "-o", "json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [row["name"] for row in json.loads(ran.stdout)] == [A]


@pytest.mark.skipif(airflow_version < "3.2", reason="Airflow takes up providers' commands from 3.2 on")
@pytest.mark.usefixtures("connection")
def test_airflows_command_asks_in_a_terminal_and_has_the_exit_code(emulator: Emulator) -> None:
    name = emulator.add_operation("A", cancel_seconds=1000)
    airflow = str(Path(sys.executable).with_name("airflow"))
    shown = in_terminal([airflow, "earthengine", "cancel", "A"], columns=40, typed=b"n\n")
    assert (shown.code, emulator.count("cancel")) == (2, 0)
    assert "Request cancellation of 1 operation? [y/N]" in shown.text
    shown = in_terminal([airflow, "earthengine", "cancel", "A", "NONE"], columns=40, typed=b"y\n")
    assert (shown.code, emulator.cancel_requested(name)) == (1, True)
    assert "not found" in shown.text
