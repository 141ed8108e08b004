"""Durable state that holds what is in view only; the rest is in the archive."""

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from talking_agents import SMALL, STEADY, by_words, handles, says, talk, talker, talking_agent, thread

from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.middleware import CompactionMiddleware


@pytest.fixture
def saver():
    return InMemorySaver()


def agent_of(model, saver, store, policy=SMALL, **options):
    return talking_agent(CompactionMiddleware(policy, **options), model, checkpointer=saver, store=store)


async def test_what_has_left_the_view_leaves_the_state(saver, call):
    agent = agent_of(talker(), saver, InMemoryStore(), prune=True)
    for turn in range(40):
        await call(agent, says(f"look place{turn}"), thread())
    assert len(agent.get_state(thread()).values["messages"]) < 60


@pytest.mark.parametrize(
    "policy",
    [
        ContextPolicy(max_tokens=600),
        ContextPolicy(max_tokens=600, strategy=("truncate", "offload"), truncate_to=32),
        ContextPolicy(max_tokens=600, strategy="keep_last", keep_last_n=4),
        ContextPolicy(max_tokens=600, pin=("q2", "q5")),
    ],
    ids=["offload", "truncate", "keep_last", "pinned"],
)
def test_the_views_are_the_same_as_without_pruning(policy):
    pruning, whole = talker(), talker()
    agents = [
        agent_of(pruning, InMemorySaver(), InMemoryStore(), policy, token_counter=by_words, prune=True),
        agent_of(whole, InMemorySaver(), InMemoryStore(), policy, token_counter=by_words),
    ]
    for turn in range(40):
        for agent in agents:
            agent.invoke(says(f"look place{turn}", id=f"q{turn}"), thread())
    assert [_said(request) for request in pruning.calls] == [_said(request) for request in whole.calls]
    assert len(agents[0].get_state(thread()).values["messages"]) < 100


# Their ids differ from run to run, and so do the handles.
def _said(request):
    return [(m.type, m.text.split("[recall:")[0]) for m in request.messages]


def test_after_a_restart_the_view_goes_on_and_what_left_can_be_recalled(saver):
    store, model = InMemoryStore(), talker()
    options = {"policy": STEADY, "token_counter": by_words, "prune": True}
    agent = agent_of(model, saver, store, **options)
    agent.invoke(says("the code is 4711-X"), thread())
    talk(agent, 30, thread())
    before = model.calls[-1].messages
    agent = agent_of(model, saver, store, **options)
    agent.invoke(says("and now"), thread())
    assert model.calls[-1].messages[: len(before)] == before
    assert "4711-X" in agent.invoke(says("search 4711-X"), thread())["messages"][-2].text
    talk(agent, 30, thread(), start=30)
    assert "4711-X" in agent.invoke(says("search 4711-X"), thread())["messages"][-2].text
    recalled = agent.invoke(says(f"recall {handles(before)[0]}"), thread())["messages"][-2].text
    assert "place" in recalled


def test_a_call_that_failed_after_the_boundary_moved_is_pruned_by_the_next(saver):
    store = InMemoryStore()
    model = talker()
    agent = agent_of(model, saver, store, prune=True)
    talk(agent, 30, thread())
    fails = talker([ConnectionError("gone")])
    middleware = CompactionMiddleware(SMALL, prune=True)
    failing = talking_agent(middleware, fails, checkpointer=saver, store=store)
    with pytest.raises(ConnectionError):
        failing.invoke(says("long " * 700), thread())
    agent.invoke(None, thread())
    values = agent.get_state(thread()).values
    boundary = Boundary.model_validate(values["lcr_boundary"])
    assert [item for item in boundary.head if isinstance(item, int)] == list(range(boundary.upto))


def test_only_what_is_kept_elsewhere_is_pruned(saver):
    model = talker()
    agent = talking_agent(CompactionMiddleware(SMALL, prune=True), model, checkpointer=saver)
    with pytest.raises(InvalidInputError, match="store"):
        agent.invoke(says("hello"), thread())
    assert model.calls == []


def test_every_pruned_message_is_in_the_archive_as_it_was(saver):
    store = InMemoryStore()
    agent = agent_of(talker(), saver, store, prune=True)
    asked = [HumanMessage(f"look place{n}", id=f"q{n}", additional_kwargs={"n": n}) for n in range(30)]
    for message in asked:
        agent.invoke({"messages": [message]}, thread())
    left = {message.id for message in agent.get_state(thread()).values["messages"]}
    kept = str([item.value for item in store.search(("lcr", "threads", "t"), limit=10_000)])
    assert [m.id for m in asked if m.id not in left and f'"id": "{m.id}"' not in kept] == []
    assert len(left) < 60
