"""``%%budget`` and ``%budget`` in a real IPython shell, driven as its kernel does it."""

import pickle
import re

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import langchain_runtime
from langchain_runtime import with_budget
from langchain_runtime.testing import ScriptedChatModel

PRICED = {"scripted": "openai:gpt-4o-mini"}
ONE_CALL = 2_100
"""Nano-USD of a call: two tokens in at 0.15 USD, three out at 0.60 USD for a million."""


class Notebook:
    """A shell with the extension, and a model in it, wrapped and as it is."""

    def __init__(self, capsys):
        self.shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        self.model = ScriptedChatModel(script=["It is sunny."], max_tokens=100)
        self.wrapped = with_budget(self.model, None, price_as=PRICED)
        self.shell.push({"model": self.model, "wrapped": self.wrapped})
        self._capsys = capsys

    async def run(self, source):
        """Execute a cell; returns its result and all that it showed."""
        transformed = self.shell.transform_cell(source)
        result = await self.shell.run_cell_async(source, store_history=True, transformed_cell=transformed)
        shown = self._capsys.readouterr()
        return result, re.sub(r"\x1b\[[\d;]*m", "", shown.out + shown.err)

    @property
    def spent(self):
        """Nano-USD of the session."""
        session = self.shell.magics_manager.registry["BudgetMagics"].session
        return sum(spending.figures()[0].nano for spending in session._spendings.values())

    @property
    def calls(self):
        return len(self.model.calls)


@pytest.fixture
async def notebook(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = Notebook(capsys)
    await made.run("%load_ext langchain_runtime")
    yield made
    await made.run("%unload_ext langchain_runtime")


async def test_a_cell_charges_its_budget_and_says_what_is_left(notebook):
    result, shown = await notebook.run("%%budget 0.50\nreply = wrapped.invoke('Hello')")
    assert result.success
    assert shown == "%%budget: spent 0.000002 USD (5 tokens), 0.499998 of 0.50 USD left\n"
    assert notebook.spent == ONE_CALL


async def test_a_cell_may_await_and_start_tasks(notebook):
    result, shown = await notebook.run(
        "%%budget 0.50\nimport asyncio\n"
        "first = await wrapped.ainvoke('Hello')\n"
        "rest = await asyncio.gather(*(asyncio.create_task(wrapped.ainvoke('Hello')) for _ in range(3)))\n"
        "len(rest)"
    )
    assert result.result == 3
    assert notebook.calls == 4
    assert "(20 tokens)" in shown


@pytest.mark.parametrize(
    ("cell", "shown_value"),
    [("1 + 1", True), ("1 + 1;", False), ("two = 1 + 1", False), ("1 + 1\nthree = 3", False)],
)
async def test_the_last_expression_is_shown_as_in_any_cell(notebook, cell, shown_value):
    result, shown = await notebook.run(f"%%budget 0.50\n{cell}")
    assert result.success
    assert ("2" in shown.splitlines()[0] and not shown.startswith("%%")) is shown_value
    assert shown.splitlines()[-1].startswith("%%budget: spent 0.00 USD")


@pytest.mark.parametrize(("setting", "values"), [("all", ["1", "2"]), ("last_expr", ["2"]), ("none", [])])
async def test_the_shells_setting_says_which_values_are_shown(notebook, setting, values):
    notebook.shell.ast_node_interactivity = setting
    _, shown = await notebook.run("%%budget 0.50\n1\n2")
    assert [line.rpartition(" ")[2] for line in shown.splitlines() if line[:1] != "%"] == values


async def test_a_refusal_is_a_sentence_with_its_line_and_nothing_is_sent(notebook):
    result, shown = await notebook.run("%%budget 0.00001\nx = 1\n\nwrapped.invoke('Hello')\ny = 2")
    assert not result.success
    assert notebook.calls == 0
    assert "BudgetExceededError (line 4 of the cell): a call of openai:gpt-4o-mini needs up to" in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 3  # the budget's line, the sentence, the hint
    assert "y" not in notebook.shell.user_ns
    assert pickle.loads(pickle.dumps(result.error_in_exec)).scope == result.error_in_exec.scope


async def test_other_errors_keep_their_traceback_and_line(notebook):
    result, shown = await notebook.run("%%budget 0.50\nx = 1\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "----> 3" in shown
    assert "%%budget: spent 0.00 USD" in shown


async def test_a_model_that_is_not_wrapped_is_charged_too(notebook):
    _, shown = await notebook.run("%%budget 0.50 --price-as scripted=openai:gpt-4o-mini\nreply = model.invoke('Hello')")
    assert "spent 0.000002 USD (5 tokens)" in shown


async def test_a_model_that_is_not_wrapped_is_refused_before_it_is_called(notebook):
    result, shown = await notebook.run("%%budget 0.0001 --price-as scripted=openai:gpt-4o-mini\nmodel.invoke('Hello')")
    assert type(result.error_in_exec).__name__ == "BudgetExceededError"
    assert notebook.calls == 0
    assert "Error in" not in shown  # LangChain's log of the same


async def test_a_model_without_a_price_is_refused_and_under_warn_only_counted(notebook):
    result, shown = await notebook.run("%%budget 0.50\nmodel.invoke('Hello')")
    assert "UnpricedModelError (line 2 of the cell)" in shown
    assert notebook.calls == 0
    result, shown = await notebook.run("%%budget 0.50 --on-exceed warn\nreply = model.invoke('Hello')")
    assert result.success
    assert "(5 tokens), 0.50 of 0.50 USD left, 1 call without a known price" in shown


async def test_warn_blocks_nothing_and_says_by_how_much_it_was_too_much(notebook):
    result, shown = await notebook.run(
        "%%budget 0.000001 --on-exceed warn\nreplies = [wrapped.invoke('Hello') for _ in range(3)]"
    )
    assert result.success
    assert notebook.calls == 3
    assert "over the limit of 0.000001 USD" in shown


async def test_chains_batches_and_graphs_in_a_cell_are_charged_once(notebook):
    await notebook.run(
        "from langchain_core.prompts import ChatPromptTemplate\nfrom langchain_runtime import RunGraph\n"
        "chain = ChatPromptTemplate.from_template('{it}') | wrapped\n"
        "graph = RunGraph(model=wrapped).add_task('a', prompt='Hello').compile()"
    )
    result, shown = await notebook.run(
        "%%budget 0.50\nreplies = chain.batch([{'it': 'Hello'}] * 3)\n"
        "def body(inputs):\n    return model.invoke('Hello').text\n"
        "output = graph.invoke({'inputs': {}})\n"
        "output = await graph.ainvoke({'inputs': {}})"
    )
    assert result.success
    assert notebook.calls == 5
    assert "(25 tokens)" in shown


async def test_a_model_that_a_task_calls_unwrapped_is_charged_once(notebook):
    await notebook.run(
        "from langchain_runtime import RunGraph\n"
        "graph = RunGraph().add_task('a', lambda inputs: model.invoke('Hello').text)"
        ".compile(price_as={'scripted': 'openai:gpt-4o-mini'})"
    )
    _, shown = await notebook.run(
        "%%budget 0.50 --price-as scripted=openai:gpt-4o-mini\noutput = graph.invoke({'inputs': {}})"
    )
    assert "(5 tokens)" in shown


async def test_cells_that_name_a_scope_share_it(notebook):
    await notebook.run("%%budget 0.50 --scope test-shared\nreply = wrapped.invoke('Hello')")
    _, shown = await notebook.run("%%budget 0.50 --scope test-shared\nreply = wrapped.invoke('Hello')")
    assert "this cell spent 0.000002 USD (5 tokens), test-shared: 0.499996 of 0.50 USD left" in shown
    result, shown = await notebook.run("%%budget 0.70 --scope test-shared\nreply = wrapped.invoke('Hello')")
    assert not result.success
    assert "UsageError: %%budget: scope 'test-shared' is open with a limit of 0.50 USD" in shown
    assert notebook.calls == 2


async def test_a_cell_without_a_scope_has_a_budget_of_its_own_each_time(notebook):
    cell = "%%budget 0.50\nreply = wrapped.invoke('Hello')"
    shown = [(await notebook.run(cell))[1] for _ in range(3)]
    assert shown == ["%%budget: spent 0.000002 USD (5 tokens), 0.499998 of 0.50 USD left\n"] * 3
    silent = await notebook.shell.run_cell_async(
        cell, store_history=False, transformed_cell=notebook.shell.transform_cell(cell)
    )
    assert silent.success  # IPython did not count it


async def test_what_follows_a_cell_is_not_charged_even_if_the_cell_failed(notebook):
    await notebook.run("%%budget 0.50\nwrapped.invoke('Hello')\n1 / 0")
    before = notebook.spent
    await notebook.run("reply = wrapped.invoke('Hello')")
    assert notebook.calls == 2
    assert notebook.spent == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "%%budget needs an amount"),
        ("abc", "'abc' is not a decimal number"),
        ("-1", "unrecognized arguments|positive|required"),
        ("0", "a budget must be positive"),
        ("0.5 XXL", "unknown currency 'XXL'"),
        ("0.5 --on-exceed wait", "invalid choice: 'wait'"),
        ("0.5 --frob", "unrecognized arguments: --frob"),
        ("0.5 'x", "No closing quotation"),
        ("0.5 --price-as gpt", "'gpt' is not MODEL=MODEL"),
    ],
)
async def test_a_wrong_argument_is_a_usage_error_and_the_cell_does_not_run(notebook, line, said):
    result, shown = await notebook.run(f"%%budget {line}\nran = True")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert any(part in shown for part in said.split("|"))
    assert "ran" not in notebook.shell.user_ns


async def test_amounts_have_a_currency_and_may_have_a_dollar_sign(notebook):
    assert "0.50 of 0.50 EUR left" in (await notebook.run("%%budget 0.50 eur\n1"))[1]
    assert "0.50 of 0.50 USD left" in (await notebook.run("%%budget $0.50\n1"))[1]
    _, shown = await notebook.run("%%budget 0.50 EUR\nwrapped.invoke('Hello')")
    assert "CurrencyMismatchError (line 2 of the cell)" in shown


async def test_the_session_adds_up_its_cells_and_what_was_called_outside(notebook):
    assert (await notebook.run("%budget"))[1] == "spent in this session under %%budget: nothing (0 tokens)\n"
    await notebook.run("%%budget 0.50 --scope test-session\nreply = wrapped.invoke('Hello')")
    await notebook.run("%%budget 0.50\nreply = wrapped.invoke('Hello')")
    await notebook.run("reply = model.invoke('Hello')")
    _, shown = await notebook.run("%budget")
    assert "spent in this session under %%budget: 0.000004 USD (10 tokens)" in shown
    assert "test-session  0.000002 USD, 0.499998 of 0.50 USD left" in shown
    assert "outside, at list price: 1 call, 2 tokens in, 3 out, cost unknown" in shown


async def test_a_long_session_shows_its_latest_cells(notebook):
    for _ in range(14):
        await notebook.run("%%budget 0.50\nreply = wrapped.invoke('Hello')")
    lines = (await notebook.run("%budget"))[1].splitlines()
    assert len(lines) == 14
    assert lines[-1] == "  and 2 earlier budgets"


async def test_percent_budget_with_an_amount_says_that_it_takes_two_percent_signs(notebook):
    _, shown = await notebook.run("%budget 0.50")
    assert "write %%budget 0.50 in its first line" in shown


async def test_percent_reset_does_not_break_the_magic(notebook):
    await notebook.run("%reset -f")
    assert (await notebook.run("%%budget 0.50\n40 + 2"))[0].result == 42


async def test_magics_work_around_it_inside_it_and_below_it(notebook):
    _, shown = await notebook.run("%%time\n%%budget 0.50\nreply = wrapped.invoke('Hello')")
    assert "(5 tokens)" in shown
    _, shown = await notebook.run("%%budget 0.50\n%%time\nreply = wrapped.invoke('Hello')")
    assert "(5 tokens)" in shown
    result, shown = await notebook.run("%%budget 0.50\nhere = %pwd\nbool(here)")
    assert result.result is True
    notebook.shell.run_cell_magic("budget", "0.50", "reply = wrapped.invoke('Hello')")
    assert notebook.calls == 3


async def test_help_and_completeness_are_those_of_any_cell_magic(notebook):
    _, shown = await notebook.run("%%budget?")
    assert "--on-exceed" in shown
    assert notebook.shell.check_complete("%%budget 0.50")[0] == "incomplete"
    assert notebook.shell.check_complete("%%budget 0.50\n1\n\n")[0] == "complete"
    assert (await notebook.run("%%budgets 0.50\n1"))[0].success is not True


async def test_an_empty_cell_is_no_error(notebook):
    assert (await notebook.run("%%budget 0.50"))[0].success


async def test_loading_twice_changes_nothing_and_unloading_takes_everything_back(notebook):
    before = list(notebook.shell.ast_transformers)
    langchain_runtime.load_ipython_extension(notebook.shell)
    assert notebook.shell.ast_transformers == before
    await notebook.run("%unload_ext langchain_runtime")
    assert "not found" in (await notebook.run("%budget"))[1]
    assert "not found" in (await notebook.run("%%budget 0.50\nx = 1"))[1]
    assert notebook.shell.ast_transformers == []
    await notebook.run("%load_ext langchain_runtime")
    assert "nothing" in (await notebook.run("%budget"))[1]
