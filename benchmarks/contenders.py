"""How each library holds a budget, written as its documentation says: what the race in ``bench_budget_race`` runs.

A contender is an asynchronous context manager that takes a ``Race`` and yields one call. The call is made, or raises
``RefusedError``; whatever a library raises on its limit is translated, any other error is a fault of the benchmark.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_openai import ChatOpenAI
from loopback import INPUT, LONGEST, MODEL, OUTPUT, serving

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost.encodings import load_encoding
from langchain_runtime.ledgers import InMemoryLedger

PROMPT = "Write as much as you may."
MESSAGES = [{"role": "user", "content": PROMPT}]
KEY = "none"
SCOPE = "race"
AMPLE = Decimal(1_000)
"""USD that no race can spend."""


Call = Callable[[], Awaitable[Any]]


class RefusedError(Exception):
    """A call that was not made, or whose reply the library did not hand out, because of the limit."""


@dataclass(frozen=True)
class Race:
    """What every contender is given.

    Attributes:
        base_url: Of the provider.
        limit: USD.
        fitting: How many calls that is at worst, for those who count calls.
        cap: Most output tokens that a call asks for; None to ask for no limit.
        calls: How many there will be.
    """

    base_url: str
    limit: Decimal
    fitting: int
    cap: int | None
    calls: int

    def request(self) -> dict[str, Any]:
        """Arguments for a chat completion."""
        return {"model": MODEL, "messages": MESSAGES, **({} if self.cap is None else {"max_tokens": self.cap})}

    def chat_model(self) -> ChatOpenAI:
        """LangChain's model for it."""
        return ChatOpenAI(model=MODEL, base_url=self.base_url, api_key=KEY, max_tokens=self.cap)


@dataclass(frozen=True)
class Contender:
    """A way to hold a budget.

    Attributes:
        name: As in the results.
        enter: Begins a budget.
        module: What must be installed; empty where nothing more is needed.
        distribution: The module's name for ``pip``.
        reserves: Whether it sets money aside before a call.
    """

    name: str
    enter: Callable[[Race], AbstractAsyncContextManager[Call]]
    module: str = ""
    distribution: str = ""
    reserves: bool = False


@contextmanager
def refusals(*kinds: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise RefusedError from error


def cost(read: int, written: int) -> Decimal:
    """USD."""
    return Decimal(read * INPUT + written * OUTPUT).scaleb(-9)


def worst_case(cap: int | None) -> Decimal:
    """USD that our bound sets aside for a call: what it is charged where the provider does not say what it used."""
    with serving(together=1, reports_usage=False) as provider:
        race = Race(provider.base_url, limit=AMPLE, fitting=1, cap=cap, calls=1)
        ledger = InMemoryLedger()
        with_budget(race.chat_model(), Budget(Cost(race.limit), scope=SCOPE), ledger=ledger).invoke(PROMPT)
        return Cost.from_nano(ledger.balance(SCOPE).spent_nano).amount


@asynccontextmanager
async def ours(race: Race) -> AsyncIterator[Call]:
    budget = Budget(Cost(race.limit), scope=SCOPE, on_exceed="raise")
    model = with_budget(race.chat_model(), budget, ledger=InMemoryLedger())

    async def call() -> None:
        with refusals(BudgetExceededError):
            await model.ainvoke(PROMPT)

    yield call


@asynccontextmanager
async def counter(race: Race) -> AsyncIterator[Call]:
    """A number of one's own, looked at before each call and added to after it."""
    model, spent = race.chat_model(), Decimal(0)

    async def call() -> None:
        nonlocal spent
        if spent >= race.limit:
            raise RefusedError
        used = (await model.ainvoke(PROMPT)).usage_metadata
        spent += cost(used["input_tokens"], used["output_tokens"])

    yield call


@asynccontextmanager
async def usage_callback(race: Race) -> AsyncIterator[Call]:
    """The same with the usage that LangChain's handler has collected (LangChain, "Token usage tracking", 2026)."""
    model, handler = race.chat_model(), UsageMetadataCallbackHandler()

    async def call() -> None:
        used = handler.usage_metadata.values()
        if cost(sum(part["input_tokens"] for part in used), sum(part["output_tokens"] for part in used)) >= race.limit:
            raise RefusedError
        await model.ainvoke(PROMPT, {"callbacks": [handler]})

    yield call


@asynccontextmanager
async def call_limit(race: Race) -> AsyncIterator[Call]:
    """As many calls on one thread as fit at worst: all that LangChain's own middleware can limit."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import ModelCallLimitMiddleware
    from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
    from langgraph.checkpoint.memory import InMemorySaver

    limit = ModelCallLimitMiddleware(thread_limit=race.fitting, run_limit=race.fitting, exit_behavior="error")
    agent = create_agent(race.chat_model(), middleware=[limit], checkpointer=InMemorySaver())

    async def call() -> None:
        with refusals(ModelCallLimitExceededError):
            await agent.ainvoke({"messages": MESSAGES}, {"configurable": {"thread_id": "race"}})

    yield call


def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise importing it asks the net for prices
    import litellm

    litellm.suppress_debug_info = True
    return litellm


def _litellm_request(race: Race) -> dict[str, Any]:
    return {**race.request(), "model": f"openai/{MODEL}", "api_base": race.base_url, "api_key": KEY}


@asynccontextmanager
async def litellm_max_budget(race: Race) -> AsyncIterator[Call]:
    """``litellm.max_budget`` (LiteLLM, "Budget Manager", 2026)."""
    litellm = _litellm()
    litellm.max_budget, litellm._current_cost = float(race.limit), 0.0  # noqa: SLF001 - what its documentation reads

    async def call() -> None:
        with refusals(litellm.BudgetExceededError):
            await litellm.acompletion(**_litellm_request(race))

    try:
        yield call
    finally:
        litellm.max_budget = 0.0


@asynccontextmanager
async def litellm_budget_manager(race: Race) -> AsyncIterator[Call]:
    """``BudgetManager`` (same page)."""
    litellm = _litellm()

    class InMemoryBudgetManager(litellm.BudgetManager):
        def load_data(self) -> None:
            self.user_dict = {}

        def save_data(self) -> None:
            """Not into a file of the folder that one happens to be in."""

    manager = InMemoryBudgetManager(project_name="race")
    manager.create_budget(total_budget=float(race.limit), user="race")

    async def call() -> None:
        if manager.get_current_cost(user="race") > manager.get_total_budget("race"):
            raise RefusedError
        manager.update_cost(completion_obj=await litellm.acompletion(**_litellm_request(race)), user="race")

    yield call


@asynccontextmanager
async def litellm_router(race: Race) -> AsyncIterator[Call]:
    """A provider budget of the router (LiteLLM, "Budget Routing", 2026)."""
    litellm = _litellm()
    from litellm.types.utils import BudgetConfig

    parameters = {key: value for key, value in _litellm_request(race).items() if key != "messages"}
    router = litellm.Router(
        model_list=[{"model_name": MODEL, "litellm_params": parameters}],
        provider_budget_config={"openai": BudgetConfig(budget_limit=float(race.limit), time_period="1d")},
    )

    async def call() -> None:
        with refusals(ValueError):
            await router.acompletion(model=MODEL, messages=MESSAGES)

    try:
        yield call
    finally:
        for remove in (router.router_budget_logger, router):
            litellm.logging_callback_manager.remove_callback_from_all_lists(remove)


@asynccontextmanager
async def pydantic_ai(race: Race) -> AsyncIterator[Call]:
    """``UsageLimits(cost_limit=...)`` over one shared ``RunUsage`` (Pydantic AI, "Usage limits", 2026)."""
    from pydantic_ai import Agent, RunUsage, UsageLimitExceeded, UsageLimits
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=race.base_url, api_key=KEY))
    agent = Agent(model, model_settings={} if race.cap is None else {"max_tokens": race.cap})
    limits, usage = UsageLimits(cost_limit=race.limit, request_limit=None), RunUsage()

    async def call() -> None:
        with refusals(UsageLimitExceeded):
            await agent.run(PROMPT, usage_limits=limits, usage=usage)

    yield call


@asynccontextmanager
async def shekel(race: Race) -> AsyncIterator[Call]:
    """``with budget(max_usd=...)`` around the provider's client (shekel's README, 1.2)."""
    from openai import AsyncOpenAI
    from shekel import BudgetExceededError as ShekelExceededError
    from shekel import budget

    async with AsyncOpenAI(base_url=race.base_url, api_key=KEY) as client, budget(max_usd=float(race.limit)):

        async def call() -> None:
            with refusals(ShekelExceededError):
                await client.chat.completions.create(**race.request())

        yield call


@asynccontextmanager
async def agentbudget(race: Race) -> AsyncIterator[Call]:
    """``wrap_client`` in a session (AgentBudget's README, 0.4)."""
    import agentbudget
    from openai import AsyncOpenAI

    budget = agentbudget.AgentBudget(max_spend=float(race.limit))
    async with AsyncOpenAI(base_url=race.base_url, api_key=KEY) as plain:
        with budget.session() as session:
            client = agentbudget.wrap_client(plain, session)

            async def call() -> None:
                with refusals(agentbudget.BudgetExhausted, agentbudget.LoopDetected):
                    await client.chat.completions.create(**race.request())

            yield call


@asynccontextmanager
async def tokenfence(race: Race) -> AsyncIterator[Call]:
    """``async_guard`` (TokenFence's README, 0.3)."""
    from openai import AsyncOpenAI
    from tokenfence import BudgetExceeded, async_guard

    async with AsyncOpenAI(base_url=race.base_url, api_key=KEY) as plain:
        client = async_guard(plain, budget=float(race.limit), on_limit="raise")

        async def call() -> None:
            with refusals(BudgetExceeded):
                await client.chat.completions.create(**race.request())

        yield call


@asynccontextmanager
async def _threads(race: Race, work: Callable[[], Any]) -> AsyncIterator[Call]:
    """Calls of a library that has no asynchronous ones, a thread for each."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(race.calls) as pool:
        yield lambda: loop.run_in_executor(pool, work)


@asynccontextmanager
async def agent_budget_guard(race: Race) -> AsyncIterator[Call]:
    """A wrapped client, shared by threads (Agent Budget Guard's README, 0.2)."""
    from agent_budget_guard import BudgetedSession
    from agent_budget_guard import BudgetExceededError as GuardExceededError
    from tiktoken import registry

    if (encoding := load_encoding("o200k_base")) is not None:
        registry.ENCODINGS.setdefault(encoding.name, encoding)  # otherwise it waits for a download

    client = BudgetedSession.openai(budget_usd=float(race.limit), api_key=KEY, base_url=race.base_url)

    def work() -> None:
        with refusals(GuardExceededError):
            client.chat.completions.create(**race.request())

    async with _threads(race, work) as call:
        yield call


@asynccontextmanager
async def token_budget(race: Race) -> AsyncIterator[Call]:
    """``BudgetPool.reserve`` (token-budget-py's README, 0.1); what to reserve is the caller's to know, and is right."""
    from openai import AsyncOpenAI
    from token_budget import BudgetExceeded, BudgetPool

    pool = BudgetPool(usd_cap=float(race.limit))
    worst = cost(len(PROMPT), LONGEST if race.cap is None else race.cap)
    async with AsyncOpenAI(base_url=race.base_url, api_key=KEY) as client:

        async def call() -> None:
            with refusals(BudgetExceeded), pool.reserve(usd=float(worst)) as reservation:
                used = (await client.chat.completions.create(**race.request())).usage
                reservation.commit(usd=float(cost(used.prompt_tokens, used.completion_tokens)))

        yield call


OURS = Contender("ours", ours, reserves=True)

PEERS = (
    Contender("a counter read before each call", counter),
    Contender("LangChain's usage callback", usage_callback),
    Contender("LangChain's ModelCallLimitMiddleware", call_limit, "langchain", "langchain"),
    Contender("LiteLLM's max_budget", litellm_max_budget, "litellm", "litellm"),
    Contender("LiteLLM's BudgetManager", litellm_budget_manager, "litellm", "litellm"),
    Contender("LiteLLM's router budgets", litellm_router, "litellm", "litellm"),
    Contender("Pydantic AI's cost_limit", pydantic_ai, "pydantic_ai", "pydantic-ai-slim[openai]"),
    Contender("shekel", shekel, "shekel", "shekel"),
    Contender("AgentBudget", agentbudget, "agentbudget", "agentbudget"),
    Contender("TokenFence", tokenfence, "tokenfence", "tokenfence"),
    Contender("Agent Budget Guard", agent_budget_guard, "agent_budget_guard", "agent-budget-guard", reserves=True),
    Contender("token-budget-py", token_budget, "token_budget", "token-budget-py", reserves=True),
)
