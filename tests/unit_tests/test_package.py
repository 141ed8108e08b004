"""What `import langchain_runtime` does: nothing but offer names."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import langchain_runtime


def _in_a_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NEEDS = {
    "langchain": ("agents", {"BudgetMiddleware", "CompactionMiddleware"}),
    "langchain_classic": ("classic", {"CompactingMemory"}),
}
"""Public names by the optional package that they need, and the extra that brings it."""

HEAVY = ["genai_prices", "langchain", "langgraph", "rich", "tiktoken", "typer", "yaml"]


def test_importing_the_package_loads_nothing_heavy():
    loaded = _in_a_fresh_interpreter(
        f"import sys, langchain_runtime; print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == "[]"


def test_importing_the_package_loads_itself_and_the_standard_library_alone():
    loaded = _in_a_fresh_interpreter(
        "import sys; before = set(sys.modules); import langchain_runtime\n"
        "new = {name for name in set(sys.modules) - before if name.partition('.')[0] not in sys.stdlib_module_names}\n"
        "print(sorted(new))"
    )
    assert loaded == str([f"langchain_runtime{name}" for name in ("", ".contracts", ".contracts.lazy_exports")])


def test_help_loads_neither_langchain_nor_the_graph():
    loaded = _in_a_fresh_interpreter(
        "import sys\n"
        "sys.argv = ['lcr', '--help']\n"
        "from langchain_runtime.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('langchain_core', 'langgraph', 'genai_prices', 'pydantic') if name in sys.modules])"
    )
    assert loaded.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(["typer", "rich"], id="cli"),
        pytest.param(["langchain"], id="agents"),
        pytest.param(["langchain_classic"], id="classic"),
        pytest.param(["bpe_openai"], id="offline"),
        pytest.param(["langchain_openai", "langchain_anthropic", "openai", "anthropic"], id="provider-clients"),
        pytest.param(["matplotlib", "IPython"], id="notebook"),
    ],
)
def test_every_public_name_is_there_without_optional_packages(missing):
    without = set().union(*(names for package, (_, names) in NEEDS.items() if package in missing))
    _in_a_fresh_interpreter(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing}))\n"
        "import langchain_runtime\n"
        f"for name in set(langchain_runtime.__all__) - {without}:\n"
        "    getattr(langchain_runtime, name)\n"
    )


@pytest.mark.parametrize(
    ("package", "extra", "name"),
    [(package, extra, name) for package, (extra, names) in NEEDS.items() for name in sorted(names)],
)
def test_a_name_that_needs_an_extra_says_which(package, extra, name):
    said = _in_a_fresh_interpreter(
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "import langchain_runtime\n"
        f"try:\n    langchain_runtime.{name}\nexcept ImportError as error:\n    print(error)\n"
    )
    assert f'pip install "langchain-runtime-layer[{extra}]"' in said


def test_the_command_line_names_the_extra_when_its_packages_are_missing():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['typer'] = None; from langchain_runtime.cli import main; main()",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "error[missing_extra]" in done.stderr
    assert "langchain-runtime-layer[cli]" in done.stderr


def test_public_names_are_sorted_and_all_exist():
    names = langchain_runtime.__all__
    assert names == sorted(names)
    assert all(hasattr(langchain_runtime, name) for name in names)


def test_the_version_is_the_distributions():
    assert langchain_runtime.__version__ == version("langchain-runtime-layer")
