"""Runs the benchmarks: one file per claim, each measuring us and a peer in the same run.

``python benchmarks/harness.py [--quick] [NAME ...]``. A benchmark is a file ``bench_<name>.py`` beside this one with
``measure(quick: bool)`` that yields ``Figure``s. Nothing is asserted: a figure says whether its claim held on this
machine, and a slow machine is not a failing test.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Figure:
    """One line of the results.

    Attributes:
        claim: What is measured, with its size.
        ours: Our figure.
        peer: The peer's figure; None where the claim is absolute.
        unit: Of both: ``ms``, ``MB``, ``pairs/s``.
        against: Who the peer is.
        bound: What must hold for the ratio ours / peer, or for ours where there is no peer; None for no claim.
        at_least: Whether the bound is a floor rather than a ceiling.
    """

    claim: str
    ours: float
    unit: str
    peer: float | None = None
    against: str = ""
    bound: float | None = None
    at_least: bool = False

    @property
    def compared(self) -> float:
        """What the bound is about."""
        return self.ours if self.peer is None else self.ours / self.peer

    @property
    def verdict(self) -> str:
        """``held``, ``not held``, or nothing where nothing is claimed."""
        if self.bound is None:
            return ""
        held = self.compared >= self.bound if self.at_least else self.compared <= self.bound
        return "held" if held else "not held"

    def __str__(self) -> str:
        peer = "" if self.peer is None else f"{self.against} {self.peer:,.3g} {self.unit}, ratio {self.compared:.3g}"
        bound = "" if self.bound is None else f"{'>=' if self.at_least else '<='} {self.bound:g} {self.verdict}"
        return f"{self.claim:<60} {self.ours:>10,.4g} {self.unit:<8} {peer:<44} {bound}".rstrip()


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest of several rounds: the others were disturbed."""
    fastest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def load(path: Path) -> ModuleType:
    """Import a benchmark by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # type hints are looked up there
    spec.loader.exec_module(module)
    return module


def figures(names: list[str], *, quick: bool) -> Iterator[Figure]:
    """Measure the named benchmarks, or all of them."""
    for path in sorted(FOLDER.glob("bench_*.py")):
        if not names or path.stem.removeprefix("bench_") in names:
            yield from load(path).measure(quick)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what is claimed.")
    parser.add_argument("names", nargs="*", help="benchmarks to run: all unless named")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    arguments = parser.parse_args()
    # Benchmarks say `from harness import Figure`: they shall get this module, not a second copy of it.
    sys.modules["harness"] = sys.modules[__name__]
    for figure in figures(arguments.names, quick=arguments.quick):
        print(figure, flush=True)


if __name__ == "__main__":
    main()
