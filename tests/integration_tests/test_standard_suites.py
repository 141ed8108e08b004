"""LangChain's own integration suite for chat models, on budgeted ones, against a provider on loopback.

At the end of each test the books agree with the provider's bill, to the last nano-USD.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import loopback_replies
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from loopback_answers import Call, Writer
from loopback_provider import LoopbackProvider, serving
from loopback_requests import Asked, compact

from langchain_runtime.chat_models import with_budget
from langchain_runtime.chat_models.budgeted import budgeted_class
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetNotSetError
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

CUSTOMERS = ("你好啊集团", "こんにちは株式会社")
JOKE = {"setup": "Why do cats sit on ledgers?", "punchline": "To keep the balance."}


@dataclass
class Obliging(Writer):
    """Does what the suite asks for, where any well-formed answer would not do."""

    def _calls(self, asked: Asked, digest: str, left: int) -> tuple[Call, ...]:
        return tuple(Call(call.name, self._wanted(call, asked)) for call in super()._calls(asked, digest, left))

    def _wanted(self, call: Call, asked: Asked) -> str:
        if call.name == "magic_function":
            return '{"input":3}'
        if call.name == "unicode_customer":
            name = next(name for name in CUSTOMERS if name in asked.read[0])
            return compact({"customer_name": name, "description": "A company"})
        return call.arguments

    def _whole_text(self, asked: Asked, digest: str) -> str:
        if "Return nothing other than JSON" in asked.prompt:
            return compact(JOKE)
        return super()._whole_text(asked, digest)


@pytest.fixture
def provider(tmp_path) -> Iterator[LoopbackProvider]:
    # One for each test: the clients share their connections by address, and no two event loops may.
    with serving(tmp_path / "log.jsonl", writer=Obliging()) as provider:
        yield provider


class _Suite(ChatModelIntegrationTests):
    """The suite, with every model under a budget."""

    own_class: ClassVar[type[BaseChatModel]]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return budgeted_class(self.own_class)

    @pytest.fixture
    def ledger(self) -> InMemoryLedger:
        return InMemoryLedger()

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, ledger: InMemoryLedger) -> BaseChatModel:
        return self.budgeted(ledger, **getattr(request, "param", {}))

    def budgeted(self, ledger: InMemoryLedger, **fields: Any) -> BaseChatModel:
        """A budgeted model as the suite would make one."""
        model = self.own_class(**{**self.standard_chat_model_params, **self.chat_model_params, **fields})
        return with_budget(model, Budget.usd("10", scope="suite"), ledger=ledger, catalog=self.catalog)

    catalog: ClassVar[ModelCatalog | None] = None

    @pytest.mark.xfail(
        raises=BudgetNotSetError,
        reason="the suite makes a second model of the budgeted class by itself: it has no budget, and refuses",
    )
    def test_stop_sequence(self, model: BaseChatModel) -> None:
        super().test_stop_sequence(model)

    def test_stop_sequences_of_the_call_and_of_the_model(self, model: BaseChatModel, ledger: InMemoryLedger) -> None:
        assert isinstance(model.invoke("hi", stop=["you"]), AIMessage)
        assert isinstance(self.budgeted(ledger, stop=["you"]).invoke("hi"), AIMessage)


class _OnLoopback(_Suite):
    @pytest.fixture(autouse=True)
    def _billed(self, provider: LoopbackProvider, ledger: InMemoryLedger) -> Iterator[None]:
        self.provider = provider
        yield
        for books in ledger.balances():
            assert books.held_nano == 0
            assert books.spent.amount == provider.bill

    @property
    def supports_model_override(self) -> bool:
        return True


@pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema")  # these two are ChatOpenAI's own
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
class TestBudgetedChatOpenAI(_OnLoopback):
    own_class = ChatOpenAI

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-4o-mini", "api_key": "x", "base_url": self.provider.base_url}

    @property
    def model_override_value(self) -> str:
        return "gpt-4.1-nano"


class TestBudgetedChatOpenAIResponses(TestBudgetedChatOpenAI):
    @pytest.fixture(autouse=True)
    def _reply_format(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """OpenAI repeats the reply format in each response; the client looks for it to parse a stream."""
        envelope = loopback_replies._response_envelope

        def with_format(asked: Asked, reply: Any) -> dict[str, Any]:
            form = (
                {"type": "json_schema", "name": "reply", "schema": asked.schema} if asked.schema else {"type": "text"}
            )
            return {**envelope(asked, reply), "text": {"format": form}}

        monkeypatch.setattr(loopback_replies, "_response_envelope", with_format)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}


@pytest.mark.filterwarnings("ignore:The model 'claude-sonnet-4-5' is deprecated")
class TestBudgetedChatAnthropic(_OnLoopback):
    own_class = ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "claude-haiku-4-5", "api_key": "x", "base_url": self.provider.url}

    @property
    def model_override_value(self) -> str:
        return "claude-sonnet-4-5"

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True


ANSWERS = {
    "magic_function_no_args": {},
    "magic_function": {"input": 3},
    "Hello!": {"input": 3},
    "Pirate": {"answer_style": "pirate"},
    "weather": {"location": "San Francisco, CA"},
    "joke": JOKE,
    **{name: {"customer_name": name, "description": "A company"} for name in CUSTOMERS},
}
"""Words of the suite's prompts, and what tools are called with then."""


def _script(messages: list[BaseMessage]) -> Any:
    wanted = [] if isinstance(messages[-1], ToolMessage) else [word for word in ANSWERS if word in messages[-1].text]
    return ANSWERS[wanted[0]] if wanted else "Certainly, with pleasure."


class TestBudgetedScriptedChatModel(_Suite):
    own_class = ScriptedChatModel
    catalog = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"script": _script}
