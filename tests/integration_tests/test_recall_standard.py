"""LangChain's own suites for tools and retrievers, over an archive."""

import pytest
from langchain_core.messages import HumanMessage
from langchain_tests.integration_tests import RetrieversIntegrationTests, ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.store.memory import InMemoryStore

from langchain_runtime.adapters.recall import RecallRetriever, recall_tool
from langchain_runtime.context import Archive


def archive():
    archive = Archive(InMemoryStore(), ("lcr", "talk"))
    archive.put({f"dog{number}": [HumanMessage(f"dog number {number} barks")] for number in range(10)})
    return archive


class _Recall:
    @property
    def tool_constructor(self):
        return recall_tool(archive(), max_tokens=500)

    @property
    def tool_invoke_params_example(self):
        return {"query": "which dogs bark?"}


class TestRecallUnit(_Recall, ToolsUnitTests):
    pass


class TestRecallIntegration(_Recall, ToolsIntegrationTests):
    pass


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return RecallRetriever

    @property
    def retriever_constructor_params(self):
        return {"archive": archive()}

    @property
    def retriever_query_example(self):
        return "which dogs bark?"


@pytest.mark.parametrize("k", [1, 3])
def test_k_may_be_given_with_a_query(k):
    assert len(RecallRetriever(archive=archive()).invoke("dogs", k=k)) == k
