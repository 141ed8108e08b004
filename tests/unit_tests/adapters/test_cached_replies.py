"""Which replies LangChain's cache gave: its mark lands on paid ones, too."""

from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_runtime.adapters import cached_replies
from langchain_runtime.adapters.cached_replies import CachedReplies

HELLO = [HumanMessage("hello")]


def reply(reply_id, *, marked=True, llm_output=None):
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **({"total_cost": 0} if marked else {})}
    message = AIMessage("ok", id=reply_id, usage_metadata=usage)
    return LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=llm_output)


def asked(replies, messages=HELLO):
    run_id = uuid4()
    return run_id, replies.ask(run_id, "m", messages)


def test_a_reply_without_a_mark_is_paid_for():
    replies = CachedReplies()
    assert not replies.answers(*asked(replies), reply("msg_1", marked=False))


def test_a_marked_reply_is_cached_where_nobody_else_asked():
    replies = CachedReplies()
    assert replies.answers(*asked(replies), reply("msg_1"))


def test_an_id_that_langchain_made_up_says_who_paid():
    replies = CachedReplies()
    paying, hitting = asked(replies), asked(replies)
    marked = reply(f"lc_run--{paying[0]}-0")
    assert not replies.answers(*paying, marked)
    assert replies.answers(*hitting, marked)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_of_twins_with_a_providers_id_one_pays_and_all_handlers_agree(order):
    replies = CachedReplies()
    calls = [asked(replies) for _ in range(3)]
    verdicts = [replies.answers(*calls[number], reply("msg_1")) for number in order]
    assert verdicts == [False, True, True]
    assert [replies.answers(*calls[number], reply("msg_1")) for number in order] == verdicts


def test_a_reply_that_was_paid_before_is_cached_ever_after():
    replies = CachedReplies()
    assert not replies.answers(*asked(replies), reply("msg_1", marked=False))
    assert [replies.answers(*asked(replies), reply("msg_1")) for _ in range(3)] == [True] * 3


def test_what_no_cache_keeps_was_paid_for():
    replies = CachedReplies()
    assert not replies.answers(*asked(replies), reply("msg_1", llm_output={"token_usage": {}}))
    assert not replies.answers(*asked(replies), LLMResult(generations=[]))
    assert not replies.answers(*asked(replies, []), LLMResult(generations=[[Generation(text="ok")]]))


def test_only_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr(cached_replies, "_MOST", 5)
    replies = CachedReplies()
    for number in range(50):
        replies.answers(*asked(replies, [HumanMessage(str(number))]), reply(f"msg_{number}"))
    assert (len(replies._asked), len(replies._answered)) == (5, 5)
