"""The plugin as users have it: in pytest sessions of their own, where the installed package brings it."""

import re
import xml.etree.ElementTree as ET

import pytest

# Loaded here so that the sessions below find them, and do not make second copies of what is registered once.
from langchain_runtime import BudgetMiddleware, RunGraph
from langchain_runtime.testing import ScriptedChatModel, llm_spending, pytest_plugin

pytest_plugins = ["pytester"]

USED = (BudgetMiddleware, RunGraph, ScriptedChatModel, llm_spending, pytest_plugin)

HEAD = """
import asyncio
import pytest
from langchain_runtime import Budget, BudgetExceededError, RunGraph, budget_scope, with_budget
from langchain_runtime.testing import ScriptedChatModel

PRICED = {"scripted": "openai:gpt-4o-mini"}
model = ScriptedChatModel(script=["It is sunny."], max_tokens=1_000)  # 0.0000021 USD, and 0.0006 at most
wrapped = with_budget(model, None, price_as=PRICED)
"""


@pytest.fixture
def session(pytester, monkeypatch):
    """Runs tests in a session of their own; further arguments are pytest's."""
    for name in ("CI", "BUILD_NUMBER"):  # there pytest's summary repeats whole messages
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")

    def run(tests, *arguments, subprocess=False):
        pytester.makepyfile(HEAD + tests)
        start = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        return start("--strict-markers", "-p", "no:cacheprovider", *arguments)

    return run


def failures(result):
    """What the failed tests said, without white space that depends on the terminal."""
    return re.sub(r"\s+", " ", result.stdout.str())


def test_a_test_that_costs_less_passes_and_is_listed(session):
    result = session("""
def test_cheap(llm_budget):
    with llm_budget("0.01") as budget:
        wrapped.invoke("Hello")
        assert str(budget.spent) == "0.0000021 USD"
    assert budget.tokens == 5
""")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*what tests cost*",
            "0.000002 of 0.01 USD  5 tokens  test_a_test_that_costs_less_passes_and_is_listed.py::test_cheap",
            "together 0.0000021 USD",
        ]
    )


def test_a_call_that_does_not_fit_is_refused_before_it_is_made(session):
    result = session("""
def test_dear(llm_budget):
    with llm_budget("0.0001"):
        wrapped.invoke("Hello")

def test_it_was_not_called():
    assert model.calls == []
""")
    result.assert_outcomes(failed=1, passed=1)
    said = failures(result)
    assert "llm_budget: refused in line 12: a call of openai:gpt-4o-mini may cost up to 0.0006" in said
    assert "and of 0.0001 USD this test has spent 0.00 USD" in said
    assert "Traceback" not in said
    assert "During handling" not in said


@pytest.mark.parametrize(
    "test",
    [
        'def test_it(llm_budget):\n    llm_budget("0.0001")\n    wrapped.invoke("Hello")',
        'async def test_it(llm_budget):\n    llm_budget("0.0001")\n    await wrapped.ainvoke("Hello")',
        'async def test_it(llm_budget):\n    with llm_budget("0.0001"):\n        await wrapped.ainvoke("Hello")',
        '@pytest.mark.llm_budget("0.0001")\ndef test_it():\n    wrapped.invoke("Hello")',
        '@pytest.mark.llm_budget("0.0001")\nasync def test_it():\n    await asyncio.gather(wrapped.ainvoke("Hello"))',
        '@pytest.mark.llm_budget("0.0001")\nclass TestIt:\n    def test_it(self):\n        wrapped.invoke("Hello")',
        '@pytest.fixture\ndef low(llm_budget):\n    llm_budget("0.0001")\n\ndef test_it(low):\n    wrapped.invoke("")',
    ],
    ids=["rest", "async-rest", "async-with", "marker", "async-marker", "class-marker", "fixture"],
)
def test_each_form_of_a_budget_refuses_and_ends_with_its_test(session, test):
    result = session(f'{test}\n\n\ndef test_next():\n    wrapped.invoke("Hello")\n')
    result.assert_outcomes(failed=1, passed=1)
    assert "llm_budget: refused in line" in failures(result)


def test_a_marker_holds_for_unittest_classes_too(session):
    result = session("""
import unittest

@pytest.mark.llm_budget("0.0001")
class TestIt(unittest.TestCase):
    def test_dear(self):
        wrapped.invoke("Hello")

    def test_catches(self):
        with self.assertRaises(BudgetExceededError):
            wrapped.invoke("Hello")

def test_next():
    wrapped.invoke("Hello")
""")
    result.assert_outcomes(failed=2, passed=1)


def test_each_form_of_a_budget_lets_pass_what_fits(session):
    result = session("""
@pytest.mark.llm_budget("0.01")
def test_marker():
    wrapped.batch(["Hello"] * 3)

@pytest.mark.llm_budget("0.01")
async def test_async_marker():
    await wrapped.ainvoke("Hello")

@pytest.mark.llm_budget("0.0001")
class TestClass:
    @pytest.mark.llm_budget("0.01")
    def test_the_closest_marker_counts(self):
        wrapped.invoke("Hello")

def test_rest(llm_budget):
    llm_budget("0.01")
    wrapped.invoke("Hello")

@pytest.mark.llm_budget("0.01")
def test_graph():
    RunGraph(model=wrapped).add_task("a", prompt="Hello").compile().invoke({"inputs": {}})
""")
    result.assert_outcomes(passed=5)
    tokens = {test: used for used, test in re.findall(r"(\d+) tokens  \S+::(\w+)\n", result.stdout.str())}
    assert tokens == {
        "test_marker": "15",
        "test_async_marker": "5",
        "test_the_closest_marker_counts": "5",
        "test_rest": "5",
        "test_graph": "5",
    }


def test_a_refusal_that_the_code_under_test_catches_fails_the_test_all_the_same(session):
    result = session("""
def forgiving():
    try:
        return wrapped.invoke("Hello")
    except BudgetExceededError:
        return None

@pytest.mark.llm_budget("0.0001")
def test_it():
    forgiving()

@pytest.mark.llm_budget("0.0001")
def test_it_then_fails_for_that():
    assert forgiving() is not None
""")
    result.assert_outcomes(failed=2)
    assert failures(result).count("llm_budget: refused in line 12") == 2
    assert "assert None is not None" in failures(result)


def test_refusals_by_other_budgets_are_the_tests_own_business(session):
    result = session("""
@pytest.mark.llm_budget("0.01")
def test_it():
    with budget_scope(Budget.usd("0.0001")), pytest.raises(BudgetExceededError):
        wrapped.invoke("Hello")

@pytest.mark.llm_budget("0.01")
def test_not_caught():
    with budget_scope(Budget.usd("0.0001", scope="theirs")):
        wrapped.invoke("Hello")
""")
    result.assert_outcomes(passed=1, failed=1)
    assert "does not fit budget 'theirs'" in failures(result)
    assert "llm_budget: refused" not in failures(result)


def test_models_that_are_not_wrapped_are_counted(session):
    result = session("""
@pytest.mark.llm_budget("0.00001", price_as=PRICED)
def test_within():
    model.batch(["Hello"] * 4)

@pytest.mark.llm_budget("0.00001", price_as=PRICED)
def test_beyond():
    model.batch(["Hello"] * 5)

@pytest.mark.llm_budget("0.00001", price_as=PRICED)
def test_both_kinds_add_up():
    with budget_scope(Budget.usd("1")):  # changes nothing for models that it does not see
        model.batch(["Hello"] * 5)

@pytest.mark.llm_budget("0.0007", price_as=PRICED)
async def test_both_kinds():
    wrapped.invoke("Hello")
    await model.ainvoke("Hello")
""")
    result.assert_outcomes(passed=2, failed=2)
    assert "llm_budget: this test cost 0.0000105 USD (25 tokens), more than 0.00001 USD" in failures(result)
    result.stdout.fnmatch_lines(["0.000004 of 0.0007 * 10 tokens *::test_both_kinds"])


def test_an_unknown_price_is_no_low_price(session):
    result = session("""
@pytest.mark.llm_budget("0.01")
def test_it():
    model.invoke("Hello")
""")
    result.assert_outcomes(failed=1)
    assert "1 call of scripted:scripted-1 without a known price" in failures(result)
    assert "price_as=" in failures(result)
    result.stdout.fnmatch_lines(["- of 0.01 USD  5 tokens  *::test_it"])


def test_warn_lets_the_test_run_and_fails_it_afterwards(session):
    result = session("""
def test_it(llm_budget):
    with llm_budget("0.000001", on_exceed="warn"):
        wrapped.invoke("Hello")
        wrapped.invoke("Hello")
""")
    result.assert_outcomes(failed=1)
    assert "this test cost 0.0000042 USD (10 tokens), more than 0.000001 USD" in failures(result)


def test_budgets_of_one_test_nest_and_follow_one_another(session):
    result = session("""
def test_it(llm_budget):
    llm_budget("0.01")
    with llm_budget("0.005") as inner:
        wrapped.invoke("Hello")
    wrapped.invoke("Hello")
    assert inner.tokens == 5

def test_two(llm_budget):
    for _ in range(2):
        with llm_budget("0.01"):
            wrapped.invoke("Hello")

def test_inner_refuses(llm_budget):
    llm_budget("0.01")
    with llm_budget("0.0001"):
        wrapped.invoke("Hello")
""")
    result.assert_outcomes(passed=2, failed=1)
    listed = re.findall(r"of (\S+) +USD +(\d+) tokens  \S+::(\w+)", result.stdout.str())
    assert sorted(listed) == [
        ("0.01", "0", "test_inner_refuses"),
        ("0.01", "10", "test_it"),
        ("0.02", "10", "test_two"),
    ]


def test_skips_expected_failures_and_failed_setups_leave_no_budget_behind(session):
    result = session("""
@pytest.mark.llm_budget("0.0001")
def test_skips():
    pytest.skip("not today")

@pytest.mark.llm_budget("0.0001")
def test_fails():
    pytest.fail("no")

@pytest.mark.llm_budget("0.0001")
@pytest.mark.xfail(strict=True)
def test_too_dear_as_expected():
    wrapped.invoke("Hello")

@pytest.fixture
def money(llm_budget):
    llm_budget("0.0001")

@pytest.fixture
def broken(money):
    raise RuntimeError

def test_setup(broken):
    pass

def test_free():
    wrapped.invoke("Hello")
""")
    result.assert_outcomes(skipped=1, failed=1, xfailed=1, errors=1, passed=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("llm_budget(0.01)", "a money amount must not be a float, got 0.01 (write it as a string or Decimal"),
        ("llm_budget('0')", "a budget must be positive"),
        ("llm_budget('1', 'XXL')", "unknown currency 'XXL'"),
        ("llm_budget('1', on_exceed='wait')", "on_exceed must be one of cap, raise, warn, got 'wait'"),
    ],
)
def test_a_wrong_argument_fails_the_test_with_a_sentence(session, call, said):
    result = session(f"def test_it(llm_budget):\n    {call}\n")
    result.assert_outcomes(failed=1)
    assert f"llm_budget: {said}" in failures(result)


def test_a_marker_without_an_amount_says_so(session):
    result = session("@pytest.mark.llm_budget\ndef test_it():\n    pass\n")
    result.assert_outcomes(failed=1)
    assert 'the marker needs an amount: @pytest.mark.llm_budget("0.01")' in failures(result)


def test_prices_in_another_currency_are_not_added_up(session):
    result = session("""
@pytest.mark.llm_budget("1", "EUR", price_as=PRICED)
def test_it():
    model.invoke("Hello")

def test_two_currencies(llm_budget):
    with llm_budget("1"):
        wrapped.invoke("Hello")
    with llm_budget("1", "EUR"):
        pass
""")
    result.assert_outcomes(failed=1, passed=1)
    assert "cannot combine EUR with USD" in failures(result)
    assert "test_two_currencies" not in result.stdout.str().partition("what tests cost")[2].partition("short test")[0]


def test_without_budgets_there_is_no_summary_and_nothing_is_loaded(session):
    result = session("def test_it():\n    pass\n")
    assert "what tests cost" not in result.stdout.str()


def test_the_plugin_alone_imports_nothing_heavy(pytester):
    pytester.makepyfile(
        "import sys\n\ndef test_it():\n"
        "    assert 'langchain_runtime.testing.pytest_plugin' in sys.modules\n"
        "    assert not {'langchain_core', 'langgraph', 'pydantic'} & set(sys.modules)\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:langsmith_plugin", "-p", "no:cacheprovider", "-p", "no:anyio")
    result.assert_outcomes(passed=1)


def test_under_xdist_the_controller_lists_what_all_workers_spent(session):
    result = session(
        "@pytest.mark.llm_budget('0.01')\n@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(n):\n    wrapped.batch(['Hello'] * n)\n",
        "-n",
        "2",
        subprocess=True,
    )
    result.assert_outcomes(passed=4)
    assert re.findall(r"(\d+) tokens  \S+\[(\d)\]", result.stdout.str()) == [
        ("15", "3"),
        ("10", "2"),
        ("5", "1"),
        ("0", "0"),
    ]
    result.stdout.fnmatch_lines(["together 0.0000126 USD"])


def test_costs_are_properties_of_junit_reports(session, pytester):
    session('@pytest.mark.llm_budget("0.01")\ndef test_it():\n    wrapped.invoke("Hello")\n', "--junit-xml=report.xml")
    properties = ET.parse(pytester.path / "report.xml").iter("property")
    assert {each.get("name"): each.get("value") for each in properties} == {
        "llm_cost": "0.0000021 USD",
        "llm_limit": "0.01 USD",
        "llm_tokens": "5",
    }
