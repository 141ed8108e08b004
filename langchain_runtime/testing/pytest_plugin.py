"""What a test may spend on model calls: the fixture and the marker ``llm_budget``, and a summary of what tests cost.

Installed with the package. pytest imports it in every session, so it imports nothing else until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from langchain_runtime.testing.llm_spending import SpendingBlock, SpendingOfTest

_SPENDING: Final = pytest.StashKey["SpendingOfTest"]()
_COST, _LIMIT, _TOKENS = "llm_cost", "llm_limit", "llm_tokens"
"""Properties of a test's report: they reach xdist's controller and JUnit files."""


class LLMBudget:
    """The fixture ``llm_budget``.

    ::

        def test_answers(llm_budget):
            with llm_budget("0.01"):  # or without `with`: until the end of the test
                assert "sunny" in answer("How is the weather?")

    Or ``@pytest.mark.llm_budget("0.01")``. The test fails if it would cost more: models under ``with_budget`` are
    refused before they are called (also where the code under test catches the refusal), all other models are counted
    at list price. A ``RunGraph`` that swallows failures (``raise_on_failure=False``) swallows refusals, too.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __call__(self, amount: Any, currency: str = "USD", **options: Any) -> SpendingBlock:
        """Open a budget until the end of a ``with`` block, or else of the test.

        Args:
            amount: Most that the calls may cost, as a string: ``"0.01"``.
            currency: ISO 4217 code.
            **options: ``on_exceed``: ``cap`` (default) shortens replies of wrapped models until they fit and then
                refuses, ``raise`` refuses, ``warn`` refuses nothing and fails the test afterwards; ``price_as``:
                catalogue models to price unwrapped models as.

        Returns:
            A handle with ``spent`` and ``tokens``.
        """
        return _spending_of(self._item).open(amount, currency, **options)


@pytest.fixture
def llm_budget(request: pytest.FixtureRequest) -> Iterator[LLMBudget]:
    """A function that limits what the test may spend; see ``LLMBudget``."""
    item: pytest.Item = request.node
    yield LLMBudget(item)
    if _SPENDING in item.stash:
        item.stash[_SPENDING].drop()  # a setup that failed leaves its budgets open


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "llm_budget(amount, currency='USD', on_exceed='cap', price_as=None): what the test's model calls may cost",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Put the test under its marker's budget, and judge what it spent."""
    marker = item.get_closest_marker("llm_budget")
    if marker is not None:
        if not marker.args:
            pytest.fail('llm_budget: the marker needs an amount: @pytest.mark.llm_budget("0.01")', pytrace=False)
        _spending_of(item).open(*marker.args, **marker.kwargs)
    try:
        result = yield
    except BaseException as error:  # what pytest.skip, fail and xfail raise are no exceptions
        _end(item, error)
        raise
    _end(item, None)
    return result


def _spending_of(item: pytest.Item) -> SpendingOfTest:
    if _SPENDING not in item.stash:
        from langchain_runtime.testing.llm_spending import SpendingOfTest  # noqa: PLC0415 - see the module

        item.stash[_SPENDING] = SpendingOfTest(str(item.path))
    return item.stash[_SPENDING]


def _end(item: pytest.Item, error: BaseException | None) -> None:
    spending = item.stash.get(_SPENDING, None)
    if spending is None:
        return
    try:
        spending.close(error)
    finally:
        if spending.figures is not None:
            spent, limit, tokens = spending.figures
            cost = "unknown" if spent is None else str(spent)
            item.user_properties += [(_COST, cost), (_LIMIT, str(limit)), (_TOKENS, tokens)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what tests cost, dearest first."""
    rows = [row for reports in terminalreporter.stats.values() for report in reports if (row := _row(report))]
    if not rows:
        return
    from langchain_runtime.testing.llm_spending import summary_lines  # noqa: PLC0415 - see the module

    terminalreporter.write_sep("=", "what tests cost")
    for line in summary_lines(rows):
        terminalreporter.write_line(line)


def _row(report: Any) -> tuple[str, str, str, int] | None:
    known = dict(getattr(report, "user_properties", ()))
    if getattr(report, "when", None) != "call" or _COST not in known:
        return None
    return report.nodeid, known[_COST], known[_LIMIT], known[_TOKENS]
