"""The test provider itself: a real client gets deterministic answers and a bill that adds up."""

from decimal import Decimal

import pytest
from langchain_openai import ChatOpenAI


@pytest.fixture
def provider(tmp_path, loopback):
    with loopback.serving(tmp_path / "provider.jsonl") as running:
        yield running


def client(provider, **options):
    return ChatOpenAI(model="gpt-4o-mini", base_url=provider.base_url, api_key="x", max_retries=0, **options)


def test_the_same_prompt_gets_the_same_answer_and_another_prompt_another_one(provider):
    model = client(provider)
    assert model.invoke("a").content == model.invoke("a").content != model.invoke("b").content


async def test_a_streamed_answer_is_the_same_and_billed_the_same(provider):
    whole = await client(provider).ainvoke("a")
    streamed = None
    async for chunk in client(provider, stream_usage=True).astream("a"):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert streamed.content == whole.content
    assert streamed.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]
    assert [row["nano"] for row in provider.served] == [provider.served[0]["nano"]] * 2


def test_the_bill_is_usage_at_list_price(provider):
    usage = client(provider).invoke("a").usage_metadata
    nano = 150 * usage["input_tokens"] + 600 * usage["output_tokens"]
    assert provider.bill == Decimal(nano).scaleb(-9) > 0


def test_a_cap_cuts_the_answer_and_its_price(provider):
    cut = client(provider, max_tokens=3).invoke("a")
    assert cut.response_metadata["finish_reason"] == "length"
    assert cut.usage_metadata["output_tokens"] == 3


def test_injected_faults_come_first_and_are_not_billed(provider):
    provider.faults = [500]
    with pytest.raises(Exception, match="injected 500"):
        client(provider).invoke("a")
    assert provider.served == []
    assert client(provider).invoke("a").content
    assert len(provider.served) == 1
