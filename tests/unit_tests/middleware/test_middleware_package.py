"""What the package needs, and says when it is missing."""

import subprocess
import sys

import langchain_runtime.middleware as package


def _in_a_fresh_interpreter(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_langchain_the_error_names_the_extra():
    said = _in_a_fresh_interpreter(
        "import sys\n"
        "sys.modules['langchain'] = None\n"
        "import langchain_runtime.middleware as package\n"
        "try:\n    package.BudgetMiddleware\nexcept ImportError as error:\n    print(error)"
    )
    assert 'pip install "langchain-runtime-layer[agents]"' in said


def test_importing_the_package_does_not_load_langchain():
    loaded = _in_a_fresh_interpreter("import sys, langchain_runtime.middleware; print('langchain' in sys.modules)")
    assert loaded == "False"


def test_its_names():
    assert package.__all__ == ["BudgetMiddleware", "CompactionMiddleware"]
    assert set(package.__all__) <= set(dir(package))
