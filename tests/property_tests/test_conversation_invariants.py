"""I1 to I12 for conversations that grow: every view on the way, whatever was said and however it was asked for."""

import asyncio
from itertools import pairwise

from conversation_checks import (
    Fitted,
    assert_fits,
    assert_handles_lead_somewhere,
    assert_kept,
    assert_lossless,
    assert_ordered,
    assert_untouched,
    assert_valid,
    must_stay,
    new_archive,
    origins,
)
from conversations import CI, FEWER, PATIENT, cases
from hypothesis import given
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import group_messages
from langchain_runtime.context.marks import is_note, is_our_own, mark_of
from langchain_runtime.contracts.context import Boundary, Summary
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.cost import TokenEstimator

pytestmark = PATIENT


class Asked:
    """One view that was asked for, or the error that came instead."""

    grows = True

    def __init__(self, case, context, end):
        self.case = case
        self.messages = case.messages[:end]
        self.end = end
        self.view = self.error = None
        try:
            self.view = case.ask(context, self.messages)
        except ContextOverflowError as error:
            self.error = error

    def __repr__(self):
        return f"<after {self.end} of {self.case}>"


def walk(case, archive, ends=None, **options):
    """The views of a conversation after some of its messages, or after each."""
    context = case.context(archive, **options)
    return [Asked(case, context, end) for end in ends or range(1, len(case.messages) + 1)]


def given_out(asked):
    return [each for each in asked if each.view is not None]


@CI
@given(cases())
def test_a_view_fits_and_is_a_valid_conversation_with_all_that_must_stay_in_order_I1_I2_I3_I4_I6(case):
    archive = new_archive()
    for each in walk(case, archive):
        assert_sound(each, archive)


def assert_sound(each, archive):
    assert_fits(each)
    if each.view is not None:
        found = origins(each.messages, each.view.messages, archive)
        assert_valid(each, found)
        assert_untouched(each, found)
        assert_kept(each, found)
        assert_ordered(each, found)


@CI
@given(cases())
def test_what_leaves_a_view_is_in_the_archive_first_and_comes_back_equal_I5(case):
    archive = new_archive()
    context = case.context(archive)
    for end in case.chunks():
        each = Asked(case, context, end)
        if each.view is not None:
            assert_lossless(each, archive)
            assert_handles_lead_somewhere(each, archive)


@CI
@given(cases())
def test_equal_messages_give_equal_views_in_a_fresh_object_I7(case):
    ends = case.chunks()
    first = walk(case, new_archive(), ends)
    case.messages = [message.model_copy() for message in case.messages]
    assert_same(walk(case, new_archive(), ends), first)


def assert_same(some, others):
    """Equal views and boundaries, or equal errors."""
    for one, other in zip(some, others, strict=True):
        assert str(one.error) == str(other.error)
        if one.view is not None:
            assert one.view.messages == other.view.messages
            assert one.view.boundary == other.view.boundary


@CI
@given(cases())
def test_asking_twice_changes_nothing_I8(case):
    context = case.context(new_archive())
    for end in case.chunks():
        first, second = Asked(case, context, end), Asked(case, context, end)
        assert_same([second], [first])
        if second.view is not None:
            assert not second.view.moved
            assert second.view.report.strategy == ()
            assert second.view.report.tokens_before == second.view.report.tokens_after


@CI
@given(cases(trigger=1.0))
def test_a_conversation_under_the_trigger_is_its_own_view_I8(case):
    roomy = case.size(case.messages) + case.policy.reserve_output
    trigger = case.rng.uniform(0.3, 1)
    case.policy = case.policy.model_copy(update={"max_tokens": int(roomy / trigger) + 2, "trigger": trigger})
    case.window = None
    orphans = group_messages(case.messages).orphans
    for each in walk(case, new_archive(), case.chunks()):
        assert each.view.messages == [m for p, m in enumerate(each.messages) if p not in orphans]
        assert each.view.boundary == Boundary()
        assert not each.view.moved


@CI
@given(cases())
def test_between_events_a_view_begins_as_the_one_before_and_the_boundary_only_advances_I9(case):
    for before, after in pairwise(given_out(walk(case, new_archive()))):
        one, other = before.view, after.view
        if one.boundary == other.boundary:
            assert begins_as(other, one)
            assert not other.moved
        else:
            assert other.moved
            assert other.boundary.events > one.boundary.events
            assert one.boundary.upto < other.boundary.upto <= after.end


def begins_as(view, other):
    return [*map(id, other.messages)] == [*map(id, view.messages[: len(other.messages)])]


@CI
@given(cases())
def test_an_event_lands_at_the_target_or_leaves_only_what_must_stay_I10(case):
    """``truncate`` may end above the target; whatever was done, it made the view smaller, so that it does not loop."""
    archive = new_archive()
    goal = int(min(case.policy.target, case.policy.trigger) * case.room)
    for each in given_out(walk(case, archive)):
        if each.view.boundary.upto < each.end:
            continue
        size = case.size(each.view.messages)
        assert size < each.view.report.tokens_before
        if size > goal and "truncate" not in case.policy.strategy:
            found = origins(each.messages, each.view.messages, archive)
            assert {*found} - {None} <= must_stay(each.messages, case.policy)


@CI
@given(cases(most=5))
def test_views_do_not_depend_on_how_often_they_are_asked_for_I11(case):
    one_by_one = walk(case, new_archive())[-1:]
    assert_same(walk(case, new_archive(), case.chunks())[-1:], one_by_one)
    assert_same(walk(case, new_archive(), [len(case.messages)]), one_by_one)


@CI
@given(cases())
def test_the_first_event_makes_what_the_compactor_makes_of_the_whole_I11(case):
    first = next((each for each in walk(case, new_archive()) if each.view is not None and each.view.moved), None)
    if first is not None:
        case.messages = first.messages
        assert first.view.messages == Fitted(case).view.messages


@CI
@given(cases(most=5))
def test_a_restart_from_a_kept_boundary_goes_on_with_the_same_views_I11(case):
    archive, ends = new_archive(), case.chunks()
    first = walk(case, archive, ends)
    at = case.rng.randrange(len(ends))
    kept = [each.view.boundary for each in given_out(first[: at + 1])][-1:]
    case.messages = [message.model_copy(deep=True) for message in case.messages]
    archive = case.rng.choice([archive, new_archive()])
    boundary = Boundary.model_validate_json(kept[0].model_dump_json()) if kept else None
    again = walk(case, archive, ends[at:], boundary=boundary)
    assert_same(again, first[at:])
    for each in given_out(again)[-1:]:
        assert_handles_lead_somewhere(each, archive)
        assert_lossless(each, archive)


@CI
@given(cases())
def test_async_turns_give_the_same_I11(case):
    async def turns(ends):
        context = case.context(new_archive())
        return [await case.aask(context, case.messages[:end]) for end in ends]

    first = walk(case, new_archive(), case.chunks())
    views = given_out(first)
    if len(views) == len(first):
        for one, other in zip(asyncio.run(turns([each.end for each in first])), views, strict=True):
            assert one.messages == other.view.messages
            assert one.boundary == other.view.boundary


@CI
@given(cases())
def test_reports_are_true_I12(case):
    shown, read = [], 0
    for each in given_out(walk(case, new_archive(), case.chunks())):
        report, before = each.view.report, [*shown, *each.messages[read:]]
        orphans = set(group_messages(each.messages).orphans)
        after = each.view.messages
        known = {id(message) for message in before}
        assert report.tokens_before == case.size(before)
        assert report.tokens_after == case.size(after)
        assert report.evicted == sum(map(is_said, before)) - sum(map(is_said, after))
        assert report.clipped == sum(mark_of(message).clipped and id(message) not in known for message in after)
        assert report.orphans >= sum(read <= position < each.end for position in orphans)
        assert report.orphans <= sum(isinstance(message, ToolMessage) for message in each.messages[read:])
        assert bool(report.strategy) == each.view.moved
        assert {*report.strategy} <= {*case.policy.strategy, "offload"}
        assert report.events == each.view.boundary.events
        shown, read = after, each.end


def is_said(message):
    return not is_our_own(message)


class Unsteady(InMemoryStore):
    """Fails at writes now and then, before or after they are done."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng

    def batch(self, ops):
        operations = list(ops)
        writes = any(hasattr(each, "value") for each in operations)
        if writes and self.rng.random() < 0.3:
            raise OSError("disk full")
        done = super().batch(operations)
        if writes and self.rng.random() < 0.2:
            raise OSError("connection lost")
        return done


@CI
@given(cases(most=5))
def test_with_a_store_that_fails_nothing_is_evicted_unkept_and_the_next_try_succeeds_I5_I7(case):
    ends = case.chunks()
    expected = walk(case, new_archive(), ends)
    archive = new_archive(Unsteady(case.rng))
    context, got = case.context(archive), []
    for end in ends:
        while len(got) < len(expected):
            try:
                got.append(Asked(case, context, end))
            except OSError:
                continue
            break
        if got[-1].view is not None:
            assert_lossless(got[-1], archive)
    assert_same(got, expected)


USAGE = Usage(tokens=TokenUsage(input=9, output=3), cost=Cost.usd("0.01"))
SAYS_NOTHING_OF_USE = "Traceback: the model is down"


class Wayward:
    """Writes good summaries and bad ones; counts those that were paid for."""

    def __init__(self, rng):
        self.rng = rng
        self.paid = 0

    def summarize(self, messages, *, max_tokens):
        way = self.rng.randrange(6)
        if way == 0:
            raise RuntimeError(SAYS_NOTHING_OF_USE)
        self.paid += 1
        everything = " ".join(str(message.content) for message in messages)
        text = ["", "They talked.", "They talked.", everything, everything * 2, "\n "][way]
        return Summary(text=text, usage=USAGE)

    async def asummarize(self, messages, *, max_tokens):
        return self.summarize(messages, max_tokens=max_tokens)


@CI
@given(cases(strategies=("summarize",)))
def test_a_summarizer_that_fails_or_loops_never_shows_in_a_view_I1_I2_I3_I4_I5_I6_I12(case):
    archive, summarizer = new_archive(), Wayward(case.rng)
    asked, paid = walk(case, archive, case.chunks(), summarizer=summarizer), Usage()
    for each in asked:
        assert_sound(each, archive)
    for each in given_out(asked):
        assert_handles_lead_somewhere(each, archive)
        assert not any(SAYS_NOTHING_OF_USE in str(message.content) for message in each.view.messages)
        paid += each.view.report.summary
    if len(given_out(asked)) == len(asked):
        assert paid.tokens.input == 9 * summarizer.paid
    for before, after in pairwise(given_out(asked)):
        assert before.view.boundary.upto <= after.view.boundary.upto
    for each in given_out(asked)[-1:]:
        assert_lossless(each, archive)


class Useless(Wayward):
    """Fails, or answers with nothing or with more than it got, be it ever so little."""

    def __init__(self, case):
        super().__init__(case.rng)
        self.counter = case.counter

    def summarize(self, messages, *, max_tokens):
        if self.rng.random() < 0.5:
            raise RuntimeError(SAYS_NOTHING_OF_USE)
        longer = "x"
        while self.counter([HumanMessage(longer)]) < self.counter(messages):
            longer += "xxx"
        return Summary(text=self.rng.choice(["", longer]), usage=USAGE)


@CI
@given(cases(strategies=("summarize",)))
def test_a_useless_summarizer_leaves_what_offloading_does_I10_I12(case):
    for each in given_out(walk(case, new_archive(), case.chunks(), summarizer=Useless(case))):
        assert "In short" not in "".join(str(m.content) for m in each.view.messages if is_note(m))
        assert "summarize" not in each.view.report.strategy


@CI
@given(cases(most=5, remind_tokens=60, strategies=("offload",)))
def test_reminders_come_and_go_without_a_trace_I1_I2_I3_I4_I5_I6_I9_I11(case):
    archive, ends = new_archive(), case.chunks()
    asked, one_by_one = walk(case, archive, ends), walk(case, new_archive())
    # What a turn that raised has put into the archive may be found by a reminder of the next.
    if not any(each.error for each in [*asked, *one_by_one]):
        assert_same(one_by_one[-1:], asked[-1:])
    for each in asked:
        assert_sound(each, archive)
    for before, after in pairwise(given_out(asked)):
        if before.view.boundary.events == after.view.boundary.events:
            assert begins_as(after.view, before.view)
    for each in given_out(asked)[-1:]:
        assert_lossless(each, archive)


ESTIMATOR = TokenEstimator()


@FEWER
@given(cases(counter=ESTIMATOR))
def test_the_default_counter_keeps_the_same_promises_I1_I2_I3_I4_I5_I6_I9(case):
    archive = new_archive()
    asked = walk(case, archive)
    for each in asked:
        assert_sound(each, archive)
    for before, after in pairwise(given_out(asked)):
        if before.view.boundary == after.view.boundary:
            assert begins_as(after.view, before.view)
    for each in given_out(asked)[-1:]:
        assert_lossless(each, archive)
