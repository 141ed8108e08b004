"""A model at one nano-USD per thousandth of an input word and five per output word, and nothing else."""

from typing import Any

import pytest

from langchain_runtime.cost import ModelCatalog
from langchain_runtime.testing import ScriptedChatModel


@pytest.fixture
def catalog() -> ModelCatalog:
    """1 and 5 USD per million tokens: 1,000 and 5,000 nano-USD each."""
    return ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})


@pytest.fixture
def scripted() -> Any:
    """Makes scripted models: "hello" costs 2 tokens in and 3 out, 17,000 nano-USD."""

    def make(**fields: Any) -> ScriptedChatModel:
        return ScriptedChatModel(**{"script": ["one two three"], "max_tokens": 100, **fields})

    return make
