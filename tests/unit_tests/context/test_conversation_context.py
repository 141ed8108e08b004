"""A conversation's view from turn to turn (the invariants have property tests)."""

import asyncio
import threading

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, ConversationContext
from langchain_runtime.context.marks import is_note, is_reminder
from langchain_runtime.contracts.context import Boundary, ContextPolicy, Summary
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage

POLICY = ContextPolicy(max_tokens=400)


def words(messages):
    return sum(len(message.text.split()) + 1 for message in messages)


def talk(turns, start=0):
    for number in range(start, start + turns):
        yield HumanMessage(f"question {number} " + "why " * 10, id=f"h{number}")
        yield AIMessage(f"answer {number} " + "because " * 10, id=f"a{number}")


@pytest.fixture
def archive():
    return Archive(InMemoryStore(), ("test", "talk"))


def context(archive, policy=POLICY, counter=words, **options):
    return ConversationContext(policy, archive, counter=counter, **options)


def said(archive):
    return [message for handle in archive.handles() for message in archive.recall(handle)]


class Summarizer:
    def __init__(self, answer=lambda messages: "They talked."):
        self.answer = answer
        self.asked = []

    def summarize(self, messages, *, max_tokens):
        self.asked.append((list(messages), max_tokens))
        answer = self.answer(messages)
        if isinstance(answer, Exception):
            raise answer
        return Summary(text=answer, usage=Usage(tokens=TokenUsage(input=9, output=3), cost=Cost.usd("0.01")))

    async def asummarize(self, messages, *, max_tokens):
        return self.summarize(messages, max_tokens=max_tokens)


class TestViews:
    def test_a_conversation_that_fits_is_its_own_view(self, archive):
        messages = list(talk(3))
        view = context(archive).view(messages)
        assert view.messages == messages
        assert (view.moved, view.report.strategy, view.boundary) == (False, (), Boundary())

    def test_what_left_the_view_is_in_the_archive_and_the_report_says_so(self, archive):
        messages = list(talk(40))
        view = context(archive).view(messages)
        assert words(view.messages) <= 400
        assert all(message in view.messages or message in said(archive) for message in messages)
        assert view.report.strategy == ("offload",)
        assert view.report.tokens_after == words(view.messages)
        assert view.report.tokens_before == words(messages)
        assert view.report.evicted == sum(message not in view.messages for message in messages)

    def test_system_message_and_tools_count_and_are_no_part_of_it(self, archive):
        @tool
        def look(where: str) -> str:
            """Look somewhere, with a description of some length, so that it takes its share of the room."""
            return where

        system = SystemMessage("be brief " * 50)
        messages = list(talk(40))
        view = context(archive).view(messages, system=system, tools=[look])
        assert system not in view.messages
        assert 400 - 160 < words([system, *view.messages]) < 400
        assert view.report.tokens_after > words([system, *view.messages])

    def test_more_tools_make_the_view_smaller_although_nothing_was_said(self, archive):
        conversation, messages = context(archive), list(talk(15))
        before = conversation.view(messages)
        after = conversation.view(messages, tools=[{"name": "f", "description": "word " * 200}])
        assert (before.moved, after.moved) == (False, True)
        assert words(after.messages) < 250

    def test_an_edited_conversation_is_read_anew(self, archive):
        conversation, messages = context(archive), list(talk(40))
        conversation.view(messages)
        edited = [HumanMessage("another beginning", id="h0"), *messages[1:]]
        view = conversation.view(edited)
        assert view.messages == context(archive).view(edited).messages
        assert edited[0] in said(archive)

    def test_a_shorter_conversation_is_read_anew(self, archive):
        conversation, messages = context(archive), list(talk(40))
        conversation.view(messages)
        assert conversation.view(messages[:4]).messages == messages[:4]

    def test_without_a_ceiling_nothing_leaves(self, archive):
        messages = list(talk(40))
        assert context(archive, ContextPolicy()).view(messages).messages == messages

    def test_keep_last_without_a_ceiling_keeps_so_many_groups(self, archive):
        messages = list(talk(40))
        view = context(archive, ContextPolicy(strategy="keep_last", keep_last_n=3)).view(messages)
        assert view.messages == messages[-3:]
        assert said(archive) == messages[:-3]


class TestBoundaries:
    def test_a_restart_goes_on_from_the_boundary_where_it_was(self, archive):
        messages = list(talk(40))
        first = context(archive)
        boundary = Boundary.model_validate_json(first.view(messages[:50]).boundary.model_dump_json())
        copies = [message.model_copy() for message in messages]
        second = context(archive, boundary=boundary).view(copies)
        assert second.messages == first.view(messages).messages
        assert second.boundary == first.view(messages).boundary

    def test_a_boundary_of_another_conversation_is_ignored(self, archive):
        boundary = context(archive).view(list(talk(40))).boundary
        other = list(talk(40, start=100))
        assert context(archive, boundary=boundary).view(other).messages == context(archive).view(other).messages

    def test_an_archive_that_was_lost_is_filled_again(self, archive):
        messages = list(talk(40))
        first = context(archive).view(messages)
        empty = Archive(InMemoryStore(), ("test", "talk"))
        second = context(empty, boundary=first.boundary).view(messages)
        assert second.messages == first.messages
        assert empty.handles() == archive.handles()

    def test_it_moved_once_and_not_again_at_the_next_question(self, archive):
        conversation, messages = context(archive), list(talk(40))
        assert conversation.view(messages).moved
        assert not conversation.view(messages).moved


class TestBadInput:
    def test_a_question_larger_than_the_window_raises_and_the_next_one_goes_on(self, archive):
        conversation, messages = context(archive), [*talk(5), HumanMessage("word " * 500, id="big")]
        for _ in range(2):
            with pytest.raises(ContextOverflowError):
                conversation.view(messages)
        messages += [AIMessage("no", id="no"), HumanMessage("shorter", id="short")]
        view = conversation.view(messages)
        assert messages[-1] in view.messages
        assert messages[-3] in said(archive)

    def test_a_system_prompt_larger_than_the_window_raises(self, archive):
        with pytest.raises(ContextOverflowError):
            context(archive).view([HumanMessage("hi")], system=SystemMessage("word " * 500))

    def test_orphans_are_kept_out_of_view_and_reported(self, archive):
        orphan = ToolMessage("42", tool_call_id="lost", id="o")
        messages = [*talk(2), orphan, HumanMessage("and?")]
        view = context(archive).view(messages)
        assert view.messages == [*messages[:4], messages[-1]]
        assert view.report.orphans == 1
        assert said(archive) == [orphan]

    def test_orphans_are_refused_where_the_policy_says_so(self, archive):
        policy = POLICY.model_copy(update={"on_orphans": "refuse"})
        with pytest.raises(InvalidInputError, match="'lost' that is not in it"):
            context(archive, policy).view([*talk(2), ToolMessage("42", tool_call_id="lost")])

    def test_a_result_that_comes_when_its_call_has_left_is_archived(self, archive):
        call = {"name": "slow", "args": {}, "id": "c", "type": "tool_call"}
        late = ToolMessage("at last", tool_call_id="c", id="late")
        messages = [AIMessage("", tool_calls=[call], id="call"), *talk(40), late, HumanMessage("so?")]
        view = context(archive).view(messages)
        assert late not in view.messages
        assert late in said(archive)

    def test_a_store_that_fails_leaves_everything_as_it_was(self, archive):
        class Failing(InMemoryStore):
            broken = True

            def batch(self, ops):
                operations = list(ops)
                if self.broken and any(hasattr(op, "value") for op in operations):
                    raise OSError("disk full")
                return super().batch(operations)

        store = Failing()
        conversation, messages = context(Archive(store, ("test", "talk"))), list(talk(40))
        fits = conversation.view(messages[:10])
        with pytest.raises(OSError, match="disk full"):
            conversation.view(messages)
        assert conversation.view(messages[:10]).messages == fits.messages
        store.broken = False
        assert conversation.view(messages).messages == context(archive).view(messages).messages


class TestSummaries:
    policy = ContextPolicy(max_tokens=400, strategy="summarize", summary_tokens=60)

    def test_the_note_says_in_short_what_left_and_keeps_its_handles(self, archive):
        summarizer = Summarizer()
        view = context(archive, self.policy, summarizer=summarizer).view(list(talk(20)))
        [note] = [message for message in view.messages if is_note(message)]
        assert note.text.startswith("[In short, what was said earlier:\nThey talked.\n]\n[Earlier messages")
        assert view.report.strategy == ("summarize",)
        assert view.report.summary.tokens.input == 9 * len(summarizer.asked)
        assert str(view.report.summary.cost.amount) == f"0.0{len(summarizer.asked)}"
        assert words(view.messages) <= 400

    def test_the_next_summary_is_made_of_the_last_one_and_what_came_after(self, archive):
        summarizer = Summarizer()
        conversation, messages = context(archive, self.policy, summarizer=summarizer), list(talk(80))
        for end in range(2, 162, 2):
            conversation.view(messages[:end])
        assert len(summarizer.asked) > 2
        for asked, max_tokens in summarizer.asked[1:]:
            assert is_note(asked[0])
            assert "They talked." in asked[0].text
            assert (words(asked) < 400, max_tokens) == (True, 60)

    @pytest.mark.parametrize(
        "answer",
        [
            lambda messages: RuntimeError("the model is down"),
            lambda messages: "",
            lambda messages: "and so on " * 500,
            lambda messages: "\n".join(message.text for message in messages) * 2,
        ],
        ids=["fails", "is empty", "is too long", "returns more than it got"],
    )
    def test_a_summarizer_of_no_use_leaves_the_view_as_offloading_does(self, archive, answer):
        messages = list(talk(20))
        view = context(archive, self.policy, summarizer=Summarizer(answer)).view(messages)
        assert view.report.strategy == ("offload",)
        assert "In short" not in "".join(message.text for message in view.messages)
        assert all(message in view.messages or message in said(archive) for message in messages)

    def test_what_a_useless_summary_cost_is_still_reported(self, archive):
        view = context(archive, self.policy, summarizer=Summarizer(lambda messages: "")).view(list(talk(20)))
        assert view.report.summary.cost is not None

    def test_a_restart_keeps_the_summary_and_does_not_ask_again(self, archive):
        messages = list(talk(20))
        first = context(archive, self.policy, summarizer=Summarizer()).view(messages)
        again = Summarizer()
        second = context(archive, self.policy, summarizer=again, boundary=first.boundary).view(messages)
        assert second.messages == first.messages
        assert again.asked == []

    def test_without_a_summarizer_the_policy_is_refused(self, archive):
        with pytest.raises(InvalidInputError, match="there is no summarizer"):
            context(archive, self.policy)


class TestReminders:
    policy = ContextPolicy(max_tokens=400, remind_tokens=60)

    def told(self):
        secret = [HumanMessage("The password of the gate is swordfish.", id="s"), AIMessage("Noted.", id="n")]
        return [*secret, *talk(40), HumanMessage("What was the password of the gate?", id="q")]

    def test_a_question_about_what_left_finds_it_before_itself(self, archive):
        view = context(archive, self.policy).view(self.told())
        assert is_reminder(view.messages[-2])
        assert "swordfish" in view.messages[-2].text
        assert words(view.messages[-2:-1]) <= 60

    def test_the_reminder_stays_where_it_was_shown_also_after_a_restart(self, archive):
        conversation, messages = context(archive, self.policy), self.told()
        first = conversation.view(messages)
        messages += [AIMessage("It is swordfish.", id="r"), HumanMessage("Thanks", id="t")]
        assert conversation.view(messages).messages[: len(first.messages)] == first.messages
        restarted = context(archive, self.policy, boundary=first.boundary).view(messages)
        assert restarted.messages == conversation.view(messages).messages

    def test_reminders_leave_without_a_trace(self, archive):
        messages = [*self.told(), *talk(40, start=50)]
        view = context(archive, self.policy).view(messages)
        assert not any(is_reminder(message) for message in said(archive))
        assert all(message in view.messages or message in said(archive) for message in messages)


class TestConcurrency:
    def test_async_turns_give_the_same(self, archive):
        messages = list(talk(40))
        view = asyncio.run(context(archive).aview(messages))
        assert view.messages == context(archive).view(messages).messages

    def test_threads_that_share_a_conversation_see_the_same(self, archive):
        conversation, messages = context(archive), list(talk(60))
        expected = {end: context(archive).view(messages[:end]).messages for end in range(1, 121)}
        wrong = []

        def ask(ends):
            for end in ends:
                if conversation.view(messages[:end]).messages != expected[end]:
                    wrong.append(end)

        threads = [
            threading.Thread(target=ask, args=(range(first, 121, step),)) for first, step in [(1, 1), (2, 3), (5, 2)]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
