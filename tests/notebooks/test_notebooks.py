"""Each notebook runs from top to bottom, offline, and shows what its prose says."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

SHOWN = {
    "01_quickstart": [
        "20 calls went out and cost 0.120 USD",
        "3 of 20 calls went out",
        "does not fit budget 'quickstart'",
        "%%budget: spent 0.000135 USD (80 tokens), 0.049865 of 0.05 USD left",
        "spent in this session under %%budget: 0.000135 USD",
        "3 calls, 9 tokens in, 1,200 out, 0.018",
        "Dogs bark at night and guard the house well.",
    ],
    "02_budgets": [
        "11 calls made, 29 refused, spent 0.0660825 USD of 0.07 USD",
        "cut by the budget: True",
        "3 gpt-5.4-nano",
        "Budget reached: a call of openai:gpt-4o",
        "does not fit budget 'not wrapped'",
        "experiments: 0.0999",
    ],
    "03_runs": [
        "plan reports: 5 tasks (9 with their items), 2 at a time",
        "with 6 at a time: ",
        "with openai:gpt-5.4 instead of openai:gpt-5.4-mini on 6 tasks",
        "exit status -9\nWrite to ada\nWrite to bob\nWrite to cleo\nWrite to dan\n",
        "Write to dan\nWrite to dan\nWrite to eve\nWrite to fay\n",
        "tasks     6: 6 completed",
        "'type': 'budget_exceeded'",
        "finished so far: ['day0', 'day1', 'day2']",
        "finished now:    ['day0', 'day1', 'day2', 'day3', 'day4']",
    ],
    "04_context_and_memory": [
        "the code is gone",
        "human: My locker's code is 4711.",
        "{'view': 18",
        "I looked it up: human: My locker's code is 4711.",
        "A letter, short and friendly.",
    ],
    "05_tiers": [
        "all on the flagship: 0.02696 USD",
        "0.0021175 USD -> 0.0001704 USD",
        "together 0.01147185 USD instead of 0.02696 USD: 57% saved",
    ],
    "06_reading_a_run": [
        "task_retried      fetch",
        "critical path (*): ",
        "digest: 4,173 -> 1,000 tokens (offload",
        "fetch      completed",
    ],
}
"""What a reader must see, by notebook."""

PICTURES = {"02_budgets": 1, "04_context_and_memory": 1}
PAGES = {"01_quickstart": 2, "03_runs": 2, "06_reading_a_run": 1}
"""Reports, and displays of progress."""
LOGGED = {"02_budgets": "Error in BudgetCallbackHandler.on_chat_model_start callback: BudgetExceededError"}
"""All that may appear on stderr."""

OFFLINE = """
import socket

_connect = socket.socket.connect


def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a notebook must not reach out to {address}")
    return _connect(self, address)


socket.socket.connect = connect
"""

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def kernel_home():
    """A short path: kernels talk over UNIX sockets below it, since ports that were free a moment ago may be taken."""
    home = Path(tempfile.mkdtemp(prefix="nb"))
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-offline.py").write_text(OFFLINE)
    yield home
    shutil.rmtree(home)


EXECUTE = """
import sys

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

source, target, socket, folder = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
kernel = AsyncKernelManager(transport="ipc", connection_file=socket)
NotebookClient(notebook, km=kernel, timeout=60, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, target)
"""
"""In a process of its own: the client leaves sockets open until its process ends."""


@pytest.fixture
def executed(path, kernel_home, tmp_path):
    own = {"IPYTHONDIR": str(kernel_home / "ipython"), "MPLCONFIGDIR": str(kernel_home / "matplotlib")}
    places = [str(path), str(kernel_home / path.name), str(kernel_home / "kernel.json"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, *places],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(kernel_home / path.name, as_version=4)


@by_name
@pytest.mark.skipif(os.name == "nt", reason="kernels are reached over UNIX sockets, and SIGKILL is sent")
def test_a_notebook_runs_offline_and_shows_what_it_promises(path, executed):
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    silent = [cell.source for cell in cells if _prints(cell.source) and not cell.outputs]
    assert silent == []
    shown = "".join(_text(output) for cell in cells for output in cell.outputs)
    assert [promise for promise in SHOWN[path.stem] if promise not in shown] == []
    kinds = [kind for cell in cells for output in cell.outputs for kind in output.get("data", ())]
    assert kinds.count("image/png") == PICTURES.get(path.stem, 0)
    assert kinds.count("text/html") == PAGES.get(path.stem, 0)
    logged = [o.text for cell in cells for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
    assert [text for text in logged if not (path.stem in LOGGED and LOGGED[path.stem] in text)] == []


def test_every_notebook_says_what_it_shows():
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWN)


@by_name
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}


@by_name
def test_every_file_that_a_notebook_links_is_there(path):
    notebook = nbformat.read(path, as_version=4)
    links = re.findall(r"\]\(([^)#:]+)\)", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    assert links
    assert [link for link in links if not (path.parent / link).is_file()] == []


@by_name
def test_a_notebook_uses_public_names_only(path):
    source = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    modules = set(re.findall(r"^(?:from|import) (langchain_runtime[\w.]*)", source, re.MULTILINE))
    public = {"langchain_runtime", *(f"langchain_runtime.{name}" for name in ("ledgers", "testing", "cost"))}
    public |= {"langchain_runtime.contracts.run", "langchain_runtime.contracts.task_spec"}
    assert modules <= public


def _prints(source: str) -> bool:
    code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    if source.startswith("%%writefile"):
        return True
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
        for statement in ast.parse(code).body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef))
        for call in ast.walk(statement)
    )


def _text(output) -> str:
    return output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")
