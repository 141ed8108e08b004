"""Money from a human: the graph is interrupted with a question, and the answer raises a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from langgraph.types import interrupt

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.graph.call_ids import langgraph_task_id
from langchain_runtime.graph.refusals import Refusals


class Answer(NamedTuple):
    """What a human answered; ``place`` is the LangGraph task that has asked, the same on every resume."""

    place: str
    value: Any


AskHuman = Callable[[Sequence[str], dict[str, Any]], Awaitable[Answer]]
"""Interrupts the graph with a question for the tasks that wait; ``GraphInterrupt`` until it is answered."""


async def ask_here(_waiting: Sequence[str], question: dict[str, Any]) -> Answer:
    """Interrupt the node that is running."""
    return Answer(langgraph_task_id(), interrupt(question))


class TopUps:
    """Asks a human for money when it has run out, and adds what they give.

    LangGraph runs a node again from its start on resume and hands its answers out in order. Each answer is applied
    under a key of its own, so an answer that was applied before is not applied twice.
    """

    def __init__(self, ledger: Ledger, refusals: Refusals, budget: Budget, ask: AskHuman) -> None:
        self._ledger = ledger
        self._refusals = refusals
        self._budget = budget
        self._ask = ask
        self._answers: dict[str, int] = {}

    async def __call__(self, waiting: Sequence[str]) -> bool:
        """Ask, until an answer can be used; False if the human wants the run to end instead.

        Raises:
            GraphInterrupt: The question was not answered yet.
        """
        question = self._refusals.question(waiting, scope=self._budget.scope, currency=self._budget.currency)
        asked = question
        while True:
            place, answer = await self._ask(waiting, asked)
            number = self._answers.get(place, 0)
            self._answers[place] = number + 1
            if isinstance(answer, dict) and answer.get("stop") is True:
                return False
            # LangGraph keeps every answer and hands it out again on each resume: an error would stay for good, where
            # another question does no harm.
            try:
                amount = _added(answer, self._budget.currency)
                key = f"{self._budget.scope}:{place}:{number}"
                await self._ledger.atop_up(str(question["scope"]), amount.nano, key=key)
            except InvalidInputError as error:
                asked = {**question, "problem": f"cannot use the answer {answer!r}: {error}"}
            else:
                return True


def _added(answer: Any, currency: str) -> Cost:
    if not isinstance(answer, dict) or "add" not in answer:
        raise InvalidInputError('resume with {"add": "0.40"} or {"stop": True}')
    return Cost(answer["add"], currency)
