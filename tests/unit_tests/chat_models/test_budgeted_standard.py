"""LangChain's own suite for chat models, on budgeted ones."""

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_runtime.chat_models import with_budget
from langchain_runtime.chat_models.budgeted import budgeted_class
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel


class _Budgeted(ChatModelUnitTests):
    own_class: type[BaseChatModel]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return budgeted_class(self.own_class)

    @pytest.fixture
    def model(self, request: Any) -> BaseChatModel:
        params = {**self.standard_chat_model_params, **self.chat_model_params, **getattr(request, "param", {})}
        return with_budget(self.own_class(**params), Budget.usd("1"), ledger=InMemoryLedger())


class TestScriptedChatModel(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ScriptedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "scripted-1"}


class TestBudgetedScriptedChatModel(_Budgeted):
    own_class = ScriptedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "scripted-1"}


class TestBudgetedChatOpenAI(_Budgeted):
    own_class = ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-5-mini", "api_key": "x"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"OPENAI_API_KEY": "api_key"}, {"model": "gpt-5-mini"}, {"openai_api_key": "api_key"}


class TestBudgetedChatOpenAIResponses(TestBudgetedChatOpenAI):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}


@pytest.mark.filterwarnings("ignore:Unrecognized structured output method")  # ChatAnthropic's own, of "json_mode"
class TestBudgetedChatAnthropic(_Budgeted):
    own_class = ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "claude-haiku-4-5", "api_key": "x"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"ANTHROPIC_API_KEY": "api_key"}, {"model": "claude-haiku-4-5"}, {"anthropic_api_key": "api_key"}
