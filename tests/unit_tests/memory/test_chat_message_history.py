"""CompactingChatMessageHistory: a view that fits, a session that keeps everything."""

import asyncio
import threading
from contextlib import nullcontext

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore
from pydantic import BaseModel

from langchain_runtime.context import find_handles
from langchain_runtime.contracts.context import ContextPolicy, ContextReport
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.memory import CompactingChatMessageHistory, _session_log
from langchain_runtime.testing import ScriptedChatModel

POLICY = ContextPolicy(max_tokens=400)
LEGACY = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")


class Answer(BaseModel):
    n: int


def words(messages):
    return sum(len(message.text.split()) + 1 for message in messages)


def talk(turns, start=0):
    for number in range(start, start + turns):
        yield HumanMessage(f"question {number} " + "why " * 10)
        yield AIMessage(f"answer {number} " + "because " * 10)


def history(store, session_id="s", policy=POLICY, counter=words, **options):
    return CompactingChatMessageHistory(session_id, store=store, policy=policy, token_counter=counter, **options)


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def sqlite(tmp_path):
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        yield store


class TestTheView:
    def test_a_session_that_fits_is_its_own_view(self, store):
        messages = list(talk(3))
        session = history(store)
        session.add_messages(messages)
        assert session.messages == session.full_messages == messages
        assert (session.handles(), session.report.strategy) == ([], ())

    def test_a_session_without_messages_is_empty(self, store):
        session = history(store, system="be brief")
        assert session.messages == [SystemMessage("be brief")]
        assert session.full_messages == []
        assert history(store).messages == []

    def test_it_fits_and_what_left_it_comes_back_equal(self, store):
        messages = list(talk(60))
        session = history(store)
        session.add_messages(messages)
        view = session.messages
        assert words(view) <= 400
        assert session.full_messages == messages
        recalled = [message for handle in session.handles() for message in session.recall(handle)]
        assert all(message in view or message in recalled for message in messages)
        assert set(find_handles("".join(message.text for message in view))) <= set(session.handles())

    def test_the_default_counter_is_the_token_estimator_s(self, store):
        session = history(store, counter=None, model="openai:gpt-5")
        session.add_messages(talk(60))
        assert 100 < TokenEstimator().expected(session.messages, model="openai:gpt-5") <= 400

    def test_the_system_text_comes_first_counts_and_is_never_stored(self, store):
        session = history(store, system="be brief " * 50)
        session.add_messages(talk(60))
        assert session.messages[0] == SystemMessage("be brief " * 50)
        assert words(session.messages) <= 400
        assert not any(isinstance(message, SystemMessage) for message in session.full_messages)

    def test_the_reserve_is_kept_free(self, store):
        session = history(store, policy=ContextPolicy(max_tokens=400, reserve_output=150))
        session.add_messages(talk(60))
        assert words(session.messages) <= 250

    def test_it_begins_as_before_until_the_boundary_moves(self, store):
        session, before, moves = history(store), [], 0
        for message in talk(100):
            session.add_message(message)
            view = session.messages
            moves += view[: len(before)] != before
            before = view
        assert moves == session.report.events
        assert moves < 20

    def test_another_object_makes_the_same_view_from_the_kept_boundary(self, store):
        first = history(store)
        for message in talk(50):
            first.add_message(message)
            view = first.messages
        second = history(store)
        assert second.messages == view
        assert second.report.events == first.report.events > 0

    def test_a_boundary_of_a_later_version_is_worked_out_anew(self, store):
        session = history(store)
        session.add_messages(talk(60))
        view = session.messages
        (item,) = store.search(("lcr", "sessions", "id=s", "view"))
        store.put(item.namespace, item.key, {"json": '{"upto": 3, "not": "known"}'})
        assert history(store).messages == view

    def test_a_boundary_whose_writing_failed_is_written_at_the_next_reading(self):
        class Faulty(InMemoryStore):
            broken = False

            def batch(self, ops):
                ops = list(ops)
                if self.broken and any(getattr(op, "key", None) == "boundary" and hasattr(op, "value") for op in ops):
                    raise OSError("the disk is full")
                return super().batch(ops)

        store = Faulty()
        session = history(store)
        session.add_messages(talk(60))
        store.broken = True
        with pytest.raises(OSError, match="disk is full"):
            _ = session.messages
        store.broken = False
        view = session.messages
        store.broken = True  # a new object would now fail if it had to move the boundary
        assert history(store).messages == view

    def test_nothing_is_evicted_while_the_archive_cannot_be_written(self):
        class Faulty(InMemoryStore):
            broken = False

            def batch(self, ops):
                ops = list(ops)
                if self.broken and any(
                    "archive" in getattr(op, "namespace", ()) and hasattr(op, "value") for op in ops
                ):
                    raise OSError("the disk is full")
                return super().batch(ops)

        store, messages = Faulty(), list(talk(60))
        session = history(store)
        session.add_messages(messages)
        store.broken = True
        with pytest.raises(OSError, match="disk is full"):
            _ = session.messages
        assert session.full_messages == messages
        store.broken = False
        assert words(session.messages) <= 400

    def test_what_must_stay_and_does_not_fit_is_an_error(self, store):
        session = history(store, system="be brief " * 300)
        session.add_user_message("hello")
        with pytest.raises(ContextOverflowError):
            _ = session.messages

    @pytest.mark.parametrize("strategy", ["offload", "truncate", "keep_last"])
    @pytest.mark.parametrize(("asked", "answered"), [(2_000, 10), (10, 2_000), (2_000, 2_000)])
    def test_a_turn_too_large_to_show_does_not_end_the_session_once_it_is_over(self, store, asked, answered, strategy):
        policy = ContextPolicy(max_tokens=400, strategy=strategy)
        session = history(store, policy=policy, system="be brief")
        session.add_messages(talk(5))
        session.add_messages([HumanMessage("large " * asked), AIMessage("large " * answered)])
        view = session.messages
        assert view[0] == SystemMessage("be brief")
        assert words(view) <= 400
        assert all(message.text for message in view)
        session.add_messages(talk(3))
        assert words(session.messages) <= 400
        assert session.messages == history(store, policy=policy, system="be brief").messages

    def test_a_question_too_large_to_show_is_an_error_while_it_waits_for_its_answer(self, store):
        session = history(store)
        session.add_user_message("large " * 2_000)
        with pytest.raises(ContextOverflowError):
            _ = session.messages

    def test_a_policy_that_says_fail_fails(self, store):
        session = history(store, policy=ContextPolicy(max_tokens=400, strategy="fail"))
        session.add_messages(talk(60))
        with pytest.raises(ContextOverflowError):
            _ = session.messages

    def test_the_view_beside_other_messages_fits_together_with_them(self, store):
        session = history(store)
        session.add_messages(talk(60))
        question = [HumanMessage("word " * 200)]
        assert words([*session.messages_beside(question), *question]) <= 400

    def test_orphans_of_a_cut_session_stay_out_of_view_and_within_reach(self, store):
        orphan = ToolMessage("21 degrees", tool_call_id="c1")
        session = history(store)
        session.add_messages([orphan, HumanMessage("hello")])
        assert session.messages == [HumanMessage("hello")]
        assert [session.recall(handle) for handle in session.handles()] == [[orphan]]


class TestWhatIsKept:
    def test_messages_come_back_as_they_were(self, sqlite):
        messages = [
            HumanMessage([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]),
            AIMessage(
                "", tool_calls=[{"name": "f", "args": {"n": 2**70, "x": float("inf")}, "id": "c"}], name="assistant"
            ),
            ToolMessage("an object", tool_call_id="c", artifact=Answer(n=1)),
            ToolMessage("half a pair \ud83d and \x00", tool_call_id="c", artifact={"a": [1, None]}, status="error"),
            AIMessageChunk("in pieces", response_metadata={"model": "m"}),
            HumanMessage("twice", id="same"),
            HumanMessage("twice", id="same"),
        ]
        history(sqlite).add_messages(messages)
        assert history(sqlite).full_messages == messages

    def test_a_message_that_cannot_be_kept_is_refused_and_none_is_added(self, store):
        session = history(store)
        with pytest.raises(InvalidInputError, match="cannot be kept"):
            session.add_messages([HumanMessage("fine"), ToolMessage("x", tool_call_id="c", artifact=object())])
        assert session.full_messages == []

    @pytest.mark.parametrize(
        "twin", ["", "%2E", "a.b", "a%2Eb", "a%2eb", "A.B", "a/b", "../a", "ä", "😀", "\x00", "\ud800", "*", "x" * 500]
    )
    def test_any_text_is_a_session_of_its_own(self, sqlite, twin):
        others = {name: history(sqlite, name) for name in ("a.b ", "a_b", "a", "s.messages", "")}
        for name, other in others.items():
            other.add_user_message(f"of {name!r}")
        session = history(sqlite, twin)
        session.add_user_message("mine")
        expected = ["mine"] if twin not in others else [f"of {twin!r}", "mine"]
        assert [message.text for message in history(sqlite, twin).full_messages] == expected
        session.clear()
        assert all(other.full_messages for name, other in others.items() if name != twin)

    def test_a_session_id_that_is_no_text_is_refused(self, store):
        with pytest.raises(InvalidInputError, match="got int"):
            history(store, 7)

    def test_clearing_leaves_nothing_in_the_store(self, sqlite):
        session = history(sqlite)
        session.add_messages(talk(60))
        assert session.messages
        assert session.handles()
        session.clear()
        assert sqlite.search((), limit=100) == []
        assert (session.messages, session.full_messages, session.handles()) == ([], [], [])
        session.add_user_message("again")
        assert session.messages == [HumanMessage("again")]

    def test_another_object_notices_that_the_session_was_cleared(self, store):
        session, other = history(store), history(store)
        session.add_messages(talk(60))
        assert other.messages
        session.clear()
        session.add_user_message("again")
        assert other.messages == [HumanMessage("again")]

    def test_without_a_store_all_histories_of_the_process_share_one(self):
        name = "shared by this test"
        try:
            history(None, name).add_user_message("hello")
            assert history(None, name).messages == [HumanMessage("hello")]
        finally:
            history(None, name).clear()

    def test_more_messages_than_a_store_s_page_or_batch(self, sqlite):
        messages = [HumanMessage(str(number)) for number in range(10_050)]
        session = history(sqlite)
        session.add_messages(messages)
        assert session.full_messages == messages
        session.clear()
        assert history(sqlite).full_messages == []

    def test_order_holds_when_another_machine_s_clock_was_ahead(self, store, monkeypatch):
        monkeypatch.setattr(_session_log, "_CLOCK", _session_log._Clock())
        with monkeypatch.context() as patch:
            patch.setattr("time.time_ns", lambda: 2**62)
            history(store).add_user_message("first")
        monkeypatch.setattr(_session_log, "_CLOCK", _session_log._Clock())
        session = history(store)
        assert session.messages
        session.add_user_message("second")
        assert [message.text for message in session.full_messages] == ["first", "second"]

    def test_threads_that_append_at_once_lose_nothing(self, store):
        self.storm(lambda: nullcontext(store))

    def test_connections_that_append_at_once_lose_nothing(self, tmp_path):
        def connected():
            return SqliteStore.from_conn_string(str(tmp_path / "store.db"))

        with connected() as store:
            store.setup()
        self.storm(connected)

    def storm(self, connected):
        failures = []

        def work(number):
            try:
                with connected() as store:
                    for turn in range(10):
                        session = history(store)
                        session.add_messages(
                            [HumanMessage(f"{number} asks {turn}"), AIMessage(f"{number} hears {turn}")]
                        )
                        assert words(session.messages) <= 400
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        with connected() as store:
            texts = [message.text for message in history(store).full_messages]
        for number in range(6):
            own = [text for text in texts if text.startswith(f"{number} ")]
            assert own == [f"{number} {verb} {turn}" for turn in range(10) for verb in ("asks", "hears")]

    def test_one_object_serves_threads(self, store):
        session = history(store)

        def work(number):
            for turn in range(10):
                session.add_user_message(f"{number} {turn} " + "why " * 10)
                assert words(session.messages) <= 400

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(session.full_messages) == 40


class TestRecall:
    def test_by_handle_words_tool_and_retriever(self, store):
        session = history(store)
        session.add_user_message("My locker at the station is number 4711.")
        session.add_messages(talk(60))
        assert "4711" not in "".join(message.text for message in session.messages)
        passage = session.search("locker number")[0]
        assert "4711" in passage.text
        assert session.search("locker number", handle=passage.handle)[0] == passage
        assert "4711" in "".join(message.text for message in session.recall(passage.handle))
        assert "4711" in session.recall_tool().invoke({"query": "locker number"})
        assert "4711" in session.recall_tool().invoke({"handle": passage.handle})
        found = session.retriever().invoke("locker number")
        assert isinstance(found[0], Document)
        assert "4711" in found[0].page_content

    def test_a_tool_sees_what_left_the_view_by_another_object(self, store):
        tool, other = history(store).recall_tool(), history(store)
        assert "4711" not in tool.invoke({"query": "locker"})
        other.add_user_message("My locker at the station is number 4711.")
        other.add_messages(talk(60))
        assert other.messages
        assert "4711" in tool.invoke({"query": "locker"})

    def test_answers_of_the_tool_are_as_large_as_the_policy_allows(self, store):
        session = history(store, policy=ContextPolicy(max_tokens=400, recall_tokens=64))
        session.add_messages([HumanMessage(f"{number} " * 200) for number in range(5)])
        assert session.messages
        assert words([HumanMessage(session.recall_tool().invoke({"handle": session.handles()[0]}))]) <= 64

    def test_an_unknown_handle_is_an_error(self, store):
        with pytest.raises(InvalidInputError):
            history(store).recall("aaaaaaaaaaaa")


class TestSettings:
    def test_without_any_ceiling_it_is_refused(self, store):
        with pytest.raises(InvalidInputError, match="how large") as refused:
            CompactingChatMessageHistory("s", store=store)
        assert "max_tokens" in refused.value.hint

    def test_a_model_nobody_knows_is_no_ceiling(self, store):
        with pytest.raises(InvalidInputError, match="nobody:knows"):
            CompactingChatMessageHistory("s", store=store, model="nobody:knows")

    def test_a_model_s_window_is_a_ceiling(self, store):
        assert CompactingChatMessageHistory("s", store=store, model="openai:gpt-5").messages == []
        model = ScriptedChatModel(profile={"max_input_tokens": 300})
        session = CompactingChatMessageHistory("s", store=store, model=model)
        session.add_messages(talk(60))
        assert TokenEstimator().expected(session.messages) <= 0.8 * 300

    def test_so_many_groups_are_a_ceiling(self, store):
        policy = ContextPolicy(strategy="keep_last", keep_last_n=3)
        session = CompactingChatMessageHistory("s", store=store, policy=policy)
        session.add_messages(talk(9))
        assert len(session.messages) == 3
        assert len(session.messages_beside([HumanMessage("x")])) == 3
        assert session.recall_tool().invoke({"query": "question 3"})

    def test_summaries_need_somebody_to_write_them(self, store):
        with pytest.raises(InvalidInputError, match="no summarizer"):
            history(store, policy=ContextPolicy(max_tokens=400, strategy="summarize"))

    def test_a_chat_model_writes_summaries(self, store):
        model = ScriptedChatModel(script=["They talked about nothing."])
        session = history(store, policy=ContextPolicy(max_tokens=400, strategy="summarize"), summarizer=model)
        session.add_messages(talk(60))
        assert "They talked about nothing." in "".join(message.text for message in session.messages)
        calls = len(model.calls)
        assert history(store, policy=ContextPolicy(max_tokens=400, strategy="summarize"), summarizer=model).messages
        assert len(model.calls) == calls

    def test_before_the_first_view_the_report_is_blank(self, store):
        assert history(store).report == ContextReport()


class TestLangChainsInterface:
    def test_messages_one_by_one_and_as_text(self, store):
        session = history(store)
        session.add_user_message("hello")
        session.add_ai_message(AIMessage("hi"))
        session.add_message(HumanMessage("bye"))
        assert str(session) == "Human: hello\nAI: hi\nHuman: bye"

    @LEGACY
    def test_with_message_history_of_plain_messages(self, store):
        model = ScriptedChatModel(script=lambda messages: f"reply to {messages[-1].text}")
        chat = RunnableWithMessageHistory(model, lambda session_id: history(store, session_id))
        config = {"configurable": {"session_id": "u/1"}}
        for turn in range(30):
            chat.invoke([HumanMessage(f"turn {turn} " + "why " * 10)], config)
        kept = history(store, "u/1").full_messages
        assert [message.text.split()[1] for message in kept if message.type == "human"] == [str(n) for n in range(30)]
        assert [message.type for message in kept] == ["human", "ai"] * 30
        assert all(words(call.messages) <= 400 + 12 for call in model.calls)

    @LEGACY
    def test_a_counter_that_learns_in_between_makes_nothing_seem_new(self, store):
        factor = 1

        def reply(messages):
            nonlocal factor
            factor = 3 - factor  # sizes are others after the call than before it
            return "because " * 10

        def counter(messages):
            return factor * words(messages)

        chat = RunnableWithMessageHistory(
            ScriptedChatModel(script=reply), lambda session_id: history(store, session_id, counter=counter)
        )
        for turn in range(40):
            chat.invoke([HumanMessage(f"turn {turn} " + "why " * 10)], {"configurable": {"session_id": "s"}})
        asked = [message.text.split()[1] for message in history(store).full_messages if message.type == "human"]
        assert asked == [str(turn) for turn in range(40)]

    @LEGACY
    def test_with_message_history_of_a_prompt_async_and_streamed(self, store):
        prompt = ChatPromptTemplate([("system", "Be brief."), MessagesPlaceholder("history"), ("human", "{question}")])
        model = ScriptedChatModel(script=lambda messages: f"reply to {messages[-1].text}")
        chat = RunnableWithMessageHistory(
            prompt | model,
            lambda session_id: history(store, session_id),
            input_messages_key="question",
            history_messages_key="history",
        )
        config = {"configurable": {"session_id": "s"}}

        async def turns():
            for turn in range(10):
                await chat.ainvoke({"question": f"turn {turn} " + "why " * 10}, config)
            return [chunk.text async for chunk in chat.astream({"question": "last"}, config)]

        assert "".join(asyncio.run(turns())) == "reply to last"
        assert len(history(store).full_messages) == 22
        assert all(words(call.messages) <= 400 + 15 for call in model.calls)


class TestAsync:
    async def everything(self, store):
        session = history(store, "async")
        messages = list(talk(60))
        await session.aadd_messages(messages)
        view = await session.aget_messages()
        assert words(view) <= 400
        assert await session.aget_full_messages() == messages
        handles = await session.ahandles()
        recalled = [message for handle in handles for message in await session.arecall(handle)]
        assert all(message in view or message in recalled for message in messages)
        assert "question 3" in (await session.asearch("question 3"))[0].text
        assert len(await session.amessages_beside([HumanMessage("why " * 200)])) < len(view)
        assert await history(store, "async").aget_messages()
        await session.aclear()
        assert await session.aget_full_messages() == []

    async def test_a_store_in_memory(self, store):
        await self.everything(store)

    async def test_an_async_store(self, tmp_path):
        async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
            await self.everything(store)

    async def test_a_store_without_async_methods(self, sqlite):
        await self.everything(sqlite)

    async def test_sync_methods_reach_an_async_store_from_another_thread(self, tmp_path):
        async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
            session = history(store)
            await asyncio.to_thread(session.add_user_message, "hello")
            assert await asyncio.to_thread(lambda: session.messages) == [HumanMessage("hello")]

    async def test_tasks_that_append_at_once_lose_nothing(self, tmp_path):
        async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:

            async def work(number):
                session = history(store)
                for turn in range(10):
                    await session.aadd_messages([HumanMessage(f"{number} {turn}")])
                    assert words(await session.aget_messages()) <= 400

            await asyncio.gather(*(work(number) for number in range(8)))
            texts = [message.text for message in await history(store).aget_full_messages()]
            assert sorted(texts) == sorted(f"{number} {turn}" for number in range(8) for turn in range(10))
