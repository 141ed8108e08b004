"""compact_messages: where trim_messages stands, before a model."""

import subprocess
import sys
from typing import Annotated

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.utils import trim_messages
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore
from typing_extensions import TypedDict

from langchain_runtime.contracts.context import ContextPolicy, Summary
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.memory import CompactMessages, compact_messages
from langchain_runtime.testing import ScriptedChatModel

POLICY = ContextPolicy(max_tokens=400)


def words(messages):
    return sum(len(message.text.split()) + 1 for message in messages)


def talk(turns):
    for number in range(turns):
        yield HumanMessage(f"question {number} " + "why " * 10, id=f"h{number}")
        yield AIMessage(f"answer {number} " + "because " * 10, id=f"a{number}")


def compact(messages=None, policy=POLICY, **options):
    return compact_messages(messages, policy=policy, token_counter=words, **options)


def in_thread(name):
    return {"configurable": {"thread_id": name}}


class Summarizer:
    def __init__(self):
        self.asked = 0

    def summarize(self, messages, *, max_tokens):
        self.asked += 1
        return Summary(text="They talked.")

    async def asummarize(self, messages, *, max_tokens):
        return self.summarize(messages, max_tokens=max_tokens)


class State(TypedDict):
    messages: Annotated[list, add_messages]


class TestAtOnce:
    def test_messages_are_made_to_fit(self):
        messages = list(talk(60))
        view = compact(messages)
        assert words(view) <= 400
        assert view[-1] == messages[-1]

    def test_a_conversation_that_fits_is_returned_as_it_is(self):
        messages = list(talk(3))
        assert compact(messages) == messages

    def test_whatever_langchain_takes_for_messages(self):
        assert compact([("human", "hi"), {"role": "assistant", "content": "hello"}]) == [
            HumanMessage("hi"),
            AIMessage("hello"),
        ]
        assert compact("hi") == [HumanMessage("hi")]
        assert compact(ChatPromptTemplate([("human", "{x}")]).invoke({"x": "hi"})) == [HumanMessage("hi")]
        assert compact([]) == []

    def test_what_left_a_named_conversation_is_called_back(self):
        store, messages = InMemoryStore(), list(talk(60))
        view = compact(messages, store=store, thread_id="t")
        archive = compact(store=store).archive("t")
        recalled = [message for handle in archive.handles() for message in archive.recall(handle)]
        assert all(message in view or message in recalled for message in messages)

    def test_a_conversation_that_cannot_fit_is_an_error(self):
        with pytest.raises(ContextOverflowError):
            compact([SystemMessage("be brief " * 300), HumanMessage("hi")])


class TestInAChain:
    def test_it_stands_where_trim_messages_does(self):
        model = ScriptedChatModel(script=["ok"])
        trimmed = trim_messages(max_tokens=400, token_counter=words) | model
        compacted = compact() | model
        for chain in (trimmed, compacted):
            assert chain.invoke(list(talk(60))).text == "ok"
        assert all(words(call.messages) <= 400 for call in model.calls)
        assert compacted.get_input_jsonschema()
        assert next(chunk.text for chunk in compacted.stream(list(talk(60)))) == "ok"

    def test_a_prompt_that_is_filled_in_anew_keeps_its_view(self):
        model = ScriptedChatModel(script=["ok"])
        prompt = ChatPromptTemplate([("system", "It is {time}."), MessagesPlaceholder("history")])
        summarizer = Summarizer()
        policy = ContextPolicy(max_tokens=400, strategy="summarize")
        chain = prompt | compact(policy=policy, summarizer=summarizer) | model
        messages, asked = list(talk(60)), 0
        for turn in range(4):
            chain.invoke({"time": f"{turn} o'clock and some more", "history": messages}, in_thread("t"))
            asked = asked or summarizer.asked
        assert model.calls[-1].messages[0] == SystemMessage("It is 3 o'clock and some more.")
        assert all(words(call.messages) <= 400 for call in model.calls)
        assert 0 < asked == summarizer.asked
        assert len({tuple(message.text for message in call.messages[1:]) for call in model.calls}) == 1

    def test_tools_count(self):
        tools = [{"name": "f", "description": "word " * 200}]
        messages = list(talk(60))
        assert words(compact(tools=tools).invoke(messages)) < 200

    def test_conversations_are_told_apart_by_thread_or_session(self):
        runnable = compact()
        for name, config in {"t": in_thread("t"), "s": {"configurable": {"session_id": "s"}}}.items():
            messages = [HumanMessage(f"only in {name}"), *talk(60)]
            runnable.invoke(messages, config)
            passages = runnable.archive(name).search("only in")
            assert passages
            assert all(f"only in {name}" in passage.text for passage in passages if "only" in passage.text)

    def test_calls_without_a_thread_are_the_object_s_own_conversation(self):
        runnable, other = compact(), compact()
        messages = list(talk(60))
        runnable.invoke(messages)
        assert runnable.archive().handles()
        assert other.archive().handles() == []

    def test_between_events_each_view_begins_as_the_one_before(self):
        runnable, messages, before, moves = compact(), [], [], 0
        for message in talk(80):
            messages.append(message)
            view = runnable.invoke(messages, in_thread("t"))
            moves += view[: len(before)] != before
            before = view
        assert 0 < moves < 16

    def test_the_boundary_outlives_the_object(self):
        store, messages = InMemoryStore(), list(talk(60))
        summarizer = Summarizer()
        policy = ContextPolicy(max_tokens=400, strategy="summarize")
        first = compact(policy=policy, summarizer=summarizer, store=store).invoke(messages, in_thread("t"))
        asked = summarizer.asked
        assert asked
        second = compact(policy=policy, summarizer=summarizer, store=store).invoke(messages, in_thread("t"))
        assert second == first
        assert summarizer.asked == asked

    def test_a_boundary_whose_writing_failed_is_written_at_the_next_call(self):
        class Faulty(InMemoryStore):
            broken = True

            def batch(self, ops):
                ops = list(ops)
                if self.broken and any(getattr(op, "key", None) == "boundary" and hasattr(op, "value") for op in ops):
                    raise OSError("the disk is full")
                return super().batch(ops)

        store, messages, summarizer = Faulty(), list(talk(60)), Summarizer()
        options = {
            "policy": ContextPolicy(max_tokens=400, strategy="summarize"),
            "summarizer": summarizer,
            "store": store,
        }
        runnable = compact(**options)
        with pytest.raises(OSError, match="disk is full"):
            runnable.invoke(messages, in_thread("t"))
        store.broken = False
        view, asked = runnable.invoke(messages, in_thread("t")), summarizer.asked
        assert compact(**options).invoke(messages, in_thread("t")) == view
        assert summarizer.asked == asked

    async def test_async_with_an_async_store(self, tmp_path):
        async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
            model = ScriptedChatModel(script=["ok"])
            chain = compact(store=store) | model
            await chain.ainvoke(list(talk(60)), in_thread("t"))
            assert words(model.calls[0].messages) <= 400
            assert await compact(store=store).archive("t").ahandles()


class TestInAGraph:
    def graph(self, runnable, model):
        def answer(state: State, config: RunnableConfig):
            return {"messages": (runnable | model).invoke(state["messages"])}

        return StateGraph(State).add_node(answer).add_edge(START, "answer").compile(checkpointer=InMemorySaver())

    def test_the_thread_of_the_graph_is_the_conversation(self):
        model = ScriptedChatModel(script=lambda messages: "because " * 10)
        runnable = compact()
        graph = self.graph(runnable, model)
        for turn in range(30):
            state = graph.invoke({"messages": [("human", f"question {turn} " + "why " * 10)]}, in_thread("t.1"))
        assert len(state["messages"]) == 60
        assert all(words(call.messages) <= 400 for call in model.calls)
        assert "question 3" in runnable.archive("t.1").search("question 3")[0].text
        assert "question 3" in runnable.recall_tool("t.1").invoke({"query": "question 3"})


class TestSettings:
    def test_without_any_ceiling_it_is_refused(self):
        with pytest.raises(InvalidInputError, match="how large"):
            compact_messages()

    def test_summaries_need_somebody_to_write_them(self):
        with pytest.raises(InvalidInputError, match="no summarizer"):
            compact(policy=ContextPolicy(max_tokens=400, strategy="summarize"))

    def test_the_name_stays_the_function_s_whatever_was_imported_before(self):
        code = (
            "import langchain_runtime.memory.message_compaction\n"
            "from langchain_runtime.memory import compact_messages\n"
            "from langchain_runtime.memory import compact_messages as again\n"
            "assert callable(compact_messages) and again is compact_messages\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_it_makes_a_runnable_of_its_own_class(self):
        assert isinstance(compact(), CompactMessages)
