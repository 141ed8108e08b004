"""Runs the benchmarks: one file per claim, each measuring us and a peer in the same run.

``python benchmarks/harness.py [--quick | --write] [NAME ...]``. A benchmark is a file ``bench_<name>.py`` beside this
one with ``measure(quick: bool)`` that yields ``Figure``s. Nothing is asserted: a figure says whether its claim held on
this machine, and a slow machine is not a failing test.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent
SHARED = FOLDER.parents[1] / "shared"
"""Recorded data and reference tools, where somebody has them beside the clone."""

LEFT_OUT = "Left out: figures that need ../shared, which was not beside the clone."
NOT_INSTALLED = "peer not installed"
SKIPPED = f"Skipped: {NOT_INSTALLED}; `pip install -e '.[bench]'` has them."
RESULTS = FOLDER / "RESULTS.md"
PACKAGES = ("langchain-runtime-layer", "langchain-core", "langgraph")
PEERS = (
    "agent-budget-guard", "agentbudget", "litellm", "pricetoken", "pydantic-ai-slim", "shekel", "token-budget-py",
    "tokenfence",
)  # fmt: skip
"""Optional distributions that some benchmarks measure beside ours; the extra ``[bench]`` has them."""

COLUMNS = ("claim", "ours", "peer", "ratio", "bound", "verdict", "command")
DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the results.

    Attributes:
        claim: What is measured, with its size.
        ours: Our figure.
        unit: Of both: ``ms``, ``MB``, ``pairs/s``.
        peer: The peer's figure; None where there is none.
        against: Who the peer is.
        bound: What must hold for the ratio ours / peer, or for ours where there is no peer; None for no claim.
        at_least: Whether the bound is a floor rather than a ceiling.
        absolute: Whether the bound is for ours although there is a peer.
        must_hold: The line of the design that the figure answers; empty where it answers none.
    """

    claim: str
    ours: float
    unit: str
    peer: float | None = None
    against: str = ""
    bound: float | None = None
    at_least: bool = False
    absolute: bool = False
    must_hold: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours / peer; None without a peer, or where the peer's figure is zero."""
        return self.ours / self.peer if self.peer else None

    @property
    def verdict(self) -> str:
        """``held``, ``not held``, or a dash where nothing is claimed."""
        if self.bound is None:
            return DASH
        compared = self.ours if self.absolute or self.ratio is None else self.ratio
        held = compared >= self.bound if self.at_least else compared <= self.bound
        return "held" if held else "not held"

    @property
    def cells(self) -> tuple[str, ...]:
        """Claim, ours, peer, ratio, bound and verdict as text, a dash for what there is not."""
        peer = DASH if self.peer is None else f"{_number(self.peer)} {self.unit} ({self.against})"
        ratio = DASH if self.ratio is None else _number(self.ratio)
        bound = DASH
        if self.bound is not None:
            of_ratio = self.ratio is not None and not self.absolute
            subject, unit = ("ratio ", "") if of_ratio else ("", f" {self.unit}")
            bound = f"{subject}{'>=' if self.at_least else '<='} {_number(self.bound)}{unit}"
        return (self.claim, f"{_number(self.ours)} {self.unit}", peer, ratio, bound, self.verdict)

    def __str__(self) -> str:
        claim, ours, peer, ratio, bound, verdict = self.cells
        return f"{claim:<62} {ours:>16}  {peer:<44} {ratio:>8}  {bound:<20} {verdict}"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One line of the results for a comparison whose peer is not on this machine.

    Attributes:
        claim: What would have been measured.
        peer: The distribution to install, as ``pip`` knows it.
        must_hold: The line of the design that the figure would answer; empty where it answers none.
    """

    claim: str
    peer: str
    must_hold: str = ""

    @property
    def verdict(self) -> str:
        """``skipped``: neither held nor not."""
        return "skipped"

    @property
    def cells(self) -> tuple[str, ...]:
        """As a figure's, with the reason in the peer's place."""
        return (self.claim, DASH, f"{NOT_INSTALLED}: {self.peer}", DASH, DASH, self.verdict)

    def __str__(self) -> str:
        return f"{self.claim:<62} {self.verdict:>16}  {NOT_INSTALLED}: {self.peer}"


Row = Figure | Skipped


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def load(path: Path) -> ModuleType:
    """Import a module that is in no package, by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # its type hints are looked up there
    spec.loader.exec_module(module)
    return module


def beside_the_clone(path: str) -> Path | None:
    """A file or folder of ``../shared``; None, and a line that says so, where it is not there."""
    found = SHARED / path
    if found.exists():
        return found
    print(f"not measured: ../shared/{path} is not beside the clone")
    return None


def installed(module: str) -> bool:
    """Whether a peer's top-level module is there; it is not imported."""
    return importlib.util.find_spec(module) is not None


def best_of(rounds: int, *measures: Callable[[], Any]) -> list[Any]:
    """The least figure of each, or tuple of figures, measured in turns: the other rounds were disturbed."""
    turns = [[measure() for measure in measures] for _ in range(rounds)]
    return [min(column) for column in zip(*turns, strict=True)]


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def figures(chosen: Iterable[str], *, quick: bool) -> Iterator[tuple[str, Row]]:
    """Measure; yields each figure with the name of its benchmark."""
    for name in chosen:
        for figure in importlib.import_module(f"bench_{name}").measure(quick):
            yield name, figure


def machine() -> str:
    """What the figures were measured with."""
    load_average = os.getloadavg()[0]
    packages = ", ".join(f"{package} {version(package)}" for package in (*PACKAGES, *_installed_peers()))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores "
        f"(load {load_average:.1f} at the start), Python {platform.python_version()}, {packages}"
    )


def _installed_peers() -> Iterator[str]:
    for peer in PEERS:
        with contextlib.suppress(PackageNotFoundError):
            distribution(peer)
            yield peer


def results(measured: list[tuple[str, Row]], measured_on: str) -> str:
    """The text of ``RESULTS.md``."""
    verdicts = [figure.verdict for _, figure in measured]
    lines = [
        "# Results",
        "",
        "Written by `make bench`: every claim with our figure, the peer's from the same run, and whether it held here.",
        "",
        f"Measured: {measured_on}.",
        f"Claims held: {verdicts.count('held')}, not held: {verdicts.count('not held')}. A dash: nothing is claimed.",
        *([SKIPPED] if "skipped" in verdicts else []),
    ]
    sections = dict.fromkeys(figure.must_hold for _, figure in measured)
    for section in sorted(sections, key=lambda title: title == ""):
        lines += ["", f"## {section or 'Measured besides'}", "", _row(COLUMNS), _row(["---"] * len(COLUMNS))]
        lines += [
            _row([*figure.cells, f"`python benchmarks/harness.py {name}`"])
            for name, figure in measured
            if figure.must_hold == section
        ]
    if not SHARED.is_dir():
        lines += ["", LEFT_OUT]
    return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what is claimed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all unless named: {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} (everything, in full size)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names()):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if arguments.write and (arguments.quick or arguments.names):
        parser.error("--write takes neither names nor --quick: the file holds every figure, in full size")
    # Benchmarks say `from harness import Figure`: they shall get this module, not a second copy of it.
    sys.modules["harness"] = sys.modules[__name__]
    measured_on, measured = machine(), []
    for name, figure in figures(arguments.names or names(), quick=arguments.quick):
        print(figure, flush=True)
        measured.append((name, figure))
    if arguments.write:
        RESULTS.write_text(results(measured, measured_on), encoding="utf-8")


if __name__ == "__main__":
    main()
