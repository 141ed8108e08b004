"""Whatever makes another model out of a budgeted one: it charges the same budget, or refuses to call."""

import copy
import pickle
import warnings

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.load import dumpd, load
from langchain_core.runnables import ConfigurableField
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_runtime.chat_models import BudgetedChatModel, with_budget
from langchain_runtime.chat_models.budgeted import budgeted_class
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetNotSetError, InvalidInputError
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger, default_ledger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

REPLY = 17_000


class Person(BaseModel):
    """A person."""

    name: str


@pytest.mark.parametrize(
    "make",
    [
        copy.copy,
        copy.deepcopy,
        lambda model: model.model_copy(),
        lambda model: model.model_copy(update={"temperature": 0.5}),
        lambda model: model.model_copy(deep=True),
        lambda model: model.bind(stop=["never"]),
        lambda model: model.with_config(tags=["a"]),
        lambda model: model.with_retry(retry_if_exception_type=(ConnectionError,)),
        lambda model: model.configurable_fields(temperature=ConfigurableField(id="t")).with_config(
            configurable={"t": 0.5}
        ),
        lambda model: model.configurable_alternatives(ConfigurableField(id="which"), other=model).with_config(
            configurable={"which": "other"}
        ),
    ],
    ids=["copy", "deepcopy", "model_copy", "update", "deep", "bind", "config", "retry", "fields", "alternatives"],
)
def test_a_copy_charges_the_same_budget(desk, make):
    make(desk.model()).invoke("hello")
    assert desk.spent == REPLY


def test_retrying_what_the_budget_refuses_is_warned_of(desk):
    with pytest.warns(UserWarning, match="try calls again that the budget refuses"):
        desk.model().with_retry()
    desk.model().with_retry(retry_if_exception_type=(ConnectionError, TimeoutError))  # warnings are errors here


def test_a_pickle_charges_the_same_ledger_file(tmp_path):
    model = with_budget(
        ScriptedChatModel(model="gpt-5-mini", provider="openai"),
        Budget.usd("1", scope="s"),
        ledger=SqliteLedger(tmp_path / "ledger.db"),
    )
    revived = pickle.loads(pickle.dumps(model))
    assert isinstance(revived, BudgetedChatModel)
    assert isinstance(revived, ScriptedChatModel)
    revived.invoke("hello")
    assert SqliteLedger(tmp_path / "ledger.db").balance("s").spent_nano > 0


def test_a_pickle_of_the_default_ledger_charges_it():
    model = with_budget(ScriptedChatModel(model="gpt-5-mini", provider="openai"), Budget.usd("1", scope="pickled"))
    pickle.loads(pickle.dumps(model)).invoke("hello")
    assert default_ledger().balance("pickled").spent_nano > 0


def test_a_ledger_that_cannot_be_pickled_keeps_the_model_from_it():
    model = with_budget(ScriptedChatModel(), Budget.usd("1"), ledger=InMemoryLedger())
    with pytest.raises(InvalidInputError, match="cannot be pickled"):
        pickle.dumps(model)


@pytest.mark.filterwarnings("ignore")  # of load: it is beta
def test_serialisation_never_gives_an_unbudgeted_model():
    model = with_budget(ChatOpenAI(model="gpt-5-mini", api_key="x"), Budget.usd("1"), ledger=InMemoryLedger())
    serialised = dumpd(model)
    assert serialised["type"] == "not_implemented"
    with pytest.raises(NotImplementedError):
        load(serialised, allowed_objects="all")
    assert "lcr_guard" not in model.model_dump()
    assert "lcr_guard" not in repr(model)


def test_a_model_that_lost_its_budget_refuses_every_call():
    model = budgeted_class(ScriptedChatModel)()
    with pytest.raises(BudgetNotSetError):
        model.invoke("hello")
    with pytest.raises(BudgetNotSetError):
        next(model.stream("hello"))
    assert model.calls == []


def test_the_class_is_the_models_own_and_made_once(desk):
    model = desk.model()
    assert isinstance(model, ScriptedChatModel)
    assert isinstance(model, BudgetedChatModel)
    assert type(model) is type(desk.model()) is budgeted_class(ScriptedChatModel)
    assert type(model).__name__ == "ScriptedChatModel"
    assert not isinstance(desk.provider, BudgetedChatModel)


def test_the_model_passed_in_is_left_as_it_is():
    model = ChatOpenAI(model="gpt-5-mini", api_key="x", base_url="http://127.0.0.1:9/v1")
    budgeted = with_budget(model, Budget.usd("1"), ledger=InMemoryLedger())
    assert model.max_retries is None
    assert model.root_client.max_retries == 2
    assert model.stream_usage is None
    assert budgeted.root_client.max_retries == budgeted.root_async_client.max_retries == 0
    assert budgeted.client._client.max_retries == 0
    assert budgeted.stream_usage is True
    assert budgeted.lcr_guard.retries == 2


def test_the_clients_of_anthropic_stop_retrying():
    model = ChatAnthropic(model="claude-haiku-4-5", api_key="x", max_retries=5)
    assert model._client.max_retries == 5
    budgeted = with_budget(model, Budget.usd("1"), ledger=InMemoryLedger())
    assert budgeted._client.max_retries == budgeted._async_client.max_retries == 0
    assert budgeted.lcr_guard.retries == 5
    assert model._client.max_retries == 5


def test_reconfigured_clients_still_send_one_request_per_call():
    model = with_budget(ChatOpenAI(model="gpt-5-mini", api_key="x"), Budget.usd("1"), ledger=InMemoryLedger())
    chosen = model.configurable_fields(temperature=ConfigurableField(id="t")).with_config(configurable={"t": 1})
    bound, _ = chosen.prepare()
    assert isinstance(bound, BudgetedChatModel)
    assert bound.root_client.max_retries == 0
    assert bound.lcr_guard is model.lcr_guard


def test_tools_and_structured_output_are_charged(desk):
    model = desk.model(script=[{"name": "Ada"}])
    assert model.with_structured_output(Person).invoke("who?") == Person(name="Ada")
    assert model.bind_tools([Person]).invoke("who?").tool_calls[0]["args"] == {"name": "Ada"}
    assert desk.requests == 2
    assert desk.spent > 0


def test_an_unbudgeted_fallback_is_warned_of(desk):
    with pytest.warns(UserWarning, match="has no budget"):
        desk.model().with_fallbacks([ScriptedChatModel().bind(stop=["x"])])


def test_a_budgeted_fallback_is_fine(desk):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        desk.model().with_fallbacks([desk.model()])


@pytest.mark.parametrize("chain", [ScriptedChatModel().bind(stop=["x"]), ScriptedChatModel() | str, "gpt-5"])
def test_only_chat_models_can_be_wrapped(chain):
    with pytest.raises(InvalidInputError, match="wraps chat models"):
        with_budget(chain, Budget.usd("1"))
