"""Handlers of a block hear of every call in it, and only those that may refuse can stop one."""

import logging

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from langchain_runtime.callbacks.blocks import heard_by, refusals_not_logged
from langchain_runtime.testing import ScriptedChatModel


class Listener(BaseCallbackHandler):
    def __init__(self, *, fails=False, refuses=False):
        self.raise_error = refuses
        self.fails = fails or refuses
        self.heard = []

    def on_chat_model_start(self, *args, **event):
        self.heard.append("start")
        if self.fails:
            raise ValueError("no")

    def on_llm_end(self, *args, **event):
        self.heard.append("end")


@pytest.fixture
def model():
    return ScriptedChatModel()


def test_handlers_of_nested_blocks_hear_calls_for_as_long_as_their_block_lasts(model):
    outer, inner = Listener(), Listener()
    with heard_by(outer):
        with heard_by(inner):
            model.invoke("one")
        model.invoke("two")
    model.invoke("three")
    assert (inner.heard, outer.heard) == (["start", "end"], ["start", "end"] * 2)


async def test_async_calls_are_heard_too(model):
    listener = Listener()
    with heard_by(listener):
        await model.ainvoke("one")
    assert listener.heard == ["start", "end"]


def test_a_handler_that_fails_stops_neither_the_call_nor_other_handlers(model, caplog):
    broken, other = Listener(fails=True), Listener()
    with heard_by(broken), heard_by(other):
        model.invoke("one")
    assert other.heard == ["start", "end"]
    assert "Listener failed, and the call goes on" in caplog.text


def test_a_handler_that_may_refuse_stops_the_call(model, caplog):
    with heard_by(Listener(refuses=True)), pytest.raises(ValueError, match="no"):
        model.invoke("one")
    assert model.calls == []
    assert "Error in _Blocks" in caplog.text


def test_the_log_can_be_spared_a_refusal(model, caplog):
    with refusals_not_logged(), heard_by(Listener(refuses=True)), pytest.raises(ValueError, match="no"):
        model.invoke("one")
    assert caplog.text == ""


def test_what_others_log_is_logged_all_the_same(caplog):
    with refusals_not_logged():
        logging.getLogger("langchain_core.callbacks.manager").warning("Error in %s", "Other")
    assert "Error in Other" in caplog.text
