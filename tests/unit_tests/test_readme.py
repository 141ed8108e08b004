"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs_and_prints(number, capsys):
    exec(compile(EXAMPLES[number], f"README.md example {number}", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert ("does not fit budget 'user:42'" if number == 0 else "Dogs bark at night") in printed


def test_every_file_that_the_readme_links_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    missing = [link for link in links if not (Path(__file__).parents[2] / link).is_file()]
    assert missing == []
