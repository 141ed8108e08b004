"""`lcr view`: the page of a run that another process drives, for this machine's user alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from langchain_runtime.cli.app import app
from langchain_runtime.cli.home import Home
from langchain_runtime.cli.view_server import view_app

WEEKLY = str(Path(__file__).resolve().parents[2] / "examples" / "weekly_brief.yaml")
LCR = Path(sys.executable).with_name("lcr")
PORT = 8000
HERE = f"http://127.0.0.1:{PORT}"

# A shell's background jobs start with Ctrl-C ignored, and so would everything that a test run among them starts.
HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    monkeypatch.setenv("LCR_HOME", str(tmp_path / "home"))
    return Home.locate(None)


def lcr(*arguments: str, exit_code: int = 0):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture
def page(home):
    """A client of the page of a finished run."""
    lcr("run", WEEKLY)
    [record] = home.index().all()
    with TestClient(view_app(home, record, port=PORT), base_url=HERE) as client:
        yield client


def test_the_page_shows_the_tasks_and_the_report(page, home):
    answer = page.get("/")
    assert answer.status_code == 200
    assert home.index().all()[0].run_id in answer.text
    assert "tasks and what they depend on" in answer.text
    assert "Critical path" in answer.text
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": f"evil.example:{PORT}"}, 400),
        ({"host": "127.0.0.1:1"}, 400),
        ({"host": "127.0.0.1"}, 400),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"origin": HERE}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_other_hosts_and_other_pages_are_refused(page, headers, status, path):
    expected = 404 if status == 200 and path != "/" else status
    assert page.get(path, headers=headers).status_code == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(page, method):
    assert page.request(method, "/").status_code == 405
    assert page.request(method, "/news").status_code == 405


@pytest.mark.parametrize("path", ["/../ledger.db", "/%2e%2e/runs.db", "/runs.db", "/etc/passwd"])
def test_no_path_leads_to_a_file(page, path):
    assert page.get(path).status_code == 404


def messages(address: str):
    """What the page is told, as it comes."""
    with urllib.request.urlopen(address, timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def test_the_page_follows_a_run_of_another_process_to_its_end(tmp_path, home, loopback):
    with loopback.serving(tmp_path / "provider.jsonl", latency=1.0) as provider:
        environment = os.environ | {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "x"}
        run = subprocess.Popen(
            [LCR, "run", WEEKLY, "--model", "openai:gpt-4o-mini"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with run:
            assert run.stdout is not None
            run_id = run.stdout.readline().split()[1]
            view = subprocess.Popen(
                [sys.executable, "-c", HEARS_CTRL_C, LCR, "view", "--no-browser"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with view:
                assert view.stdout is not None
                words = view.stdout.readline().split()
                assert words[:3] == ["run", run_id, "at"]
                seen = []
                for fragment in messages(f"{words[3]}news"):
                    seen.append(fragment)
                    if 'class="badge s-completed"' in fragment:
                        break
                foreign = urllib.request.Request(words[3], headers={"Host": "evil.example"})
                with pytest.raises(urllib.error.HTTPError, match="400"):
                    urllib.request.urlopen(foreign, timeout=60)
                view.send_signal(signal.SIGINT)
                rest, _ = view.communicate(timeout=60)
                assert view.returncode == 0, rest
                assert "Traceback" not in rest
            run.communicate(timeout=60)
        assert run.returncode == 0
    assert len(seen) >= 2
    assert any('class="mark m-running"' in fragment for fragment in seen)
    assert "12 completed" in seen[-1]


def test_a_run_that_is_not_there_is_an_error(home):
    assert "there is no run" in lcr("view", "--no-browser", exit_code=2).stderr
    assert "nobody" in lcr("view", "nobody", "--no-browser", exit_code=2).stderr


def test_a_port_that_is_taken_is_an_error(page):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in lcr("view", "--no-browser", "--port", str(port), exit_code=2).stderr
