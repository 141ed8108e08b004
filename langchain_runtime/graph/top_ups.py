"""Money from a human: the graph is interrupted with a question, and the answer raises a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.types import interrupt

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.graph.refusals import Refusals


class TopUps:
    """Asks a human for money when it has run out, and adds what they give.

    LangGraph runs the node again from its start on resume and hands the answers out in order. Each answer is applied
    under a key of its own, so an answer that was applied before is not applied twice.
    """

    def __init__(self, ledger: Ledger, refusals: Refusals, budget: Budget) -> None:
        self._ledger = ledger
        self._refusals = refusals
        self._budget = budget
        self._asked = 0

    def __call__(self, waiting: Sequence[str]) -> bool:
        """Ask, until an answer can be used; False if the human wants the run to end instead.

        Raises:
            GraphInterrupt: The question was not answered yet.
        """
        question = self._refusals.question(waiting, scope=self._budget.scope, currency=self._budget.currency)
        asked = question
        while True:
            answer = interrupt(asked)
            number, self._asked = self._asked, self._asked + 1
            if isinstance(answer, dict) and answer.get("stop") is True:
                return False
            # LangGraph keeps every answer and hands it out again on each resume: an error would stay for good, where
            # another question does no harm.
            try:
                amount = _added(answer, self._budget.currency)
                self._ledger.top_up(str(question["scope"]), amount.nano, key=f"{self._budget.scope}:{number}")
            except InvalidInputError as error:
                asked = {**question, "problem": f"cannot use the answer {answer!r}: {error}"}
            else:
                return True


def _added(answer: Any, currency: str) -> Cost:
    if not isinstance(answer, dict) or "add" not in answer:
        raise InvalidInputError('resume with {"add": "0.40"} or {"stop": True}')
    return Cost(answer["add"], currency)
