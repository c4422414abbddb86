import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from airflow_provider_eeops.emulator.__main__ import main


def extra_of(output: str) -> dict[str, object]:
    (line,) = (line for line in output.splitlines() if "airflow connections add" in line)
    words = shlex.split(line)
    assert words[words.index("--conn-type") + 1] == "earthengine"
    extra = json.loads(words[words.index("--conn-extra") + 1])
    assert isinstance(extra, dict)
    return extra


def run_main(
    capsys: pytest.CaptureFixture[str], *arguments: str, visit: Callable[[str], None] = lambda _: None
) -> tuple[int, str]:
    seen: list[str] = []

    def interrupt() -> None:
        for _ in range(500):
            seen.append(capsys.readouterr().out)
            if "Ctrl-C" in seen[-1]:
                break
            time.sleep(0.02)
        try:
            found = re.search(r"http://[^,\s]+", seen[-1])
            assert found is not None
            visit(found[0])
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    helper = threading.Thread(target=interrupt)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    helper.start()
    code = main(["--port", "0", *arguments])
    helper.join()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    return code, "".join(seen)


def test_main_with_times_by_description(capsys: pytest.CaptureFixture[str]) -> None:
    states: list[str] = []

    def visit(base_url: str) -> None:
        for description in ("a=b", "other"):
            body = {"description": description, "pending_seconds": 0}
            requests.post(f"{base_url}/emulator/operations", json=body, timeout=10).raise_for_status()
        found = requests.get(f"{base_url}/emulator/operations", timeout=10).json()["operations"]
        states.extend(operation["state"] for operation in found)

    code, _ = run_main(capsys, "--allow-anonymous", "--run-seconds-of", "a=*=0", visit=visit)
    assert code == 0
    assert states == ["SUCCEEDED", "RUNNING"]


def test_times_by_description_need_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--run-seconds-of", "short"])
    assert "'short' is not GLOB=SECONDS" in capsys.readouterr().err


def test_main_with_a_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("an older one, readable by all")
    key.chmod(0o644)
    code, output = run_main(capsys, "--project", "one", "--project", "two", "--service-account-key", str(key))
    assert code == 0
    assert key.stat().st_mode & 0o777 == 0o600
    info = json.loads(key.read_text())
    extra = extra_of(output)
    assert extra == {"base_url": extra["base_url"], "project": "one", "key_path": str(key)}
    assert info["type"] == "service_account"
    assert info["token_uri"] == f"{extra['base_url']}/token"
    assert "projects one, two" in output
    assert f"GOOGLE_APPLICATION_CREDENTIALS={key}" in output


def test_main_for_anyone(capsys: pytest.CaptureFixture[str]) -> None:
    def visit(base_url: str) -> None:
        body = requests.get(f"{base_url}/v1/projects/emulator-project/operations", timeout=30).json()
        assert body == {}

    code, output = run_main(capsys, "--allow-anonymous", visit=visit)
    assert code == 0
    assert extra_of(output)["is_anonymous"] is True
    assert "need an access token" not in output


def test_main_without_a_way_in_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "start it with --service-account-key FILE, or --allow-anonymous" in run_main(capsys)[1]


def test_main_refuses_other_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--host", "0.0.0.0"])
    assert stopped.value.code == 1
    assert "loopback address only" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "airflow_provider_eeops.emulator", "--port", "0", "--allow-anonymous"]
    command += ["--run-seconds", "inf", "--pending-seconds", "0", "--cancel-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://[^,\s]+", process.stdout.readline())
    assert found is not None
    base_url = found[0]
    name = requests.post(f"{base_url}/emulator/operations", json={}, timeout=30).json()["name"]
    assert requests.get(f"{base_url}/v1/{name}", timeout=30).json()["metadata"]["state"] == "RUNNING"
    requests.post(f"{base_url}/v1/{name}:cancel", timeout=30)
    assert requests.get(f"{base_url}/v1/{name}", timeout=30).json()["error"]["code"] == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
