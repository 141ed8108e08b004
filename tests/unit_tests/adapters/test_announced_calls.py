"""What LangChain tells callbacks of a call, read without the model."""

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI

from langchain_runtime.adapters import providers
from langchain_runtime.adapters.announced_calls import AnnouncedCall
from langchain_runtime.chat_models import ExtractiveChatModel
from langchain_runtime.testing import ScriptedChatModel


class Listener(BaseCallbackHandler):
    raise_error = run_inline = True

    def on_chat_model_start(self, serialized, messages, *, metadata, **event):
        self.call = AnnouncedCall.of(serialized, metadata, event)
        raise PermissionError


def announced(model, /, **options):
    listener = Listener()
    with pytest.raises(PermissionError):
        model.invoke("hello", config={"callbacks": [listener]}, **options)
    return listener.call


def openai(**fields):
    return ChatOpenAI(model="gpt-5-mini", api_key="x", **fields)


def anthropic(**fields):
    return ChatAnthropic(model="claude-haiku-4-5", api_key="x", **fields)


@pytest.mark.parametrize("model", [openai(), anthropic(), ScriptedChatModel(), ExtractiveChatModel()])
def test_the_model_has_the_name_that_the_wrapper_uses(model):
    assert announced(model).model_id == providers.model_id(model, {})
    if not isinstance(model, ExtractiveChatModel):
        assert announced(model, model="other").model_id == providers.model_id(model, {"model": "other"})


@pytest.mark.parametrize(
    ("model", "options", "cap"),
    [
        (openai(), {}, None),
        (openai(max_tokens=10), {}, 10),
        (openai(max_tokens=10), {"max_completion_tokens": 5}, 5),
        (openai(max_tokens=10), {"max_tokens": 5}, 10),  # the two names arrive both, and interfaces differ
        (openai(max_tokens=10, extra_body={"max_tokens": 20}), {}, 20),
        (openai(model_kwargs={"max_output_tokens": 7}), {}, 7),
        (anthropic(max_tokens=10), {}, 10),
        (anthropic(max_tokens=10), {"max_tokens": 5}, 5),
        (ScriptedChatModel(), {"options": {"num_predict": 30}}, 30),
        (ScriptedChatModel(), {"num_predict": -1}, None),
    ],
)
def test_the_output_cap_is_found_wherever_it_is_said(model, options, cap):
    assert announced(model, **options).output_cap == cap


def test_an_output_cap_is_taken_from_metadata_or_fields_where_parameters_are_silent():
    assert AnnouncedCall.of({}, {"ls_max_tokens": 9}, {}).output_cap == 9
    assert AnnouncedCall.of({"kwargs": {"max_tokens": 8}}, {}, {}).output_cap == 8


@pytest.mark.parametrize(
    ("model", "attempts"),
    [
        (openai(), 3),
        (openai(max_retries=0), 1),
        (openai(max_retries=4), 5),
        (anthropic(), 3),
        (anthropic(max_retries=0), 1),
        (ScriptedChatModel(), 3),
    ],
)
def test_attempts_are_those_that_the_class_announces_or_three(model, attempts):
    assert announced(model).attempts == attempts


def test_at_least_one_attempt_is_made_whatever_a_class_announces():
    assert (
        AnnouncedCall.of({"kwargs": {"max_retries": -1}}, {}, {"invocation_params": {"max_retries": None}}).attempts
        == 1
    )


@pytest.mark.parametrize(
    ("model", "options", "hidden"),
    [
        (openai(), {}, None),
        (openai(use_previous_response_id=True), {}, "use_previous_response_id"),
        (openai(extra_body={"prompt": {"id": "p"}}), {}, "prompt"),
        (openai(), {"tools": [{"type": "web_search"}]}, "the hosted tool web_search"),
        (anthropic(mcp_servers=[{"name": "x"}]), {}, "mcp_servers"),
        (anthropic(model_kwargs={"prompt": "p"}), {}, "prompt"),
    ],
)
def test_hidden_input_is_found_wherever_it_is_said(model, options, hidden):
    assert announced(model, **options).hidden_input == hidden


def test_choices_and_tier_are_found_wherever_they_are_said():
    assert (announced(openai(n=3)).choices, announced(openai(), n=2).choices, announced(openai()).choices) == (3, 2, 1)
    assert announced(openai(service_tier="flex")).service_tier == "flex"
    assert announced(openai(extra_body={"service_tier": "priority"})).service_tier == "priority"
    assert announced(openai(service_tier="auto")).service_tier is None


def test_a_call_of_which_nothing_is_known_has_a_name_all_the_same():
    call = AnnouncedCall.of(None, None, {})
    assert (call.model_id, call.charged, call.output_cap, call.attempts, call.extras) == ("unknown", None, None, 3, [])
    assert AnnouncedCall.of({}, {"ls_provider": "p"}, {"invocation_params": {"_type": "t"}}).model_id == "p:t"
