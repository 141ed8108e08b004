"""CompactingMemory: where a classic chain's ConversationBufferMemory stands."""

import subprocess
import sys

import pytest
from langchain_classic.base_memory import BaseMemory
from langchain_classic.chains import ConversationChain
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.store.memory import InMemoryStore
from pydantic import ValidationError

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.memory import CompactingChatMessageHistory, CompactingMemory
from langchain_runtime.testing import ScriptedChatModel

CLASSIC = pytest.mark.filterwarnings("ignore:The class `ConversationChain` was deprecated")


def words(messages):
    return sum(len(message.text.split()) + 1 for message in messages)


def memory(store=None, max_tokens=400, **options):
    history = CompactingChatMessageHistory(
        "s", store=store or InMemoryStore(), policy=ContextPolicy(max_tokens=max_tokens), token_counter=words
    )
    return CompactingMemory(chat_memory=history, **options)


def fill(kept, turns=60):
    for turn in range(turns):
        kept.save_context({"input": f"question {turn} " + "why " * 10}, {"response": f"answer {turn} " + "so " * 10})


def test_it_is_the_memory_that_chains_ask_for():
    assert isinstance(memory(), BaseMemory)
    assert memory(memory_key="talk").memory_variables == ["talk"]


def test_a_history_is_needed():
    with pytest.raises(ValidationError, match="chat_memory"):
        CompactingMemory()


def test_it_loads_what_it_saved_as_text_with_prefixes():
    kept = memory(human_prefix="Friend", ai_prefix="Bot")
    kept.save_context({"input": "hi"}, {"response": "hello"})
    assert kept.load_memory_variables({"input": "x"}) == {"history": "Friend: hi\nBot: hello"}


def test_it_loads_what_it_saved_as_messages():
    kept = memory(return_messages=True, memory_key="talk")
    kept.save_context({"input": "hi"}, {"response": "hello"})
    assert kept.load_memory_variables({}) == {"talk": [HumanMessage("hi"), AIMessage("hello")]}


def test_keys_choose_among_inputs_and_outputs():
    kept = memory(input_key="question", output_key="answer")
    kept.save_context({"question": "hi", "style": "brief"}, {"answer": "hello", "sources": "none"})
    assert kept.load_memory_variables({})["history"] == "Human: hi\nAI: hello"


@pytest.mark.parametrize("as_messages", [False, True])
def test_history_and_inputs_fit_together(as_messages):
    kept = memory(return_messages=as_messages)
    fill(kept)
    for size in (1, 100, 250):
        question = "word " * size
        loaded = kept.load_memory_variables({"input": question})["history"]
        shown = loaded if as_messages else [HumanMessage(loaded)]
        assert words([*shown, HumanMessage(question)]) <= 400


def test_a_text_that_takes_more_than_its_messages_fits_too():
    kept = memory(human_prefix="The human who is talking to you says", ai_prefix="You yourself said in reply to that")
    for _ in range(40):
        fill(kept, 1)
        assert words([HumanMessage(kept.load_memory_variables({})["history"])]) <= 400


def test_messages_among_the_inputs_count():
    kept = memory(return_messages=True)
    fill(kept)
    given = [HumanMessage("word " * 100), AIMessage("word " * 100)]
    loaded = kept.load_memory_variables({"input": "x", "examples": given})["history"]
    assert words([*loaded, *given, HumanMessage("x")]) <= 400


def test_nothing_is_lost():
    kept = memory()
    fill(kept)
    kept.load_memory_variables({"input": "x"})
    history = kept.chat_memory
    assert len(history.full_messages) == 120
    assert "question 3" in history.search("question 3")[0].text


def test_clearing_it_clears_the_session():
    kept = memory()
    fill(kept, 2)
    kept.clear()
    assert kept.load_memory_variables({}) == {"history": ""}


async def test_async_twins():
    kept = memory(return_messages=True)
    for turn in range(40):
        await kept.asave_context({"input": f"question {turn} " + "why " * 10}, {"response": "so " * 10})
    loaded = await kept.aload_memory_variables({"input": "word " * 100})
    assert words(loaded["history"]) <= 299
    await kept.aclear()
    assert await kept.aload_memory_variables({}) == {"history": []}


@CLASSIC
def test_a_chain_with_a_text_prompt():
    model = ScriptedChatModel(script=["certainly"])
    chain = ConversationChain(llm=model, memory=memory())
    for turn in range(30):
        assert chain.invoke({"input": f"question {turn} " + "why " * 10})["response"] == "certainly"
    assert all(words(call.messages) <= 400 + 60 for call in model.calls)  # the prompt's own text is beside it
    assert "question 28" in model.calls[-1].messages[0].text


@CLASSIC
def test_a_chain_with_a_placeholder():
    model = ScriptedChatModel(script=["certainly"])
    prompt = ChatPromptTemplate([MessagesPlaceholder("history"), ("human", "{input}")])
    chain = ConversationChain(llm=model, prompt=prompt, memory=memory(return_messages=True))
    for turn in range(30):
        chain.invoke({"input": f"question {turn} " + "why " * 10})
    assert all(words(call.messages) <= 400 for call in model.calls)


def test_without_classic_chains_the_error_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['langchain_classic'] = None\n"
        "import langchain_runtime.memory as memory\n"
        "memory.CompactingChatMessageHistory\n"
        "try:\n"
        "    memory.CompactingMemory\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "langchain-runtime-layer[classic]"' in said.stdout
