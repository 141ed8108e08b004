import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from langchain_runtime.adapters import providers
from langchain_runtime.chat_models import ExtractiveChatModel
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel


class ChatOllamaLike(FakeListChatModel):
    """Reads its cap from the field only."""

    responses: list[str] = ["ok"]
    num_predict: int | None = None


class ChatGoogleLike(FakeListChatModel):
    responses: list[str] = ["ok"]
    max_output_tokens: int | None = None
    max_retries: int | None = 6
    n: int = 2


def openai(**fields):
    return ChatOpenAI(**{"model": "gpt-5-mini", "api_key": "x", **fields})


def claude(**fields):
    return ChatAnthropic(**{"model": "claude-haiku-4-5", "api_key": "x", **fields})


def azure():
    return AzureChatOpenAI(
        azure_endpoint="https://example.org",
        azure_deployment="gpt-5-mini",
        api_key="x",
        api_version="1",
        model="gpt-5-mini",
    )


@pytest.mark.parametrize(
    ("model", "family", "keyword"),
    [
        (openai(), "openai", "max_completion_tokens"),
        (azure(), "openai", "max_completion_tokens"),
        (BaseChatOpenAI(model="x", api_key="x"), "openai", "max_tokens"),
        (claude(), "anthropic", "max_tokens"),
        (ScriptedChatModel(), "other", "max_tokens"),
        (ChatGoogleLike(), "other", "max_output_tokens"),
        (ChatOllamaLike(), "other", "num_predict"),
        (FakeListChatModel(responses=["ok"]), "other", None),
    ],
)
def test_each_class_has_its_cap(model, family, keyword):
    facts = providers.facts_of(type(model))
    assert (facts.family, facts.cap_keyword) == (family, keyword)
    assert facts.cap_is_field == (keyword == "num_predict")


@pytest.mark.parametrize(
    ("model", "kwargs", "name"),
    [
        (openai(), {}, "openai:gpt-5-mini"),
        (openai(), {"model": "gpt-5"}, "openai:gpt-5"),
        (claude(), {}, "anthropic:claude-haiku-4-5"),
        (azure(), {}, "azure:gpt-5-mini"),
        (ExtractiveChatModel(), {}, "extractive"),
        (FakeListChatModel(responses=["ok"]), {}, "fakelistchatmodel:fake-list-chat-model"),
    ],
)
def test_models_have_the_name_that_tracing_sees(model, kwargs, name):
    assert providers.model_id(model, kwargs) == name


@pytest.mark.parametrize(
    ("model", "kwargs", "cap"),
    [
        (openai(), {}, None),
        (openai(max_tokens=50), {}, 50),
        (openai(max_tokens=50), {"max_tokens": 70}, 70),
        (openai(max_tokens=50), {"max_tokens": 70, "max_completion_tokens": 60}, 60),
        (openai(max_tokens=50), {"max_tokens": None}, 50),
        (claude(), {}, None),
        (claude(max_tokens=50), {}, 50),
        (ChatOllamaLike(num_predict=-1), {}, None),
    ],
)
def test_the_callers_cap_is_found(model, kwargs, cap):
    assert providers.callers_cap(model, kwargs) == cap


@pytest.mark.parametrize(
    ("fields", "kwargs"),
    [
        ({"extra_body": {"max_tokens": 5}}, {}),
        ({}, {"extra_body": {"max_output_tokens": 5}}),
        ({"model_kwargs": {"max_output_tokens": 5}}, {}),
    ],
)
def test_a_cap_that_would_override_ours_is_refused(fields, kwargs):
    with pytest.raises(InvalidInputError, match="would override the cap"):
        providers.callers_cap(openai(**fields), kwargs)


def test_anthropics_thinking_is_found():
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    assert providers.thinking_budget(claude(thinking=thinking, max_tokens=9_000), {}) == 2_000
    assert providers.thinking_budget(claude(), {"thinking": {"type": "adaptive"}}) == 0
    assert providers.thinking_budget(openai(), {"thinking": thinking}) == 0


def test_choices_are_found_wherever_they_are_asked_for():
    assert providers.choices(openai(), {}) == 1
    assert providers.choices(openai(n=3), {}) == 3
    assert providers.choices(openai(), {"n": 4}) == 4
    assert providers.choices(openai(extra_body={"n": 5}), {}) == 5
    assert providers.choices(openai(), {"extra_body": {"n": 6}}) == 6
    assert providers.choices(ChatGoogleLike(), {"candidate_count": 7}) == 7
    assert providers.choices(ChatGoogleLike(), {}) == 2


def test_service_tiers_are_found():
    assert providers.service_tier(openai(service_tier="flex"), {}) == "flex"
    assert providers.service_tier(openai(service_tier="flex"), {"service_tier": "priority"}) == "priority"
    assert providers.service_tier(openai(service_tier="auto"), {}) is None
    assert providers.service_tier(openai(), {}) is None


def test_claudes_fast_mode_and_its_country_are_prices_of_their_own():
    assert providers.service_tier(claude(), {"speed": "fast"}) == "fast"
    assert providers.service_tier(claude(model_kwargs={"speed": "fast"}), {}) == "fast"
    assert providers.service_tier(claude(), {"extra_body": {"inference_geo": "us"}}) == "us"
    assert providers.service_tier(claude(), {"speed": "standard", "inference_geo": "global"}) is None


@pytest.mark.parametrize(
    ("model", "kwargs", "wanted"),
    [
        (openai(), {}, "openai:gpt-5-nano"),
        (openai(), {"model": "gpt-5"}, "openai:gpt-5-nano"),
        (claude(), {}, "anthropic:claude-3-5-haiku-latest"),
        (ScriptedChatModel(), {}, "scripted:other"),
    ],
)
def test_a_call_can_be_made_of_another_model_of_the_provider(model, kwargs, wanted):
    before = providers.model_id(model, kwargs)
    renamed = providers.renamed(model, kwargs, wanted)
    assert renamed is not None
    assert providers.model_id(*renamed) == wanted
    assert type(renamed[0]) is type(model)
    assert providers.model_id(model, kwargs) == before


@pytest.mark.parametrize("model", [openai(), FakeListChatModel(responses=["ok"])])
def test_a_call_of_another_provider_or_of_a_nameless_class_cannot(model):
    provider = providers.model_id(model, {}).partition(":")[0]
    assert providers.renamed(model, {}, "acme:m1") is None
    assert (providers.renamed(model, {}, f"{provider}:m1") is None) == isinstance(model, FakeListChatModel)


@pytest.mark.parametrize(
    ("model", "kwargs", "hidden"),
    [
        (openai(), {}, None),
        (openai(), {"tools": [{"type": "function", "function": {"name": "f"}}]}, None),
        (claude(), {"tools": [{"name": "f", "input_schema": {}}, object()]}, None),
        (openai(), {"tools": [{"type": "web_search"}]}, "the hosted tool web_search"),
        (
            claude(),
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "the hosted tool web_search_20250305",
        ),
        (ChatGoogleLike(), {"tools": [{"google_search": {}}]}, "the hosted tool google_search"),
        (openai(), {"previous_response_id": "r"}, "previous_response_id"),
        (openai(extra_body={"conversation": "c"}), {}, "conversation"),
        (openai(model_kwargs={"prompt": {"id": "p"}}), {}, "prompt"),
        (claude(mcp_servers=[{"name": "x"}]), {}, "mcp_servers"),
        (claude(context_management={"edits": []}), {}, "context_management"),
    ],
)
def test_input_that_is_not_in_the_request_is_found(model, kwargs, hidden):
    assert providers.hidden_input(model, kwargs) == hidden


def test_everything_that_may_be_read_is_counted():
    model = openai(model_kwargs={"instructions": "be brief"})
    extras = providers.visible_extras(
        model,
        {"tools": [{"name": "f"}], "response_format": {"a": 1}, "temperature": 1, "tool_choice": "auto", "stop": ["x"]},
    )
    assert extras == [
        {"name": "f"},
        {"name": "response_format", "value": {"a": 1}},
        {"name": "instructions", "value": "be brief"},
    ]


def test_attempts_are_those_that_the_class_may_make():
    assert providers.attempts(FakeListChatModel(responses=["ok"])) == 1
    assert providers.attempts(ScriptedChatModel()) == 1
    assert providers.attempts(ChatGoogleLike()) == 7
    assert providers.attempts(ChatGoogleLike(max_retries=None)) == 3
    assert providers.attempts(openai()) == 3
    assert providers.attempts(openai(max_retries=0)) == 1


def test_only_clients_that_are_known_lose_their_retries():
    model = ChatGoogleLike()
    assert providers.without_client_retries(model) == (model, 0)
    single, retries = providers.without_client_retries(openai(max_retries=4))
    assert (providers.attempts(single), retries) == (1, 4)
    single, retries = providers.without_client_retries(claude(max_retries=4))
    assert (providers.attempts(single), retries) == (1, 4)


def test_a_client_of_the_users_own_is_held_for_all_its_tries():
    model = openai(client=object(), async_client=object())
    assert providers.without_client_retries(model) == (model, 0)
    assert providers.attempts(model) == 3


def test_a_model_without_a_key_can_be_wrapped(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    model = openai()
    model.root_client = model.client = None
    single, _ = providers.without_client_retries(model)
    assert single.root_client is None


def test_streams_are_made_to_report_usage():
    assert providers.reporting_usage(openai(), {"a": 1}) == {"a": 1}
    assert providers.reporting_usage(openai(), {"stream_usage": False}) == {}
    options = {"stream_options": {"include_usage": False, "x": 1}}
    assert providers.reporting_usage(openai(), options) == {"stream_options": {"include_usage": True, "x": 1}}
    assert providers.reporting_usage(ScriptedChatModel(), options) == options


def test_no_provider_package_is_imported_for_the_facts():
    class Plain(BaseChatModel):
        @property
        def _llm_type(self):
            return "plain"

        def _generate(self, *args, **kwargs):
            raise AssertionError

    assert providers.facts_of(Plain).cap_keyword is None


@pytest.mark.parametrize("cap", [0, -1, None])
def test_a_cap_that_stands_for_no_limit_is_none(cap):
    assert providers.callers_cap(ScriptedChatModel(), {"max_tokens": cap}) is None
    assert providers.callers_cap(ScriptedChatModel(max_tokens=9), {"max_tokens": cap}) == 9
