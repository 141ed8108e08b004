"""Conversations of an agent: restarted, forked, edited, side by side, of subagents, and without a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from talking_agents import (
    SMALL,
    STEADY,
    by_words,
    check_requests,
    check_valid,
    events_between,
    follow,
    handles,
    says,
    talk,
    talker,
    talking_agent,
    thread,
)

from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.middleware import CompactionMiddleware


@pytest.fixture
def model():
    return talker()


@pytest.fixture
def saver():
    return InMemorySaver()


def steady(**options):
    return CompactionMiddleware(options.pop("policy", STEADY), token_counter=by_words, **options)


def boundary_of(agent, config):
    return Boundary.model_validate(agent.get_state(config).values.get("lcr_boundary") or {})


def archived(store, *labels):
    return {item.key for item in store.search(("lcr", *labels), limit=10_000)}


@pytest.mark.parametrize("store", [None, InMemoryStore()], ids=["memory", "store"])
def test_a_restarted_agent_goes_on_with_the_same_view(model, saver, store):
    talk(talking_agent(steady(), model, checkpointer=saver, store=store), 20, thread())
    before = model.calls[-1].messages
    restarted = steady()
    agent = talking_agent(restarted, model, checkpointer=saver, store=store)
    agent.invoke(says("and now"), thread())
    assert model.calls[-1].messages[: len(before)] == before
    old = handles(before)[0]
    result = agent.invoke(says(f"recall {old}"), thread())
    assert "Nothing is kept" not in result["messages"][-2].text
    assert "place" in result["messages"][-2].text


async def test_a_restarted_agent_that_had_asked_to_recall_gets_its_answer(model, saver, call):
    first = talking_agent(steady(), model, checkpointer=saver, interrupt_before=["tools"])
    for turn in range(20):
        await call(first, says(f"look place{turn}"), thread())
        await call(first, None, thread())
    known = handles(model.calls[-1].messages)
    assert len(known) > 1
    for order in ("oldest", "newest"):
        await call(first, says(order), thread())
        restarted = talking_agent(steady(), model, checkpointer=saver, interrupt_before=["tools"])
        result = await call(restarted, None, thread())
        answer = result["messages"][-2]
        assert answer.name == "recall"
        assert "place" in answer.text


def test_an_agent_that_another_process_went_on_with_takes_its_boundary(model, saver):
    store = InMemoryStore()
    policy = ContextPolicy(max_tokens=600, strategy="summarize")
    said = iter(range(1_000))
    writer = talker(lambda _messages: f"summary number {next(said)}")
    here, there = (
        talking_agent(steady(policy=policy, summarizer=writer), model, checkpointer=saver, store=store)
        for _ in range(2)
    )
    talk(here, 10, thread())
    talk(there, 15, thread(), start=10)
    written = len(writer.calls)
    last = model.calls[-1].messages
    here.invoke(says("hello again"), thread())
    assert model.calls[-1].messages[: len(last)] == last
    assert len(writer.calls) == written


def test_a_fork_has_the_view_of_what_it_holds(model, saver):
    middleware = steady()
    agent = talking_agent(middleware, model, checkpointer=saver, store=InMemoryStore())
    talk(agent, 8, thread())
    fork_at = agent.get_state(thread()).config
    seen_then = model.calls[-1].messages
    talk(agent, 20, thread(), start=8)
    agent.invoke(says("another way"), fork_at)
    assert model.calls[-1].messages[: len(seen_then)] == seen_then
    assert model.calls[-1].messages[-1].text == "another way"
    assert len(agent.get_state(thread()).values["messages"]) == 8 * 4 + 2
    talk(agent, 20, thread(), start=50)
    for request in model.calls:
        check_valid(request.messages)


def test_a_fork_to_before_the_first_event_has_no_boundary(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver)
    talk(agent, 2, thread())
    fork_at = agent.get_state(thread()).config
    talk(agent, 20, thread(), start=2)
    agent.invoke(says("another way"), fork_at)
    assert list(model.calls[-1].messages) == agent.get_state(thread()).values["messages"][:-1]


def test_edited_and_removed_messages_are_noticed(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver, store=InMemoryStore())
    talk(agent, 20, thread())
    messages = agent.get_state(thread()).values["messages"]
    agent.update_state(thread(), {"messages": [RemoveMessage(message.id) for message in messages[:4]]})
    agent.update_state(thread(), {"messages": [HumanMessage("look elsewhere altogether", id=messages[4].id)]})
    talk(agent, 5, thread(), start=20)
    check_requests(model.calls, 1_000)
    assert boundary_of(agent, thread()).upto <= len(agent.get_state(thread()).values["messages"])


def test_a_call_that_failed_is_made_again_with_the_same_view(saver):
    def script(messages):
        if broken:
            raise broken.pop()
        return follow(messages)

    broken = []
    model = talker(script)
    writer = talker(["in short"])
    policy = ContextPolicy(max_tokens=600, strategy="summarize")
    agent = talking_agent(steady(policy=policy, summarizer=writer), model, checkpointer=saver)
    talk(agent, 8, thread())
    written = len(writer.calls)
    while len(writer.calls) == written:
        broken.append(ConnectionError("gone"))
        with pytest.raises(ConnectionError):
            agent.invoke(says(f"look place{len(model.calls)}"), thread())
        failed = model.calls[-1].messages
        agent.invoke(None, thread())
        assert model.calls[-2 if failed[-1].text.startswith("look") else -1].messages == failed
    assert len(writer.calls) == written + 1
    assert boundary_of(agent, thread()).events == written + 1


def test_threads_do_not_see_each_other(model, saver):
    store = InMemoryStore()
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver, store=store)
    agent.invoke(says("the secret of one is 11111"), thread("one"))
    agent.invoke(says("the secret of two is 22222"), thread("t.w.o"))
    for turn in range(16):
        for name in ("one", "t.w.o"):
            agent.invoke(says(f"look place{turn}"), thread(name))
    one = agent.invoke(says("search secret"), thread("one"))["messages"][-2].text
    two = agent.invoke(says("search secret"), thread("t.w.o"))["messages"][-2].text
    assert ("11111" in one, "22222" in one) == (True, False)
    assert ("11111" in two, "22222" in two) == (False, True)
    of_one = archived(store, "threads", "one")
    result = agent.invoke(says(f"recall {min(of_one - archived(store, 'threads', 't%2Ew%2Eo'))}"), thread("t.w.o"))
    assert "place" not in result["messages"][-2].text


def test_threads_go_on_side_by_side(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver, store=InMemoryStore())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: talk(agent, 10, thread(f"t{n}")), range(8)))
    check_requests(model.calls, 1_000)
    assert {boundary_of(agent, thread(f"t{n}")).events > 0 for n in range(8)} == {True}


async def test_async_threads_go_on_side_by_side(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver, store=InMemoryStore())

    async def go(name):
        for turn in range(10):
            await agent.ainvoke(says(f"look place{turn}"), thread(name))

    await asyncio.gather(*[go(f"t{n}") for n in range(4)])
    check_requests(model.calls, 1_000)


async def test_without_a_thread_each_invocation_is_a_conversation(model, call):
    store = InMemoryStore()
    agent = talking_agent(CompactionMiddleware(SMALL), model, store=store)
    history = [HumanMessage(f"the word is {word} " * 20, id=f"m{n}") for n, word in enumerate(["moon", "sun"] * 10)]
    result = await call(agent, {"messages": [*history, HumanMessage("search moon", id="q")]})
    assert "moon" in result["messages"][-2].text
    assert len(result["messages"]) == len(history) + 4
    other = [HumanMessage(f"the word is {word} " * 20, id=f"m{n}") for n, word in enumerate(["sea", "land"] * 10)]
    result = await call(agent, {"messages": [*other, HumanMessage("search moon", id="q")]})
    assert "moon moon" not in result["messages"][-2].text.replace("the word is ", "")
    assert "the word is moon" not in result["messages"][-2].text
    check_requests(model.calls, 1_000)
    assert store.list_namespaces() == []


def test_without_a_thread_a_store_of_ones_own_keeps_what_left(model):
    store = InMemoryStore()
    agent = talking_agent(CompactionMiddleware(SMALL, store=store), model)
    agent.invoke({"messages": [HumanMessage(f"line {n} " * 20) for n in range(30)]})
    assert archived(store, "invocations") >= set(handles(model.calls[-1].messages))


def test_a_subagent_has_a_conversation_of_its_own(model, saver):
    store = InMemoryStore()
    compaction = CompactionMiddleware(SMALL)
    inner_model = talker()
    helper = talking_agent(compaction, inner_model)

    @tool
    def ask(where: str) -> str:
        """Ask the helper."""
        history = [HumanMessage(f"note {where} {n} " * 30) for n in range(12)]
        result = helper.invoke({"messages": [*history, HumanMessage(f"search {where}")]})
        return result["messages"][-2].text

    def script(messages):
        reply = follow(messages)
        return reply.model_copy(update={"tool_calls": [{**call, "name": "ask"} for call in reply.tool_calls]})

    agent = talking_agent(compaction, talker(script), tools=[ask], checkpointer=saver, store=store)
    agent.invoke(says("look here there"), thread())
    answers = [message.text for message in agent.get_state(thread()).values["messages"] if message.type == "tool"]
    assert len(answers) == 2
    for place, other, answer in zip(("here", "there"), ("note there", "note here"), answers, strict=True):
        assert place in answer
        assert other not in answer
    check_requests(inner_model.calls, 1_000)
    namespaces = store.list_namespaces(prefix=("lcr", "threads", "t", "tools"))
    assert len(namespaces) == 2
    assert compaction.report("t").events == 0


def test_an_agent_that_is_a_node_of_a_graph_goes_on_with_its_archive(model, saver):
    store = InMemoryStore()
    agent = talking_agent(CompactionMiddleware(SMALL), model)
    builder = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent")
    graph = builder.compile(checkpointer=saver, store=store)
    talk(graph, 20, thread())
    check_requests(model.calls, 1_000)
    (namespace,) = store.list_namespaces()
    assert namespace[:4] == ("lcr", "threads", "t", "agent")
    groups = len(store.search(namespace, limit=10_000))
    assert groups < len(graph.get_state(thread()).values["messages"]) + 20
    assert events_between(model.calls) < 10


def test_parallel_calls_stay_together(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver)
    for turn in range(15):
        agent.invoke(says(f"look a{turn} b{turn} c{turn}"), thread())
    check_requests(model.calls, 1_000)


def test_a_call_with_broken_arguments_is_repaired_as_without_the_middleware(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver)
    talk(agent, 7, thread())
    broken = [{"name": "look", "args": "{", "id": "bad", "error": None, "type": "invalid_tool_call"}]
    agent.invoke({"messages": [AIMessage("", invalid_tool_calls=broken), *says("go on")["messages"]]}, thread())
    assert [m.tool_call_id for m in model.calls[-1].messages if m.type == "tool"].count("bad") == 1
    talk(agent, 10, thread(), start=10)
    messages = agent.get_state(thread()).values["messages"]
    assert [message.tool_call_id for message in messages if message.type == "tool"].count("bad") == 1
    for request in model.calls:
        calls = {call["id"] for m in request.messages if m.type == "ai" for call in m.invalid_tool_calls}
        assert calls == {m.tool_call_id for m in request.messages if m.type == "tool"} & {"bad"}


def test_a_broken_boundary_in_the_state_does_no_harm(model, saver):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=saver)
    talk(agent, 20, thread())
    agent.update_state(thread(), {"lcr_boundary": {"of": "another version"}})
    agent.invoke(says("look on"), thread())
    check_valid(model.calls[-1].messages)
    check_requests(model.calls, 1_000)
