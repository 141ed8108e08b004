"""What an agent says when its budget ends it: a message for people, marked for programs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.config import get_config

from langchain_runtime.contracts.budget import Verdict
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost, format_amount

BUDGET_END: Final = "lcr_budget_end"
"""Key in ``response_metadata`` of a message that stands in for a reply which the budget did not allow: what happened,
in JSON. Its ``type`` is ``budget_exceeded`` (the call was refused) or ``reply_cut``."""


def refusal_notice(error: BudgetExceededError) -> AIMessage:
    """The message in place of a call that was refused; money in it stands in decimal strings, None for unlimited."""
    return _notice(
        f"Budget reached: {error}.",
        {
            "type": "budget_exceeded",
            "scope": error.scope,
            "currency": error.needed.currency,
            "spent": format_amount(error.spent.amount),
            "held": format_amount(error.held.amount),
            "limit": None if error.limit is None else format_amount(error.limit.amount),
            "needs": format_amount(error.needed.amount),
            "short_of": "tokens" if _fits_in_money(error) else "money",
            "model": error.model,
            "waiting": [_agent_name() or "agent"],
        },
    )


def cut_notice(reply: AIMessage) -> AIMessage:
    """The message in place of a reply that its budget's cap cut, so that it is of no use."""
    notice = _notice(
        f"Budget reached: the reply was cut after {_length(reply)}, all that its budget allowed, in the middle of "
        "what it was to hand over. Nothing of it was used.",
        {"type": "reply_cut", "waiting": [_agent_name() or "agent"]},
    )
    notice.usage_metadata = reply.usage_metadata  # it is paid for
    return notice


def retry_request(reply: AIMessage) -> str:
    """What a model is told whose reply was cut."""
    return (
        f"Your reply was cut after {_length(reply)}, the most that it may have, and nothing of it was used. "
        "Answer again in fewer tokens; make tool calls smaller, or one at a time."
    )


def _length(reply: AIMessage) -> str:
    return f"{reply.usage_metadata['output_tokens']} output tokens" if reply.usage_metadata else "its output cap"


def _notice(text: str, mark: dict[str, Any]) -> AIMessage:
    return AIMessage(
        text, id=f"lcr-budget-{uuid.uuid4().hex}", name=_agent_name(), response_metadata={BUDGET_END: mark}
    )


def _agent_name() -> str | None:
    """The name that ``create_agent`` was given; it stands on all the agent's replies."""
    name: str | None = get_config().get("metadata", {}).get("lc_agent_name")
    return name


def _fits_in_money(error: BudgetExceededError) -> bool:
    if error.limit is None:
        return True
    waits = error.decision is not None and error.decision.verdict is Verdict.WAIT
    in_flight = error.held if waits else Cost(0, error.limit.currency)
    return error.spent + in_flight + error.needed <= error.limit


def mark_of(message: BaseMessage | None) -> dict[str, Any] | None:
    """What the mark of a notice says; None for any other message."""
    mark: dict[str, Any] | None = None if message is None else message.response_metadata.get(BUDGET_END)
    return mark


def without_last_notices(messages: Sequence[Any]) -> list[Any]:
    """What a model should see when a thread goes on that ended in a notice: the place where it ended."""
    kept = list(messages)
    while kept and mark_of(kept[-1]) is not None:
        kept.pop()
    return kept


def question(notice: AIMessage, mark: dict[str, Any], problem: str | None) -> dict[str, Any]:
    """What a human is asked.

    Args:
        notice: The message that stands in for the refused call.
        mark: Its mark.
        problem: Why the last answer was of no use; None for the first time.
    """
    spent, held, needs, limit = (Cost(mark[key], mark["currency"]) for key in ("spent", "held", "needs", "limit"))
    asked = f"{notice.text} Add {spent + held + needs - limit}?"
    return {**mark, "message": asked if problem is None else f"{problem}. {asked}"}
