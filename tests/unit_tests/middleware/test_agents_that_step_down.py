"""``on_exceeded="downgrade"``: cheaper models make the calls that the agent's own is too dear for."""

import pytest
from langchain.agents.middleware import wrap_model_call
from langchain_core.messages import AIMessage

from langchain_runtime.cost import FixedLadder

# What a call of each model needs at most, about: 100 tokens of output and 900 of input.
LARGE, MIDDLE, SMALL = 1_400_000, 140_000, 14_000


def with_only(office, nano):
    office.use_up()
    office.top_up(nano)


def stepping(office, model, *rungs, **options):
    return office.agent(model, on_exceeded="downgrade", ladder=list(rungs), **options)


@pytest.fixture
def models(office):
    return (
        office.model("of the large"),
        office.model("of the middle", name="middle"),
        office.model("of the small", name="small", provider="q"),
    )


@pytest.mark.parametrize(
    ("left", "text"),
    [(2 * LARGE, "of the large"), (2 * MIDDLE, "of the middle"), (2 * SMALL, "of the small")],
)
async def test_the_first_model_that_fits_makes_the_call(office, models, call, left, text):
    large, middle, small = models
    with_only(office, left)
    result = await call(stepping(office, large, middle, small))
    assert result["messages"][-1].text == text
    assert len(large.calls) + len(middle.calls) + len(small.calls) == 1


async def test_where_no_model_fits_the_agent_ends_with_the_figures_of_the_last(office, models, call):
    large, middle, small = models
    with_only(office, 1)
    result = await call(stepping(office, large, middle, small))
    mark = result["messages"][-1].response_metadata["lcr_budget_end"]
    assert mark["model"] == "q:small"
    assert large.calls + middle.calls + small.calls == []


async def test_a_model_that_is_on_the_ladder_itself_falls_back_on_those_below_it(office, models, call):
    _, middle, small = models
    large = office.model(max_tokens=1_000)
    same = office.model("would fit, but is the same model", max_tokens=1)
    with_only(office, 2 * LARGE)
    result = await call(stepping(office, large, same, middle, small))
    assert result["messages"][-1].text == "of the middle"


async def test_two_models_of_one_name_are_two_rungs(office, call):
    large, shorter, shortest = (office.model(f"up to {cap}", max_tokens=cap) for cap in (1_000, 500, 1))
    with_only(office, 2_000_000)
    await call(stepping(office, large, large, shorter, shortest))
    assert [len(model.calls) for model in (large, shorter, shortest)] == [0, 0, 1]


async def test_every_call_starts_with_the_agents_own_model(office, call):
    large = office.model("back again")
    middle = office.model(
        AIMessage("", tool_calls=[{"name": "look", "args": {"where": "x"}, "id": "1"}]), name="middle"
    )
    with_only(office, 2 * MIDDLE)
    office.when_looking = lambda: office.ledger.top_up("office", 2 * LARGE, key="while looking")
    result = await call(stepping(office, large, middle))
    assert result["messages"][-1].text == "back again"
    assert office.looks == ["x"]
    assert [len(model.calls) for model in (large, middle)] == [1, 1]


async def test_a_ladder_of_names_is_asked_for_the_next_one(office, models, call, monkeypatch):
    large, middle, small = models
    opened = {"p:middle": middle, "q:small": small}
    monkeypatch.setattr("langchain_runtime.middleware._rungs.init_chat_model", opened.pop)
    ladder = FixedLadder(["p:large", "p:middle", "q:small"])
    agent = office.agent(large, on_exceeded="downgrade", ladder=ladder)
    with_only(office, 2 * SMALL)
    assert (await call(agent))["messages"][-1].text == "of the small"
    assert (await call(agent))["messages"][-1].text == "of the small", "each is opened once"
    with_only(office, 1)
    notice = (await call(agent))["messages"][-1]
    assert notice.response_metadata["lcr_budget_end"]["model"] == "q:small"


async def test_settings_of_a_provider_stay_behind_with_it(office, models, call):
    large, middle, small = models

    @wrap_model_call
    def add_settings(request, handler):
        return handler(request.override(model_settings={"flag": 1}))

    for model, left, kwargs in [(middle, MIDDLE, {"flag": 1}), (small, SMALL, {})]:
        with_only(office, 2 * left)
        agent = stepping(
            office, large, _of_another_kind(middle, same=True), _of_another_kind(small), before=[add_settings]
        )
        agent.invoke({"messages": ["go"]})
        sent = model.calls[-1].kwargs
        assert {key: value for key, value in sent.items() if key == "flag"} == kwargs


def _of_another_kind(model, *, same=False):
    if same:
        return model

    class OtherKind(type(model)):
        @property
        def _llm_type(self):
            return "other"

    return OtherKind(**{name: getattr(model, name) for name in type(model).model_fields})
