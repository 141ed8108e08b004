"""Counts what chat models used, wherever they are called."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_runtime.adapters.account import current_account
from langchain_runtime.adapters.announced_calls import AnnouncedCall
from langchain_runtime.adapters.cached_replies import cached_replies
from langchain_runtime.adapters.ended_calls import usage_of_failure, usage_of_reply
from langchain_runtime.adapters.pricing import Pricing, list_price
from langchain_runtime.adapters.request_bounds import catalog_name
from langchain_runtime.adapters.usage import ReportedUsage
from langchain_runtime.callbacks._open_calls import OpenCalls
from langchain_runtime.callbacks.blocks import heard_by
from langchain_runtime.contracts.budget import Hold, Reservation, ReservationState
from langchain_runtime.contracts.errors import CurrencyMismatchError
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.cost import UsageTracker


class _Call(NamedTuple):
    model_id: str
    prompt: int
    service_tier: str | None
    run_id: str | None
    task_id: str | None
    began_at: float


class UsageCallbackHandler(BaseCallbackHandler):
    """Counts tokens and cost at list price of every chat model that it is handed to, directly or through a chain.

    >>> from langchain_runtime.callbacks import UsageCallbackHandler
    >>> from langchain_runtime.testing import ScriptedChatModel
    >>> usage = UsageCallbackHandler(price_as={"scripted": "openai:gpt-4o-mini"})
    >>> model = ScriptedChatModel(script=["It is sunny."])
    >>> reply = model.invoke("How is the weather?", config={"callbacks": [usage]})
    >>> print(usage)
    1 call, 5 tokens in, 3 out, 0.00000255 USD
    >>> usage.by_model()["scripted:scripted-1"].tokens.output
    3

    Sync and async calls, streams, batches, chains, agents and graphs are counted alike, each call once: also when the
    handler is passed twice, or to a chain and to its model. Replies from LangChain's response cache cost nothing. What
    is unknown is never counted as nothing: see ``unreported`` and ``unpriced``. It never raises.

    Args:
        catalog: Models and prices; None for the default catalogue.
        price_as: Catalogue models to price others as, by id, provider or name: ``{"my-proxy": "openai:gpt-5-mini"}``.

    Attributes:
        tracker: Everything counted, for questions that this class does not answer itself.
    """

    run_inline = True  # in async code, too: a hop to a thread would cost more than counting does

    def __init__(self, *, catalog: ModelCatalog | None = None, price_as: Mapping[str, str] | None = None) -> None:
        self.tracker = UsageTracker()
        self._pricing = Pricing.of(catalog)
        self._price_as = dict(price_as) if price_as else None
        self._open: OpenCalls[_Call] = OpenCalls()
        self._lock = threading.Lock()
        self._failed = 0
        self._cached = 0

    @property
    def total(self) -> Usage:
        """Tokens and cost of all calls; the cost is None where no call has a price.

        Raises:
            CurrencyMismatchError: The models' prices are in different currencies.
        """
        return self.tracker.total()

    def by_model(self) -> dict[str, Usage]:
        """Tokens and cost by ``provider:name``."""
        return self.tracker.by_model()

    def by_task(self) -> dict[str, Usage]:
        """Tokens and cost by task of a run, or else by node of a LangGraph graph; "" for calls in neither."""
        return self.tracker.by_task()

    @property
    def calls(self) -> int:
        """Calls that ended and were billed, or may have been."""
        return self.tracker.calls().made

    @property
    def unreported(self) -> int:
        """Calls among ``calls`` whose tokens nobody reported: the totals lack them."""
        return self.tracker.calls().unreported

    @property
    def unpriced(self) -> int:
        """Calls among ``calls`` whose cost is unknown, for want of a price or of reported tokens."""
        return self.tracker.calls().unpriced

    @property
    def failed(self) -> int:
        """Calls that ended in a complete HTTP error answer, or were held back by a budget: they cost nothing."""
        return self._failed

    @property
    def cached(self) -> int:
        """Calls that LangChain's response cache answered: they cost nothing."""
        return self._cached

    @property
    def unfinished(self) -> int:
        """Calls that began and have not ended: in flight, or cancelled without LangChain saying so (``ainvoke``)."""
        return len(self._open)

    def __repr__(self) -> str:
        calls = self.tracker.calls()
        try:
            total = self.total
            cost = "cost unknown" if total.cost is None else str(total.cost)
            figures = f"{total.tokens.input:,} tokens in, {total.tokens.output:,} out, {cost}"
        except CurrencyMismatchError:
            figures = "in several currencies"
        notes = ((calls.unreported, "without usage"), (calls.unpriced, "without a price"))
        missing = "".join(f"; {count:,} {what}" for count, what in notes if count)
        return f"{calls.made:,} call{'' if calls.made == 1 else 's'}, {figures}{missing}"

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **event: Any,
    ) -> None:
        """Note which model is called."""
        self._begin(AnnouncedCall.of(serialized, metadata, event), messages[0], run_id)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],  # noqa: ARG002 - LangChain's signature
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **event: Any,
    ) -> None:
        """Note a text-completion model: it is counted, as a call without usage, which is not reported in one form."""
        self._begin(AnnouncedCall.of(serialized, metadata, event), [], run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_event: Any) -> None:
        """Count a call that succeeded."""
        call = self._open.end(run_id)
        if call is None:
            return
        if cached_replies.answers(run_id, call.prompt, response):
            with self._lock:
                self._cached += 1
        else:
            self._count(call, run_id, usage_of_reply(response))

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_event: Any
    ) -> None:
        """Count a call that raised, if it may have been billed."""
        call = self._open.end(run_id)
        if call is None:
            return
        reported = usage_of_failure(error, response)
        if reported is None:
            with self._lock:
                self._failed += 1
        else:
            self._count(call, run_id, reported)

    def _begin(self, announced: AnnouncedCall, messages: list[BaseMessage], run_id: UUID) -> None:
        account = current_account()
        run = account.run if account is not None else None
        task_id = run.task_id if run is not None else announced.metadata.get("langgraph_node")
        self._open.begin(
            run_id,
            _Call(
                announced.model_id,
                cached_replies.ask(run_id, announced.model_id, messages),
                announced.service_tier,
                run.run_id if run is not None else None,
                task_id,
                time.time(),
            ),
        )

    def _count(self, call: _Call, run_id: UUID, reported: ReportedUsage) -> None:
        priced_as = catalog_name(call.model_id, self._price_as)
        cost = list_price(reported, priced_as, self._pricing.calculator, service_tier=call.service_tier)
        nano, currency = (0, "USD") if cost is None else (cost.nano, cost.currency)
        hold = Hold(
            id=str(run_id),
            scopes=(),
            nano=nano,
            currency=currency,
            holder="callback",
            sent=True,
            run_id=call.run_id,
            task_id=call.task_id,
            model=call.model_id,
            priced=cost is not None,
        )
        self.tracker.add(
            Reservation(
                hold=hold,
                state=ReservationState.SETTLED,
                lease=0,
                charged_nano=nano,
                usage=reported.usage,
                created_at=call.began_at,
                ended_at=time.time(),
            )
        )


@contextmanager
def track_usage(
    *, catalog: ModelCatalog | None = None, price_as: Mapping[str, str] | None = None
) -> Iterator[UsageCallbackHandler]:
    """Count every chat-model call in the block, without handing callbacks around.

    >>> from langchain_runtime.callbacks import track_usage
    >>> from langchain_runtime.testing import ScriptedChatModel
    >>> with track_usage(price_as={"scripted": "openai:gpt-4o-mini"}) as usage:
    ...     replies = ScriptedChatModel().batch(["one", "two"])
    >>> print(usage)
    2 calls, 4 tokens in, 2 out, 0.0000018 USD

    Chains, agents, asyncio tasks and LangChain's thread pools are followed, a raw ``threading.Thread`` only through
    ``contextvars.copy_context().run``. Nested blocks each count. What a task that was started in the block does after
    its end is counted, too.

    Args:
        catalog: As for ``UsageCallbackHandler``.
        price_as: As for ``UsageCallbackHandler``.

    Yields:
        The handler that counts; read it at any time.
    """
    handler = UsageCallbackHandler(catalog=catalog, price_as=price_as)
    with heard_by(handler):
        yield handler
