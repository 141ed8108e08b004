"""An office for agents: scripted models at 1 and 5 USD a million tokens, a budget, and a tool that uses it up."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool, tool

from langchain_runtime.contracts.budget import Balance, Budget, Scope
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.middleware import BudgetMiddleware
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

SCOPE = "office"
MODELS = {
    "p:large": {"input": "1", "output": "5"},
    "p:middle": {"input": "0.1", "output": "0.5"},
    "q:small": {"input": "0.01", "output": "0.05"},
}
CALL_LOOK = {"name": "look", "args": {"where": "here"}, "id": "call_look"}


class Office:
    """What the agents of a test share.

    Attributes:
        looks: Arguments of the calls that the tool ``look`` got.
        when_looking: Called by it; uses the budget up, for instance.
    """

    def __init__(self) -> None:
        self.ledger: Ledger = InMemoryLedger()
        self.catalog = ModelCatalog({"models": MODELS})
        self.budget = Budget.usd("1", scope=SCOPE)
        self.looks: list[str] = []
        self.when_looking: Callable[[], None] = lambda: None

    def model(self, *script: Any, name: str = "large", provider: str = "p", **fields: Any) -> ScriptedChatModel:
        return ScriptedChatModel(
            **{"script": script or ("done",), "max_tokens": 100, **fields}, model=name, provider=provider
        )

    def looking(self, *, after: Any = "done") -> ScriptedChatModel:
        """A model that looks once, and then says ``after``."""
        return self.model(AIMessage("", tool_calls=[CALL_LOOK]), after)

    @property
    def look(self) -> BaseTool:
        @tool
        def look(where: str) -> str:
            """Look somewhere."""
            self.looks.append(where)
            self.when_looking()
            return f"seen {where}"

        return look

    def middleware(self, budget: Any = ..., **options: Any) -> BudgetMiddleware:
        options = {"ledger": self.ledger, "catalog": self.catalog, **options}
        return BudgetMiddleware(self.budget if budget is ... else budget, **options)

    def agent(
        self, model: Any, *, tools: Any = None, before: Any = (), after: Any = (), budget: Any = ..., **options: Any
    ) -> Any:
        """An agent with ``look``; options of ``create_agent`` by their names, all others go to the middleware."""
        its_own = {key: options.pop(key) for key in _OF_THE_AGENT & options.keys()}
        middleware = [*before, self.middleware(budget, **options), *after]
        return create_agent(model, [self.look] if tools is None else tools, middleware=middleware, **its_own)

    def use_up(self) -> None:
        """Leave nothing of the budget."""
        self.ledger.open_scope(Scope.of(self.budget))
        self.ledger.set_limit(SCOPE, max(1, self.books.spent_nano))

    def top_up(self, nano: int = 1_000_000_000) -> None:
        self.ledger.top_up(SCOPE, nano, key=uuid.uuid4().hex)

    @property
    def books(self) -> Balance:
        return self.ledger.balance(SCOPE)


_OF_THE_AGENT = {"response_format", "checkpointer", "name", "context_schema"}


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Invokes an agent: ``await call(agent, input, config, ...)``; a text is a message of a human's."""

    async def invoke(agent: Any, given: Any = "go", config: Any = None, **options: Any) -> Any:
        given = said(given) if isinstance(given, str) else given
        if request.param == "sync":
            return agent.invoke(given, config, **options)
        return await agent.ainvoke(given, config, **options)

    return invoke


def said(text: str) -> dict[str, list[AnyMessage | dict[str, str]]]:
    return {"messages": [{"role": "user", "content": text}]}
