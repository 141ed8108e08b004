"""``BudgetMiddleware``: an agent that ends, asks or steps down when its money does not suffice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from langchain_runtime.adapters.account import Charge, charges, current_account
from langchain_runtime.adapters.guard import ErrorSettlement
from langchain_runtime.adapters.stream_meter import CAPPED
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import BudgetExceededError, BudgetNotSetError, InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.ledgers import default_ledger
from langchain_runtime.middleware._budgeted_models import BudgetedModels
from langchain_runtime.middleware._notices import (
    cut_notice,
    mark_of,
    question,
    refusal_notice,
    retry_request,
    without_last_notices,
)

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse, hook_config
    from langchain.agents.middleware.types import ContextT, ResponseT
    from langchain.agents.structured_output import StructuredOutputError

    from langchain_runtime.middleware._rungs import Ladder, Rungs
except ImportError as error:
    raise ImportError(
        'BudgetMiddleware needs LangChain\'s agents: pip install "langchain-runtime-layer[agents]"'
    ) from error

OnExceeded = Literal["end", "error", "downgrade", "ask"]
"""What an agent does when a model call does not fit its budget: see ``BudgetMiddleware``."""

BudgetFor = Callable[[ModelRequest[Any]], Budget | None]
"""Chooses the budget of a model call, by the runtime's context, for instance."""


@dataclass(frozen=True, slots=True)
class _Handler:
    """The rest of the agent's model call, for plans: both drivers call what they were given."""

    call: Callable[[ModelRequest[Any]], Any]
    acall: Callable[[ModelRequest[Any]], Any]


class BudgetMiddleware(AgentMiddleware[AgentState[ResponseT], ContextT, ResponseT]):
    """Puts an agent's model under a budget, and ends the agent well when the money does not suffice.

    ::

        agent = create_agent(model, tools, middleware=[..., BudgetMiddleware(Budget.usd("0.50", scope="user:42"))])

    Put it last in the list: what stands before it may choose another model, and this one puts whatever was chosen
    under the budget. Every call is reserved, capped and settled as by ``with_budget``; a model that has a budget
    charges this one, too. The same budget in several agents is shared by them.

    When a call does not fit, by this budget or any other that it charges, the agent goes on as ``on_exceeded`` says:

    - ``end``: It ends with an AI message that gives the figures and calls no tool. Its ``response_metadata`` has them
      for programs under ``lcr_budget_end``; ``structured_response`` is None. The thread is in order: after a top-up it
      goes on with the next message, or, invoked with no new one, where it ended.
    - ``error``: ``BudgetExceededError`` goes to the caller.
    - ``downgrade``: The next model of ``ladder`` makes the call, if it fits it, else the next; below the last as
      ``end``. Models of other providers will do: tools are bound for each. ``model_settings`` of other middleware stay
      behind when the provider changes, and a ``ProviderStrategy`` must suit all models. Every call starts with the
      agent's own model.
    - ``ask``: The graph is interrupted, as with ``end`` in the state and this for a human: ``{"type":
      "budget_exceeded", "scope", "currency", "spent", "limit", "needs", "waiting": [agent], "message", ...}``, money in
      decimal strings. ``Command(resume={"add": "0.40"})`` raises the limit, once, and the call is made; ``{"stop":
      True}`` ends the agent. After an answer of no use it asks again, and says why. Needs a checkpointer. Nobody is
      asked about a token limit: it cannot be raised.

    A reply that the budget's cap cut in the middle of a tool call, or of structured output, is not used: half an
    argument is worse than none. The model is told so and tries once more, within the budget; cut again, the agent ends.

    Which calls are refused is the budget's ``on_exceed``. By default a call is first shrunk to what is left; ``raise``
    steps down or asks at once, and ``wait`` lets agents that share a budget wait for each other before.

    What this cannot see is calls that other middleware makes by itself, like a summariser's: give those models
    ``with_budget`` with the same budget.

    Args:
        budget: What the agent may spend; None charges only the scopes and the run around it. A function chooses it for
            each call, and must name its scope: ``lambda request: Budget.usd("1", scope=f"user:{request.runtime...}")``.
        ledger: Where it is kept; None for the process-wide ledger in memory.
        on_exceeded: See above.
        ladder: For ``downgrade``: models in the order in which to try them, as ``provider:name`` or ready made, or a
            ``ModelLadder``. A model that is on it falls back on those after it, any other one on all.
        catalog: Models and prices; None for the default catalogue.
        price_as: Catalogue models to price others as, by id, provider or name.
        error_settlement: What a call costs that ends in an HTTP error: see ``with_budget``.

    Raises:
        InvalidInputError: The budget is none, its scope is known with another limit, or ``ladder`` and ``on_exceeded``
            do not go together.
    """

    def __init__(
        self,
        budget: Budget | BudgetFor | None,
        *,
        ledger: Ledger | None = None,
        on_exceeded: OnExceeded = "end",
        ladder: Ladder | None = None,
        catalog: ModelCatalog | None = None,
        price_as: Mapping[str, str] | None = None,
        error_settlement: ErrorSettlement = "release",
    ) -> None:
        super().__init__()
        if on_exceeded not in get_args(OnExceeded):
            raise InvalidInputError(f"on_exceeded must be one of {get_args(OnExceeded)}, got {on_exceeded!r}")
        if (on_exceeded == "downgrade") != (ladder is not None):
            raise InvalidInputError(
                "on_exceeded='downgrade' and a ladder go together", hint='ladder=["openai:gpt-5-mini", ...]'
            )
        self._budget = budget if callable(budget) else _checked(budget)
        self._ledger = default_ledger() if ledger is None else ledger
        if isinstance(budget, Budget):
            self._ledger.open_scope(Scope.of(budget))
        self._on_exceeded = on_exceeded
        self._rungs = None if ladder is None else Rungs(ladder)
        self._models = BudgetedModels(
            {
                "ledger": self._ledger,
                "catalog": catalog,
                "price_as": price_as,
                "error_settlement": error_settlement,
            }
        )

    def wrap_model_call(
        self, request: ModelRequest[ContextT], handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]]
    ) -> ModelResponse[ResponseT] | AIMessage:
        """Make the call under the budget."""
        return carry_out(self._model_call(request, _Handler(handler, handler)))

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT] | AIMessage:
        """Async twin of ``wrap_model_call``."""
        return await acarry_out(self._model_call(request, _Handler(handler, handler)))

    @hook_config(can_jump_to=["end", "model"])
    def after_model(self, state: AgentState[ResponseT], runtime: Runtime[ContextT]) -> dict[str, Any] | None:  # noqa: ARG002 - LangChain's signature
        """End the agent where the budget did, or ask a human."""
        return carry_out(self._next_step(state["messages"]))

    @hook_config(can_jump_to=["end", "model"])
    async def aafter_model(self, state: AgentState[ResponseT], runtime: Runtime[ContextT]) -> dict[str, Any] | None:  # noqa: ARG002 - LangChain's signature
        """Async twin of ``after_model``."""
        return await acarry_out(self._next_step(state["messages"]))

    def _model_call(
        self, request: ModelRequest[ContextT], handler: _Handler
    ) -> Plan[ModelResponse[ResponseT] | AIMessage]:
        budget = self._budget_of(request)
        request = request.override(messages=without_last_notices(request.messages))
        model = request.model
        told = False
        while True:
            budgeted = yield Step(self._models, "get", (model, budget))
            try:
                response: ModelResponse[ResponseT] = yield Step(handler, "call", (request.override(model=budgeted),))
                cut = _useless_reply(response.result)
            except BudgetExceededError as refusal:
                if self._on_exceeded == "error":
                    raise
                below = None if self._rungs is None else self._rungs.below(model)
                if below is None:
                    return refusal_notice(refusal)
                if below._llm_type != model._llm_type:  # noqa: SLF001 - how LangChain itself tells providers apart
                    request = request.override(model_settings={})
                model = below
                continue
            except StructuredOutputError as error:
                cut = error.ai_message
                if CAPPED not in cut.response_metadata or (told and self._on_exceeded == "error"):
                    raise
            if cut is None:
                return response
            if told:
                return cut_notice(cut)
            told = True
            request = request.override(messages=[*request.messages, HumanMessage(retry_request(cut))])

    def _budget_of(self, request: ModelRequest[Any]) -> Budget | None:
        if not callable(self._budget):
            return self._budget
        budget = _checked(self._budget(request))
        if budget is not None and "scope" not in budget.model_fields_set:
            raise InvalidInputError(
                "a budget that is chosen for each call needs a scope, or each call has one of its own",
                hint='Budget.usd("1", scope="user:42")',
            )
        return budget

    def _next_step(self, messages: Sequence[BaseMessage]) -> Plan[dict[str, Any] | None]:
        """Where the agent goes after a model call.

        A node of its own asks, so that it is asked about what was saved: whatever happens meanwhile, an answer
        belongs to its question, and is applied once.
        """
        reply = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
        mark = mark_of(reply)
        if reply is None or mark is None:
            return None
        askable = self._on_exceeded == "ask" and mark.get("short_of") == "money"
        if askable and (yield from self._topped_up(reply, mark)):
            return {"messages": [RemoveMessage(id=str(reply.id))], "jump_to": "model"}
        return {"jump_to": "end"}

    def _topped_up(self, notice: AIMessage, mark: dict[str, Any]) -> Plan[bool]:
        """Ask, until an answer can be used; False if the agent is to end."""
        problem = None
        while True:
            answer = interrupt(question(notice, mark, problem))
            if isinstance(answer, Mapping) and answer.get("stop") is True:
                return False
            # LangGraph keeps every answer, and hands it out again when the node runs again: an error would stay for
            # good, where another question does no harm.
            try:
                amount = _added(answer, mark["currency"])
                yield Step(self._books(mark["scope"]), "top_up", (mark["scope"], amount.nano), {"key": notice.id})
            except (InvalidInputError, BudgetNotSetError) as error:
                advice = f" ({error.hint})" if error.hint else ""
                problem = f"The answer {answer!r} cannot be used: {error}{advice}"
            else:
                return True

    def _books(self, scope: str) -> Ledger:
        """Where a scope is kept: that of this middleware, or of one of those around the agent."""
        around: list[Charge] = charges(current_account())
        return next(
            (charge.ledger for charge in around if any(budget.scope == scope for budget in charge.budgets)),
            self._ledger,
        )


def _checked(budget: Any) -> Budget | None:
    if budget is not None and not isinstance(budget, Budget):
        raise InvalidInputError(f"BudgetMiddleware needs a Budget, got {type(budget).__name__}")
    return budget


def _useless_reply(messages: Sequence[BaseMessage]) -> AIMessage | None:
    """The reply, if our cap cut it and it calls tools: any of the calls may be half written, and look whole."""
    reply = next((message for message in messages if isinstance(message, AIMessage)), None)
    if reply is None or CAPPED not in reply.response_metadata:
        return None
    return reply if reply.tool_calls or reply.invalid_tool_calls else None


def _added(answer: Any, currency: str) -> Cost:
    """The money of an answer.

    Raises:
        InvalidInputError: There is none in it.
    """
    if not isinstance(answer, Mapping) or "add" not in answer:
        raise InvalidInputError("it adds no money", hint='answer {"add": "0.40"} or {"stop": True}')
    return Cost(answer["add"], currency)
