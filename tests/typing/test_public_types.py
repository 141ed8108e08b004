"""The public API as a type checker sees it."""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("public_api.py")


def test_mypy_knows_the_types_of_the_public_names(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--warn-unused-ignores",
        "--cache-dir",
        str(tmp_path),
        str(CASES),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CASES.parents[2])
    assert checked.returncode == 0, checked.stdout + checked.stderr
