"""BudgetCallbackHandler: refuses before anything is sent, never loses a reply, and charges each scope once."""

import asyncio
import gc
import logging
import warnings
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool

from langchain_runtime.adapters.account import Account, budget_scope, paying
from langchain_runtime.callbacks import BudgetCallbackHandler, UsageCallbackHandler
from langchain_runtime.callbacks import budget as budget_callback
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, ReservationState
from langchain_runtime.contracts.errors import (
    BudgetExceededError,
    CurrencyMismatchError,
    EstimationError,
    InvalidInputError,
    LedgerUnavailableError,
    UnpricedModelError,
)
from langchain_runtime.contracts.events import BudgetRefused, CallReserved, CallSettled
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger

CALL = 17_000
"""Nano-USD of a call with two tokens in and three out."""

HOLD = (100 + 16 + 5) * 1_000 + 100 * 5_000
"""Worst case of "hello" in one attempt: what with_budget holds for the same call."""

NAMED = {"ls_provider": "scripted", "ls_model_name": "scripted-1"}


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Desk:
    def __init__(self, catalog):
        self.clock = Clock()
        self.ledger = InMemoryLedger(clock=self.clock)
        self.catalog = catalog

    def guard(self, limit="1", *, scope="s", **options):
        fields = {key: options.pop(key) for key in ("on_exceed", "token_limit") if key in options}
        budget = Budget.usd(limit, scope=scope, **fields) if limit else Budget(None, scope=scope, **fields)
        wanted = {"ledger": self.ledger, "catalog": self.catalog, "attempts": 1, **options}
        return BudgetCallbackHandler(budget, **wanted)

    def books(self, scope="s"):
        return self.ledger.balance(scope)

    def spent(self, scope="s"):
        assert self.books(scope).held_nano == 0, "money is still held"
        return self.books(scope).spent_nano


@pytest.fixture
def desk(catalog):
    return Desk(catalog)


def using(*handlers):
    return {"callbacks": list(handlers)}


def usd(nano):
    return str(Cost.from_nano(nano).amount)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def coroutines_left_behind():
    """A handler that raises in async code leaves coroutines in which LangChain would have asked the others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine 'ahandle_event' was never awaited", RuntimeWarning)
        yield
        gc.collect()


# --- every way to call -----------------------------------------------------------------------------------------------


async def call_invoke(model, config):
    model.invoke("hello", config=config)


async def call_ainvoke(model, config):
    await model.ainvoke("hello", config=config)


async def call_stream(model, config):
    list(model.stream("hello", config=config))


async def call_astream(model, config):
    assert [chunk async for chunk in model.astream("hello", config=config)]


async def call_batch(model, config):
    model.batch(["hello"], config=config)


async def call_abatch(model, config):
    await model.abatch(["hello"], config=config)


async def call_events(model, config):
    assert [event async for event in model.astream_events("hello", config=config, version="v2")]


async def call_chain(model, config):
    await (ChatPromptTemplate.from_template("{word}") | model).ainvoke({"word": "hello"}, config=config)


async def call_parallel(model, config):
    RunnableParallel(only=model).invoke("hello", config=config)


async def call_agent(model, config):
    await create_agent(model, []).ainvoke({"messages": [("user", "hello")]}, config=config)


ways = pytest.mark.parametrize(
    "way",
    [
        call_invoke, call_ainvoke, call_stream, call_astream, call_batch, call_abatch, call_events, call_chain,
        call_parallel, call_agent,
    ],
)  # fmt: skip


@ways
async def test_a_call_that_fits_is_settled_by_its_usage(desk, scripted, way):
    await way(scripted(), using(desk.guard(usd(HOLD))))
    assert desk.spent() == CALL


@ways
@pytest.mark.usefixtures("coroutines_left_behind")
async def test_a_call_that_does_not_fit_is_never_sent(desk, scripted, way):
    model = scripted()
    with pytest.raises(BudgetExceededError) as refused:
        await way(model, using(desk.guard(usd(HOLD - 1))))
    assert model.calls == []
    assert (refused.value.scope, refused.value.needed.nano, desk.spent()) == ("s", HOLD, 0)


@ways
async def test_a_budget_that_warns_records_and_refuses_nothing(desk, scripted, way):
    await way(scripted(), using(desk.guard("0.000000001", on_exceed="warn")))
    assert desk.spent() == CALL


async def test_it_holds_the_worst_case_while_the_call_is_in_flight(desk, scripted):
    held = []
    model = scripted(hook=lambda *_: held.append(desk.books().held_nano))
    model.invoke("hello", config=using(desk.guard()))
    assert held == [HOLD]


def test_an_agent_with_tools_is_charged_for_each_call(desk, scripted):
    model = scripted(script=[{"a": 1, "b": 2}, "three"])
    create_agent(model, [add]).invoke({"messages": [("user", "hello")]}, config=using(desk.guard()))
    assert len(model.calls) == 2
    usage = UsageCallbackHandler(catalog=desk.catalog)
    again = scripted(script=[{"a": 1, "b": 2}, "three"])
    create_agent(again, [add]).invoke({"messages": [("user", "hello")]}, config=using(usage))
    assert desk.spent() == usage.total.cost.nano


# --- the worst case --------------------------------------------------------------------------------------------------


def held_for(desk, model, *, guard=None, **options):
    held = []
    watched = model.model_copy(update={"hook": lambda *_: held.append(desk.books().held_nano)})
    watched.invoke("hello", config=using(guard or desk.guard()), **options)
    return held[0]


def test_tools_count_as_input(desk, scripted):
    plain = held_for(desk, scripted())
    offered = held_for(desk, scripted(), tools=[{"type": "function", "function": {"name": "add" * 100}}])
    assert offered > plain + 300 * 1_000


def test_every_attempt_is_held(desk, scripted):
    assert held_for(desk, scripted(), guard=desk.guard(attempts=None)) == 3 * HOLD
    assert held_for(desk, scripted(), guard=desk.guard(attempts=2)) == 2 * HOLD


def test_every_choice_is_held(desk, scripted):
    assert held_for(desk, scripted(), n=3) == HOLD + 2 * 100 * 5_000


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"])
def test_the_largest_cap_that_is_announced_counts(desk, scripted, name):
    assert held_for(desk, scripted(), **{name: 200}) == HOLD + 100 * 5_000


def test_a_cap_hidden_in_the_body_counts(desk, scripted):
    assert held_for(desk, scripted(), extra_body={"max_tokens": 200}) >= HOLD + 100 * 5_000


def test_without_a_cap_the_catalogues_limit_holds(scripted):
    entry = {"input": "1", "output": "5", "max_output_tokens": 70}
    desk = Desk(ModelCatalog({"models": {"scripted-1": entry}}))
    assert held_for(desk, scripted(max_tokens=None)) == HOLD - 30 * 5_000


def test_without_any_cap_the_call_is_refused(desk, scripted):
    model = scripted(max_tokens=None)
    with pytest.raises(EstimationError, match="scripted:scripted-1 announces no output cap") as refused:
        model.invoke("hello", config=using(desk.guard()))
    assert "max_tokens" in refused.value.hint
    assert (model.calls, desk.spent()) == ([], 0)


@pytest.mark.parametrize(
    "hiding", [{"previous_response_id": "r1"}, {"tools": [{"type": "web_search"}]}, {"extra_body": {"prompt": "p1"}}]
)
def test_input_that_is_not_in_the_request_is_refused(desk, scripted, hiding):
    model = scripted()
    with pytest.raises(EstimationError, match="not in the request"):
        model.invoke("hello", config=using(desk.guard()), **hiding)
    assert model.calls == []


def test_a_picture_is_refused(desk, scripted):
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}])
    with pytest.raises(EstimationError):
        scripted().invoke([picture], config=using(desk.guard()))


def test_a_model_without_a_price_is_refused_and_a_price_to_go_by_lets_it_pass(desk, scripted):
    with pytest.raises(UnpricedModelError):
        scripted(model="unheard-of").invoke("hello", config=using(desk.guard()))
    guard = desk.guard(price_as={"unheard-of": "scripted-1"})
    assert held_for(desk, scripted(model="unheard-of"), guard=guard) == HOLD


def test_a_price_in_another_currency_is_refused(scripted):
    desk = Desk(ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5", "currency": "EUR"}}}))
    model = scripted()
    with pytest.raises(CurrencyMismatchError):
        model.invoke("hello", config=using(desk.guard()))
    assert model.calls == []


def test_a_token_limit_needs_no_price_and_holds_every_token(desk, scripted):
    guard = desk.guard(None, token_limit=221)
    scripted(model="unheard-of").invoke("hello", config=using(guard))
    assert (desk.spent(), desk.books().tokens_spent) == (0, 5)
    with pytest.raises(BudgetExceededError):
        scripted(model="unheard-of").invoke("hello", config=using(guard))


def test_a_budget_without_a_limit_only_tracks(desk, scripted):
    guard = desk.guard(None)
    scripted(max_tokens=None).invoke("hello", config=using(guard), previous_response_id="r1")
    scripted(model="unheard-of").invoke("hello", config=using(guard))
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}])
    scripted().invoke([picture], config=using(guard))
    assert desk.books().tokens_spent == 5 + 5 + 4
    assert desk.spent() == CALL + 16_000


def test_a_text_completion_model_is_refused_where_something_is_limited(desk, caplog):
    with pytest.raises(InvalidInputError, match="text-completion"):
        FakeListLLM(responses=["ok"]).invoke("hello", config=using(desk.guard()))
    with caplog.at_level(logging.WARNING):
        FakeListLLM(responses=["ok"]).invoke("hello", config=using(desk.guard(None, scope="tracked")))
    assert "not charged to any budget" in caplog.text


def test_books_that_cannot_be_reached_let_nothing_through(desk, scripted, monkeypatch):
    guard, model = desk.guard(), scripted()

    def closed(_hold):
        raise LedgerUnavailableError("closed")

    monkeypatch.setattr(desk.ledger, "reserve", closed)
    with pytest.raises(LedgerUnavailableError):
        model.invoke("hello", config=using(guard))
    assert model.calls == []


# --- how calls end ---------------------------------------------------------------------------------------------------


class HTTPError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status_code = status


def test_an_http_error_gives_the_hold_back(desk, scripted):
    with pytest.raises(HTTPError):
        scripted(script=[HTTPError(500)]).invoke("hello", config=using(desk.guard()))
    assert desk.spent() == 0


async def test_any_other_failure_costs_the_full_hold(desk, scripted):
    with pytest.raises(ConnectionResetError):
        scripted(script=[ConnectionResetError()]).invoke("hello", config=using(desk.guard()))
    with pytest.raises(ConnectionResetError):
        async for _ in scripted(fails_after=1).astream("hello", config=using(desk.guard())):
            pass
    assert desk.spent() == 2 * HOLD


def test_an_http_error_in_the_middle_of_a_stream_costs_the_full_hold(desk, scripted):
    with pytest.raises(HTTPError):
        list(scripted(fails_after=1, error_in_stream=HTTPError(500)).stream("hello", config=using(desk.guard())))
    assert desk.spent() == HOLD


async def test_a_stream_that_its_consumer_left_costs_the_full_hold_until_it_has_reported(desk, scripted):
    for _ in scripted().stream("hello", config=using(desk.guard())):
        break
    assert desk.spent() == HOLD
    stream = scripted().astream("hello", config=using(desk.guard(scope="late")))
    async for chunk in stream:
        if chunk.usage_metadata:
            break
    await stream.aclose()
    assert desk.spent("late") == CALL


async def test_a_cancelled_stream_costs_the_full_hold(desk, scripted):
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(*_):
        begun.set()
        await never.wait()

    async def consume():
        async for _ in scripted(hook=hang).astream("hello", config=using(desk.guard())):
            pass

    task = asyncio.ensure_future(consume())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.spent() == HOLD


async def test_a_cancelled_ainvoke_is_charged_in_full_when_its_lease_is_over(desk, scripted):
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(*_):
        begun.set()
        await never.wait()

    guard = desk.guard(lease_seconds=30)
    task = asyncio.ensure_future(scripted(hook=hang).ainvoke("hello", config=using(guard)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Whatever else of this process is renewed, this is not.
    with_budget(scripted(), Budget.usd("1", scope="other"), ledger=desk.ledger, catalog=desk.catalog).invoke("hello")
    assert (desk.books().held_nano, desk.books().spent_nano) == (HOLD, 0)
    desk.clock.now += 31
    assert (desk.spent(), desk.books().forfeited_nano) == (HOLD, HOLD)


def test_a_call_that_outlives_its_lease_is_corrected_by_its_end(desk, scripted):
    seen = []

    def slowly(*_):
        desk.clock.now += 31
        seen.append(desk.books().forfeited_nano)

    scripted(hook=slowly).invoke("hello", config=using(desk.guard(lease_seconds=30)))
    assert seen == [HOLD]
    assert (desk.spent(), desk.books().forfeited_nano) == (CALL, 0)


async def test_replies_from_the_response_cache_cost_nothing(desk, scripted):
    model, guard = scripted(cache=InMemoryCache()), desk.guard()
    for _ in range(3):
        model.invoke("hello", config=using(guard))
    await model.ainvoke("hello", config=using(guard))
    model.generate([[HumanMessage("other")], [HumanMessage("other")]], callbacks=[guard])
    assert len(model.calls) == 2
    assert desk.spent() == 2 * CALL


def announce(guard, run_id, **fields):
    params = {"max_tokens": 100}
    guard.on_chat_model_start({}, [[HumanMessage("hello")]], run_id=run_id, metadata=NAMED, invocation_params=params)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"input_tokens": -5, "output_tokens": 1, "total_tokens": -4},
        {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        {"input_tokens": 10**12, "output_tokens": 1, "total_tokens": 10**12 + 1},
        {"input_tokens": 1, "output_tokens": 1, "input_token_details": "many"},
        {"input_tokens": 1, "output_tokens": 1, "input_token_details": {"audio": 1}},
    ],
)
def test_missing_and_absurd_usage_costs_the_full_hold(desk, usage):
    guard, run_id, message = desk.guard(), uuid4(), AIMessage("ok")
    message.usage_metadata = usage
    announce(guard, run_id)
    guard.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run_id)
    assert desk.spent() == HOLD


def test_a_provider_that_never_reports_costs_the_full_hold_and_the_reply_arrives(desk, scripted):
    assert scripted(reports_usage=False).invoke("hello", config=using(desk.guard())).text == "one two three"
    assert desk.spent() == HOLD


def test_a_reply_without_generations_costs_the_full_hold(desk):
    guard, run_id = desk.guard(), uuid4()
    announce(guard, run_id)
    guard.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    assert desk.spent() == HOLD


@pytest.mark.parametrize("broken", [LedgerUnavailableError("gone"), OSError("worse")])
def test_a_reply_arrives_though_it_cannot_be_settled(desk, scripted, monkeypatch, broken, caplog):
    def gone(*_):
        raise broken

    monkeypatch.setattr(desk.ledger, "settle", gone)
    assert scripted().invoke("hello", config=using(desk.guard(lease_seconds=30))).text == "one two three"
    assert "lease" in caplog.text or "full hold" in caplog.text
    desk.clock.now += 31
    assert desk.spent() == HOLD


def test_the_end_of_a_call_that_never_began_is_ignored(desk):
    guard = desk.guard()
    guard.on_llm_end(LLMResult(generations=[]), run_id=uuid4())
    guard.on_llm_error(ValueError(), run_id=uuid4())
    assert desk.spent() == 0


# --- nothing is charged twice, and nothing that was not sent ---------------------------------------------------------


def test_a_handler_that_is_handed_over_twice_charges_once(desk, scripted):
    guard = desk.guard()
    model = scripted(callbacks=[guard])
    assert held_for(desk, model, guard=guard) == HOLD
    (ChatPromptTemplate.from_template("{w}") | model).invoke({"w": "hello"}, config=using(guard))
    assert desk.spent() == 2 * CALL


def test_two_handlers_of_one_budget_charge_it_once(desk, scripted):
    scripted().invoke("hello", config=using(desk.guard(), desk.guard()))
    assert desk.spent() == CALL


def test_scopes_around_a_call_are_charged_once_whatever_handlers_there_are(desk, scripted):
    with budget_scope(Budget.usd("1", scope="block"), ledger=desk.ledger):
        scripted().invoke("hello", config=using(desk.guard(scope="user"), desk.guard(scope="tenant")))
    assert [desk.spent(scope) for scope in ("block", "user", "tenant")] == [CALL] * 3


def test_a_scope_around_the_call_refuses_and_waits_for_nobody(desk, scripted):
    model = scripted()
    for wish in ("raise", "wait", "interrupt", "downgrade"):
        budget = Budget.usd(usd(HOLD - 1), scope=wish, on_exceed=wish)
        with budget_scope(budget, ledger=desk.ledger), pytest.raises(BudgetExceededError):
            model.invoke("hello", config=using(desk.guard()))
    assert (model.calls, desk.spent()) == ([], 0)


def test_a_scope_in_another_ledger_is_charged_too_or_nothing_is(desk, scripted):
    elsewhere = InMemoryLedger()
    with budget_scope(Budget.usd(usd(HOLD), scope="s"), ledger=elsewhere):
        scripted().invoke("hello", config=using(desk.guard()))
        with pytest.raises(BudgetExceededError):
            scripted().invoke("hello", config=using(desk.guard()))
    assert (desk.spent(), elsewhere.balance("s").spent_nano, elsewhere.balance("s").held_nano) == (CALL, CALL, 0)


def test_what_one_handler_holds_is_given_back_when_another_refuses(desk, scripted):
    user, tenant = desk.guard(scope="user"), desk.guard(usd(HOLD - 1), scope="tenant")
    with pytest.raises(BudgetExceededError):
        scripted().invoke("hello", config=using(user, tenant))
    assert (desk.spent("user"), desk.spent("tenant")) == (0, 0)


@pytest.mark.usefixtures("coroutines_left_behind")
async def test_a_generate_whose_second_prompt_is_refused_holds_nothing_for_the_first(desk, scripted):
    guard, model = desk.guard(usd(HOLD)), scripted()
    prompts = [[HumanMessage("hello")], [HumanMessage("hello")]]
    with pytest.raises(BudgetExceededError):
        model.generate(prompts, callbacks=[guard])
    assert desk.spent() == 0
    with pytest.raises(BudgetExceededError):
        await model.agenerate(prompts, callbacks=[guard])
    assert (desk.spent(), model.calls) == (0, [])


def test_a_refused_prompt_leaves_other_calls_in_flight_alone(desk, scripted):
    guard, refusals = desk.guard(usd(3 * HOLD)), []

    def refuse_two_prompts(*_):
        with pytest.raises(BudgetExceededError) as refused:
            scripted().generate([[HumanMessage("hello")]] * 3, callbacks=[guard])
        refusals.append(refused.value)

    scripted(hook=refuse_two_prompts).invoke("hello", config=using(guard))
    assert len(refusals) == 1
    assert refusals[0].held.nano == 3 * HOLD
    assert desk.spent() == CALL


def test_a_budgeted_model_of_the_same_scope_is_charged_once(desk, scripted):
    budget = Budget.usd("1", scope="s")
    model = with_budget(scripted(), budget, ledger=desk.ledger, catalog=desk.catalog)
    model.invoke("hello", config=using(desk.guard()))
    with budget_scope(Budget.usd("1", scope="block"), ledger=desk.ledger):
        list(model.stream("hello", config=using(desk.guard())))
    assert (desk.spent(), desk.spent("block")) == (2 * CALL, CALL)


def test_a_budgeted_model_of_another_scope_is_charged_by_both(desk, scripted):
    model = with_budget(scripted(), Budget.usd("1", scope="own"), ledger=desk.ledger, catalog=desk.catalog)
    with budget_scope(Budget.usd("1", scope="block"), ledger=desk.ledger):
        model.invoke("hello", config=using(desk.guard(scope="handler")))
    assert [desk.spent(scope) for scope in ("own", "block", "handler")] == [CALL] * 3


def test_a_scope_of_the_same_name_in_another_ledger_is_another_budget(desk, scripted):
    elsewhere = InMemoryLedger()
    model = with_budget(scripted(), Budget.usd("1", scope="s"), ledger=elsewhere, catalog=desk.catalog)
    model.invoke("hello", config=using(desk.guard()))
    assert (desk.spent(), elsewhere.balance("s").spent_nano) == (CALL, CALL)


def test_the_budget_around_a_block_is_charged_once_for_a_budgeted_model(desk, scripted):
    model = with_budget(scripted(), None, catalog=desk.catalog)
    with budget_scope(Budget.usd("1", scope="s"), ledger=desk.ledger):
        model.invoke("hello", config=using(desk.guard()))
    assert desk.spent() == CALL


def test_what_a_budgeted_model_refuses_itself_costs_nothing(desk, scripted):
    model = with_budget(scripted(), Budget.usd(usd(HOLD - 1), scope="own", on_exceed="raise"), catalog=desk.catalog)
    with pytest.raises(BudgetExceededError):
        model.invoke("hello", config=using(desk.guard()))
    assert desk.spent() == 0


def test_retries_of_a_budgeted_model_are_held(desk, scripted):
    model = with_budget(scripted(), Budget.usd("1", scope="own"), ledger=desk.ledger, catalog=desk.catalog)
    assert held_for(desk, model, guard=desk.guard(attempts=None)) == 3 * HOLD


def test_a_call_that_somebody_elses_handler_stops_is_charged_when_its_lease_is_over(desk, scripted):
    class Stop(BaseCallbackHandler):
        raise_error = run_inline = True

        def on_chat_model_start(self, *_args, **_kwargs):
            raise PermissionError

    with pytest.raises(PermissionError):
        scripted().invoke("hello", config=using(desk.guard(lease_seconds=30), Stop()))
    assert desk.books().held_nano == HOLD
    desk.clock.now += 31
    assert desk.spent() == HOLD


def test_the_other_prompts_of_a_generate_that_fails_are_charged_when_their_lease_is_over(desk, scripted):
    model = scripted(script=["one", ConnectionResetError(), "three"])
    with pytest.raises(ConnectionResetError):
        model.generate([[HumanMessage("hello")]] * 3, callbacks=[desk.guard(lease_seconds=30)])
    assert (desk.books().spent_nano, desk.books().held_nano) == (HOLD, 2 * HOLD)
    desk.clock.now += 31
    assert desk.spent() == 3 * HOLD


def test_nothing_is_remembered_of_calls_that_ended(desk, scripted):
    before = len(budget_callback._open.all())
    guard = desk.guard()
    scripted().batch(["hello"] * 20, config=using(guard, desk.guard(scope="t")))
    with pytest.raises(BudgetExceededError):
        scripted().invoke("hello", config=using(guard, desk.guard("0.0001", scope="u")))
    assert len(budget_callback._open.all()) == before


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_call_in_a_run_is_kept_in_its_books_and_told(desk, scripted):
    events = []
    run_budget = desk.guard(scope="run:r1").scope.budget
    account = Account(ledger=desk.ledger, budgets=(run_budget,), run_id="r1", task_id="t1", on_event=events.append)
    with paying(account):
        scripted().invoke("hello", config=using(desk.guard()))
        with pytest.raises(BudgetExceededError):
            scripted().invoke("hello", max_tokens=10**6, config=using(desk.guard()))
        with pytest.raises(HTTPError):
            scripted(script=[HTTPError(500)]).invoke("hello", config=using(desk.guard()))
    settled, released = desk.ledger.reservations("r1")
    assert (settled.state, settled.charged_nano, settled.hold.task_id) == (ReservationState.SETTLED, CALL, "t1")
    assert released.state is ReservationState.RELEASED
    kinds = [type(event) for event in events]
    assert kinds == [CallReserved, CallSettled, BudgetRefused, CallReserved, CallSettled]
    assert [events[0].worst_case.nano, events[1].cost.nano, events[4].cost.nano] == [HOLD, CALL, 0]
    assert desk.spent() == desk.spent("run:r1") == CALL


def test_a_call_in_a_run_without_a_price_is_told_without_one(desk, scripted):
    events = []
    with paying(Account(ledger=desk.ledger, run_id="r1", on_event=events.append)):
        scripted(model="unheard-of").invoke("hello", config=using(desk.guard(None)))
    assert [events[0].worst_case, events[1].cost, events[1].usage.output] == [None, None, 3]


# --- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["wait", "interrupt", "downgrade"])
def test_what_a_callback_cannot_do_is_refused_at_construction(desk, wish):
    with pytest.raises(InvalidInputError, match=f"cannot carry out on_exceed='{wish}'") as refused:
        desk.guard(on_exceed=wish)
    assert "with_budget" in refused.value.hint


@pytest.mark.parametrize("options", [{"attempts": 0}, {"lease_seconds": 0}])
def test_impossible_options_are_refused(desk, options):
    with pytest.raises(InvalidInputError):
        desk.guard(**options)


def test_only_a_budget_will_do():
    with pytest.raises(InvalidInputError, match="needs a Budget"):
        BudgetCallbackHandler("0.50")


def test_the_same_scope_with_another_limit_is_refused(desk):
    desk.guard("1")
    with pytest.raises(InvalidInputError):
        desk.guard("2")


def test_its_books_can_be_read(desk, scripted):
    guard = desk.guard()
    scripted().invoke("hello", config=using(guard))
    assert (guard.scope.spent, guard.scope.limit) == (Cost.from_nano(CALL), Cost.usd("1"))


async def test_it_works_beside_a_usage_callback(desk, scripted):
    usage = UsageCallbackHandler(catalog=desk.catalog)
    await scripted().ainvoke("hello", config=using(usage, desk.guard()))
    assert usage.total.cost.nano == desk.spent() == CALL
