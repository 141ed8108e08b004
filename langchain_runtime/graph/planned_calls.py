"""The call that a prompt will make, priced before there is a view for it. No model is opened: a plan needs no key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_runtime.adapters.request_bounds import DEFAULT_CAP, FLOOR, REASONING_FLOOR, call_terms
from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import TaskDefinition


class WorstCall(NamedTuple):
    """The most that one call can take.

    Attributes:
        input: Tokens read.
        output: Tokens written.
        cost: Of them; None without a price.
    """

    input: int
    output: int
    cost: Cost | None


@dataclass(frozen=True)
class PlannedCall:
    """What is known of a prompt's call.

    Attributes:
        model: Whose price counts.
        priced: Whether it has one.
        cap: Most tokens of its reply.
        lowest_cap: The smallest that a budget may shrink it to.
        choices: Replies to one request.
        service_tier: The tier it asks for; None for the standard one.
        extras: Tools, reply format and other JSON that it carries.
        services: Components.
    """

    model: str
    priced: bool
    cap: int
    lowest_cap: int
    choices: int
    service_tier: str | None
    extras: tuple[Any, ...]
    services: Services

    @classmethod
    def of(
        cls, definition: TaskDefinition, model: str, services: Services, *, limited: bool, least_output: int | None
    ) -> PlannedCall:
        """The call of a prompt on ``model``, of which more is known where the author passed it as an object.

        Args:
            definition: The task.
            model: Its model's name.
            services: Components.
            limited: Whether a budget limits it, so that the request carries a cap in any case.
            least_output: As the policy's ``min_output_tokens``.
        """
        info = services.info(model)
        extras = tuple(convert_to_openai_tool(tool) for tool in definition.tools)
        if definition.response_format is not None:
            extras += (_schema(definition.response_format),)
        own_cap = definition.spec.max_output_tokens
        choices, service_tier = 1, None
        most = info.max_output_tokens if info is not None else None
        cap = min(most or DEFAULT_CAP, DEFAULT_CAP) if limited else most or DEFAULT_CAP
        chat_model = definition.chat_model or services.models.get(model)
        if chat_model is not None:
            terms = call_terms(
                chat_model,
                {} if own_cap is None else {"max_tokens": own_cap},
                calculator=services.calculator,
                catalog=services.catalog,
                price_as=services.price_as,
                priced=False,
                bounded=limited,
            )
            cap, choices, service_tier = terms.first_cap, terms.choices, terms.service_tier
            extras = (*terms.extras, *extras)
        cap = cap if own_cap is None else min(own_cap, cap)
        floor = REASONING_FLOOR if info is not None and info.reasoning else FLOOR
        return cls(
            model=services.priced_as(model),
            priced=info is not None and info.rates is not None,
            cap=cap,
            lowest_cap=min(cap, least_output or floor),
            choices=choices,
            service_tier=service_tier,
            extras=extras,
            services=services,
        )

    def expected_input(self, messages: Sequence[BaseMessage]) -> int:
        """Tokens that the model will probably read."""
        return self.services.estimator.expected(messages, model=self.model, tools=self.extras)

    def most_input(self, messages: Sequence[BaseMessage]) -> int | None:
        """Tokens that it reads at most; None where that has no bound."""
        try:
            return self.services.estimator.upper_bound(messages, model=self.model, tools=self.extras)
        except EstimationError:
            return None

    def cost(self, tokens: TokenUsage) -> Cost | None:
        """What a call costs that uses so much; None without a price."""
        if not self.priced:
            return None
        return self.services.calculator.cost(tokens, self.model, service_tier=self.service_tier)

    def worst(self, most_input: int, cap: int | None = None) -> WorstCall:
        """The most that a call costs which reads so much, with its own cap or another one."""
        output = (self.cap if cap is None else cap) * self.choices
        cost = None
        if self.priced:
            calculator = self.services.calculator
            cost = calculator.worst_case(most_input, output, self.model, service_tier=self.service_tier)
        return WorstCall(most_input, output, cost)


def _schema(response_format: Any) -> Any:
    if isinstance(response_format, type) and hasattr(response_format, "model_json_schema"):
        return response_format.model_json_schema()
    return response_format
