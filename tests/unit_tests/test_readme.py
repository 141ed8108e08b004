"""The examples of the README and of the guides run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
GUIDES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
GUIDE_EXAMPLES = [
    (name, example)
    for name, guide in GUIDES.items()
    for example in re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
]


def test_there_are_examples():
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs_and_prints(number, capsys):
    exec(compile(EXAMPLES[number], f"README.md example {number}", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert ("does not fit budget 'user:42'" if number == 0 else "Dogs bark at night") in printed


@pytest.mark.parametrize("number", range(len(GUIDE_EXAMPLES)))
def test_an_example_of_a_guide_runs_and_prints(number, capsys):
    name, example = GUIDE_EXAMPLES[number]
    exec(compile(example, f"{name} example", "exec"), {"__name__": "guide"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in GUIDES)])
def test_every_file_that_a_page_links_is_there(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).is_file()]
    assert missing == []
