"""What the models of a run see of what is too large for them, and how they get at the rest."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest
import yaml
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import MemoryManager, find_handles
from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy, TaskResult
from langchain_runtime.contracts.run_file import run_file_schema
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.cost import ModelCatalog, TokenEstimator
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.report import RunReport
from langchain_runtime.testing import ScriptedChatModel

ROOM = 2_000
POLICY = ContextPolicy(max_tokens=ROOM)
SECRET = "The code word of the harbour master is HELIOTROPE."
PRICES = {"test:m": "1000", "test:s": "10"}
CATALOG = ModelCatalog(
    {"models": {name: {"input": each, "output": each, "max_output_tokens": 4096} for name, each in PRICES.items()}}
)
CONFIG = {"configurable": {"run_id": "r"}}


def log_book(lines=1_700):
    """About 100,000 characters, in the middle of which stands the secret."""
    entries = [f"Entry {number}: the {number % 97}th ship came in with the tide." for number in range(lines)]
    return "\n".join([*entries[: lines // 2], SECRET, *entries[lines // 2 :]])


BOOK = log_book()


def calling(number=0, /, **asked):
    """A reply that calls the recall tool."""
    return AIMessage("", tool_calls=[ToolCall(name="recall", args=asked, id=f"call-{number}")])


def answers(messages):
    """What the tool has answered, as far as the model sees it."""
    return [message.text for message in messages if message.type == "tool"]


def text(messages):
    return "\n".join(message.text for message in messages)


def inquisitive(messages):
    """Reads the beginning of what is out of its view, then searches it for the secret, then answers."""
    turns = sum(message.type == "ai" for message in messages)
    if turns == 0:
        return calling(handle=find_handles(text(messages))[0])
    if turns == 1:
        return calling(1, query="code word harbour master")
    return "It is HELIOTROPE." if SECRET in text(messages) else "I do not know."


def the_model(script=inquisitive, **fields):
    return ScriptedChatModel(provider="test", model="m", script=script, **fields)


def book_graph(model, *, context=POLICY, policy=None, prompt="Which is the code word?", **options):
    return (
        RunGraph(policy or RunPolicy(), model=model)
        .add_task("book", lambda inputs: BOOK)
        .add_task("ask", prompt=prompt, deps=["book"], context=context, **options)
    )


def run(graph, *, ledger=None, mode="dataflow", config=CONFIG, inputs=None, **options):
    compiled = graph.compile(ledger=ledger or InMemoryLedger(), catalog=CATALOG, mode=mode, **options)
    return compiled.invoke({"inputs": inputs or {}}, config)


def size(call):
    """Tokens of a request, its tools included, by an estimator that has learnt nothing."""
    return TokenEstimator().expected(call.messages, model="test:m", tools=call.kwargs.get("tools", ()))


def sent(call):
    """What of a request a provider receives."""
    return [(message.type, message.content, getattr(message, "tool_calls", None)) for message in call.messages]


def compactions(ledger, run_id="r"):
    return [event for _, event in ledger.events(run_id) if event.kind == "context_compacted"]


def settled(ledger, task="ask"):
    return [
        each
        for each in ledger.reservations("r")
        if each.hold.task_id == task and each.state is ReservationState.SETTLED
    ]


# --- a view that lacks something -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
@pytest.mark.parametrize("place", ["task", "run"])
@pytest.mark.parametrize("prompt", ["Which is the code word?", "Which is the code word in {book}?"])
def test_a_model_sees_what_fits_and_recalls_the_rest_Z10(place, prompt, mode):
    model = the_model()
    graph = book_graph(
        model,
        context=POLICY if place == "task" else None,
        policy=RunPolicy(context=POLICY if place == "run" else None),
        prompt=prompt,
    )
    output = run(graph, mode=mode)
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert len(model.calls) == 3
    assert SECRET not in text(model.calls[0].messages)
    assert max(map(size, model.calls)) <= ROOM


def test_as_long_as_the_conversation_fits_each_request_begins_as_the_one_before():
    model = the_model()
    run(book_graph(model))
    first, second, third = (call.messages for call in model.calls)
    assert [message.text for message in second[: len(first)]] == [message.text for message in first]
    assert [message.text for message in third[: len(second)]] == [message.text for message in second]


def test_however_much_is_recalled_every_request_fits_and_shows_how_to_recall_more():
    pages = 0

    def reads_on(messages):
        nonlocal pages
        pages += 1
        handle = find_handles(text(messages))[0]
        return calling(pages, handle=handle, offset=1_000 * pages) if pages < 7 else "Enough."

    model, ledger = the_model(reads_on), InMemoryLedger()
    output = run(book_graph(model), ledger=ledger)
    assert output["results"]["ask"].output == "Enough."
    assert max(map(size, model.calls)) <= ROOM
    whole = [set(find_handles(text(call.messages))) for call in model.calls]
    assert set.intersection(*whole)
    assert answers(model.calls[-1].messages)
    moved = [event for event in compactions(ledger) if event.strategy]
    assert len(moved) > 1
    assert all(event.tokens_after <= ROOM < event.tokens_before for event in moved)


def test_a_model_that_never_stops_recalling_has_to_answer_in_the_end_without_the_tool():
    def insatiable(messages):
        if any("Recalled:" in message.text for message in messages):
            return "Well then."
        return calling(handle=find_handles(text(messages))[0])

    model = the_model(insatiable)
    output = run(book_graph(model))
    assert output["results"]["ask"].output == "Well then."
    *others, last = model.calls
    assert len(others) == 8
    assert all(call.kwargs["tools"][0]["function"]["name"] == "recall" for call in others)
    assert "tools" not in last.kwargs
    assert not any(message.type == "tool" or getattr(message, "tool_calls", None) for message in last.messages)
    assert size(last) <= ROOM


def test_a_tool_that_does_not_exist_and_a_handle_that_is_not_kept_are_told_to_the_model():
    replies = [
        AIMessage("", tool_calls=[ToolCall(name="google", args={}, id="1")]),
        calling(2, handle="aaaaaaaaaaaa"),
        "Then not.",
    ]
    model = the_model(replies)
    assert run(book_graph(model))["results"]["ask"].output == "Then not."
    first, second = (call.messages[-1] for call in model.calls[1:])
    assert "no tool 'google'" in first.text
    assert "aaaaaaaaaaaa" in second.text


@pytest.mark.parametrize(
    ("model", "context"),
    [
        (FakeListChatModel(responses=["fine"]), POLICY),
        (the_model(["fine"]), POLICY.model_copy(update={"recall": False})),
        (the_model(["fine"], profile={"tool_calling": False}), POLICY),
    ],
    ids=["a class without tools", "a policy without recall", "a model without tools"],
)
def test_where_nothing_can_be_recalled_the_view_is_all_and_the_task_is_one_call_that_was_held_before(model, context):
    ledger = InMemoryLedger()
    output = run(book_graph(model, context=context), ledger=ledger)
    assert output["results"]["ask"].output == "fine"
    assert len(settled(ledger)) == 1
    assert output["run"].tasks["ask"].estimated_use is not None
    if isinstance(model, ScriptedChatModel):
        [call] = model.calls
        assert "tools" not in call.kwargs
        assert ROOM / 2 < size(call) <= ROOM


def test_room_that_is_too_small_for_the_tool_goes_to_the_view():
    model = the_model(["fine"])
    run(book_graph(model, context=ContextPolicy(max_tokens=100)))
    [call] = model.calls
    assert "tools" not in call.kwargs
    assert size(call) <= 100


def test_what_fits_is_asked_in_one_call_without_a_tool():
    model = the_model(["fine"])
    output = run(book_graph(model, context=ContextPolicy(max_tokens=100_000)))
    assert [call.kwargs for call in model.calls] == [{}]
    assert output["run"].tasks["ask"].estimated_use is not None


def test_children_of_for_each_recall_each_from_its_own_item():
    books = [log_book(1_000).replace("HELIOTROPE", word) for word in ("ALBATROSS", "BAROMETER")]

    def script(messages):
        if not answers(messages):
            return calling(query="code word harbour master")
        return next(word for word in ("ALBATROSS", "BAROMETER", "nothing") if word in text(messages) + "nothing")

    model = the_model(script)
    graph = (
        RunGraph(RunPolicy(context=POLICY), model=model)
        .add_task("books", lambda inputs: books)
        .add_task("ask", prompt="Which is the code word in {item}?", deps=["books"], for_each=ForEach(task="books"))
    )
    assert run(graph)["results"]["ask"].output == ["ALBATROSS", "BAROMETER"]
    assert max(map(size, model.calls)) <= ROOM


def test_enqueued_prompts_recall_too():
    model = the_model()

    def body(inputs, runtime):
        runtime.enqueue("ask", prompt="Which is the code word in {text}?", inputs={"text": BOOK})

    graph = RunGraph(RunPolicy(context=POLICY), model=model).add_task("plan", body)
    assert run(graph)["results"]["ask"].output == "It is HELIOTROPE."
    assert max(map(size, model.calls)) <= ROOM


async def test_what_a_recalling_model_says_is_streamed():
    graph = book_graph(the_model()).compile(ledger=InMemoryLedger(), catalog=CATALOG)
    tokens = [chunk.text async for chunk, _ in graph.astream({"inputs": {}}, CONFIG, stream_mode="messages")]
    assert "It is HELIOTROPE." in "".join(tokens)


def test_a_large_output_is_shown_as_a_preview_whatever_room_there_is_and_bodies_receive_it_whole():
    model = the_model()
    graph = book_graph(model, context=ContextPolicy(max_tokens=100_000, preview_over=200))
    graph.add_task("count", lambda inputs: len(inputs["book"]), deps=["book"])
    output = run(graph)
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert size(model.calls[0]) < 600
    assert output["results"]["count"].output == len(BOOK)


def test_a_named_output_is_previewed_like_a_whole_one():
    model = the_model()
    graph = (
        RunGraph(RunPolicy(context=ContextPolicy(preview_over=200)), model=model)
        .add_task("book", lambda inputs: TaskResult(output="short", outputs={"body": BOOK}))
        .add_task("ask", prompt="Which is the code word in {it}?", deps={"it": "book.body"})
    )
    assert run(graph)["results"]["ask"].output == "It is HELIOTROPE."
    assert size(model.calls[0]) < 600


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_every_call_of_a_recalling_task_is_reserved_and_charged_by_itself():
    model, ledger = the_model(), InMemoryLedger()
    output = run(book_graph(model, policy=RunPolicy(budget_limit=Cost.usd(1_000))), ledger=ledger)
    calls = settled(ledger)
    assert len(calls) == len(model.calls) == 3
    task = output["run"].tasks["ask"]
    assert task.estimated_use is None
    assert task.actual_use.cost == sum((Cost.from_nano(each.charged_nano, "USD") for each in calls), Cost.usd(0))
    assert ledger.balance("run:r").spent == output["run"].usage.cost == task.actual_use.cost
    assert ledger.balance("run:r").held == Cost.usd(0)


def test_a_call_for_which_the_money_is_gone_fails_the_task_which_goes_on_from_there_when_there_is_more():
    model, ledger = the_model(), InMemoryLedger()

    def graph(limit):
        return book_graph(model, policy=RunPolicy(budget_limit=Cost.usd(limit)), max_output_tokens=50)

    with pytest.raises(RunFailedError) as caught:
        run(graph("5.60"), ledger=ledger)  # a first call is held at 3.90 and costs 0.53; a second one is held at 5.33
    assert caught.value.run.tasks["ask"].error.code == "budget_exceeded"
    assert len(model.calls) == 1
    ledger.set_limit("run:r", Cost.usd(100).nano)
    output = run(graph(100), ledger=ledger, config={"configurable": {"run_id": "r", "continue_run": True}})
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert len(model.calls) == len(settled(ledger)) == 3


def test_calls_of_a_recalling_task_that_do_not_fit_are_moved_to_a_cheaper_model():
    models, ledger = {name: the_model().model_copy(update={"model": name[-1]}) for name in PRICES}, InMemoryLedger()
    policy = RunPolicy(budget_limit=Cost.usd("5.60"), on_exceed="downgrade", ladder=tuple(PRICES))
    output = run(book_graph("test:m", policy=policy, max_output_tokens=50), ledger=ledger, models=models)
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert [each.hold.model for each in settled(ledger)] == ["test:m", "test:s", "test:s"]


def test_the_report_says_what_was_compacted_and_how_often_it_was_recalled():
    ledger = InMemoryLedger()
    output = run(book_graph(the_model()), ledger=ledger)
    events = [event for _, event in ledger.events("r")]
    (item,) = RunReport(output["run"], events=events).figures.incidents.compactions
    assert (item.task, item.times, item.strategy, item.recalls) == ("ask", 1, ("offload",), 2)
    assert item.tokens_after <= ROOM < item.tokens_before
    assert (item.evicted, item.clipped) == (0, 1)


# --- summaries -------------------------------------------------------------------------------------------------------

SUMMARY = ContextPolicy(max_tokens=ROOM, strategy="summarize", recall=False)


def writes_summaries(messages):
    if messages[0].type == "system" and "<conversation>" in messages[1].text:
        return "Ships came in." if SECRET in messages[1].text else "Nothing of note."
    return "I have read that ships came in." if "Ships came in." in text(messages) else "I have read it."


def test_a_summary_of_what_is_missing_stands_in_the_view_and_is_paid_for_by_the_run():
    model, ledger = the_model(writes_summaries), InMemoryLedger()
    policy = RunPolicy(budget_limit=Cost.usd(1_000), context=SUMMARY)
    output = run(book_graph(model, context=None, policy=policy), ledger=ledger)
    assert output["results"]["ask"].output == "I have read that ships came in."
    assert len(model.calls) == len(settled(ledger)) == 2
    assert size(model.calls[1]) <= ROOM
    assert model.calls[1].messages[-1].text == "Which is the code word?"
    (item,) = RunReport(output["run"], events=[e for _, e in ledger.events("r")]).figures.incidents.compactions
    assert item.summary.cost == Cost.from_nano(settled(ledger)[0].charged_nano, "USD")
    assert ledger.balance("run:r").spent == output["run"].usage.cost


def test_a_model_with_a_summary_may_recall_as_well():
    def script(messages):
        return writes_summaries(messages) if messages[0].type == "system" else inquisitive(messages)

    model = the_model(script)
    run_policy = RunPolicy(context=SUMMARY.model_copy(update={"recall": True}))
    output = run(book_graph(model, context=None, policy=run_policy))
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    _, *asked = model.calls
    assert all("Ships came in." in text(call.messages) for call in asked)
    assert max(map(size, asked)) <= ROOM


def test_many_dependencies_of_which_some_left_the_view_are_summarised_in_its_note():
    model = the_model(lambda m: "In sum: nine." if m[0].type == "system" else text(m))
    graph = RunGraph(RunPolicy(context=SUMMARY), model=model)
    names = [f"part{number}" for number in range(30)]
    for name in names:
        graph.add_task(name, lambda inputs: "words and more words " * 60)
    graph.add_task("ask", prompt="Go on.", deps=names)
    seen = run(graph)["results"]["ask"].output
    assert "In sum: nine." in seen
    assert find_handles(seen)
    assert all(f"{name}:" in model.calls[0].messages[1].text for name in names)


@pytest.mark.parametrize("reply", [ValueError("no"), "", "much too long " * 2_000])
def test_where_no_summary_can_be_had_the_view_goes_without_one(reply):
    def script(messages):
        return reply if messages[0].type == "system" else "I have read it."

    model = the_model(script, obeys_cap=False)
    output = run(book_graph(model, context=SUMMARY))
    assert output["results"]["ask"].output == "I have read it."
    [call] = [call for call in model.calls if call.messages[0].type != "system"]
    assert find_handles(text(call.messages))
    assert size(call) <= ROOM


def test_where_nothing_is_missing_nothing_is_summarised():
    model, ledger = the_model(["fine"]), InMemoryLedger()
    output = run(book_graph(model, context=SUMMARY.model_copy(update={"max_tokens": 100_000})), ledger=ledger)
    assert len(model.calls) == 1
    assert output["run"].tasks["ask"].estimated_use is not None


def test_a_structured_reply_is_given_over_the_view_and_its_summary():
    schema = {
        "title": "Answer",
        "description": "an answer",
        "type": "object",
        "properties": {"word": {"type": "string"}},
    }
    seen = []

    def script(messages):
        if messages[0].type == "system":
            return "Ships came in."
        seen.append(text(messages))
        return {"word": "none"}

    graph = book_graph(the_model(script), context=SUMMARY, response_format=schema)
    assert run(graph)["results"]["ask"].output == {"word": "none"}
    assert "Ships came in." in seen[0]


# --- the same view again ---------------------------------------------------------------------------------------------


@dataclass
class Interrupted:
    """A run that is broken off in a call of its model; by then its memory is not what its tasks have seen."""

    script: Any
    dies_in: int
    before: dict[str, str]
    options: dict[str, Any]
    store: InMemoryStore = field(default_factory=InMemoryStore)
    ledger: InMemoryLedger = field(default_factory=InMemoryLedger)

    def graph(self, model):
        graph = book_graph(model, policy=RunPolicy(budget_limit=Cost.usd(1_000)), **self.options)
        return graph.compile(ledger=self.ledger, store=self.store, catalog=CATALOG)

    async def begin(self):
        """The requests that were made until then."""
        memory, in_call = MemoryManager(self.store), asyncio.Event()
        for key, value in self.before.items():
            memory.put("r", key, value)

        async def hook(call_no, chunk_no):
            if call_no == self.dies_in:
                in_call.set()
                await asyncio.Event().wait()

        model = the_model(self.script, hook=hook)
        running = asyncio.create_task(self.graph(model).ainvoke({"inputs": {}}, CONFIG))
        await asyncio.wait([running, asyncio.create_task(in_call.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert in_call.is_set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        memory.put("r", "later", "Nereid")
        return model.calls

    async def go_on(self):
        """The output, and the requests that were made for it."""
        model = the_model(self.script)
        config = {"configurable": {"run_id": "r", "continue_run": True}}
        return await self.graph(model).ainvoke({"inputs": {}}, config), model.calls


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


def looks_up_twice(messages):
    turns = sum(message.type == "ai" for message in messages)
    asked = ToolCall(name="look_up", args={"word": f"w{turns}"}, id=f"call-{turns}")
    return AIMessage("", tool_calls=[asked]) if turns < 2 else "It is HELIOTROPE."


def summarises_and_recalls(messages):
    return writes_summaries(messages) if messages[0].type == "system" else inquisitive(messages)


@pytest.mark.parametrize("before", [{}, {"ship": "Calypso"}], ids=["no memory", "memory"])
@pytest.mark.parametrize(
    ("script", "options", "dies_in"),
    [
        (inquisitive, {}, 2),
        (summarises_and_recalls, {"context": SUMMARY.model_copy(update={"recall": True})}, 2),
        (looks_up_twice, {"tools": [look_up]}, 2),
    ],
    ids=["a recalling task", "a task with a summary", "an agent"],
)
async def test_a_task_that_was_broken_off_finds_its_replies_again_whatever_was_remembered_meanwhile(
    script, options, dies_in, before
):
    interrupted = Interrupted(script, dies_in, before, options)
    begun = await interrupted.begin()
    output, after = await interrupted.go_on()
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert sent(begun[dies_in]) == sent(after[0])
    assert len(begun) + len(after) == (4 if script is not summarises_and_recalls else 5)
    assert all("Nereid" not in text(call.messages) for call in after)
    assert all((("Calypso" in text(call.messages)) is bool(before)) for call in after)


async def test_a_task_that_had_bought_nothing_sees_the_memory_as_it_is_when_it_is_made_again():
    interrupted = Interrupted(inquisitive, 0, {"ship": "Calypso"}, {})
    interrupted.ledger.abandon("r")
    await interrupted.begin()
    for each in settled(interrupted.ledger):
        assert each.charged_nano  # a call that was broken off may have been billed
    output, after = await interrupted.go_on()
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert len(after) == 3


def test_a_task_that_is_done_anew_sees_the_memory_as_it_is_by_then():
    model, store = the_model(), InMemoryStore()
    config = {"configurable": {"run_id": "r", "thread_id": "r"}}
    compiled = book_graph(model).compile(store=store, checkpointer=InMemorySaver(), catalog=CATALOG)
    MemoryManager(store).put("r", "ship", "Calypso")
    compiled.invoke({"inputs": {}}, config)
    MemoryManager(store).put("r", "ship", "Nereid")
    compiled.invoke(None, compiled.rerun_from(config, "ask"))
    assert ["Nereid" in text(call.messages) for call in model.calls] == [False] * 3 + [True] * 3


# --- agents ----------------------------------------------------------------------------------------------------------


@tool
def read_chapter(number: int) -> str:
    """Read a chapter."""
    return f"Chapter {number}. " + "The sea was calm and nothing happened. " * 60


def reads_chapters(messages):
    turns = sum(message.type == "ai" for message in messages)
    last = max((int(m.tool_call_id) for m in messages if m.type == "tool"), default=0)
    if last == 8:
        return f"Read {last} chapters, of which {turns} are in view."
    call = ToolCall(name="read_chapter", args={"number": last + 1}, id=str(last + 1))
    return AIMessage("", tool_calls=[call])


def test_the_conversation_of_an_agent_keeps_within_the_policy_of_its_task():
    model = the_model(reads_chapters)
    graph = RunGraph(RunPolicy(context=POLICY), model=model)
    graph.add_task("ask", prompt="Read all chapters.", tools=[read_chapter])
    output = run(graph)
    assert output["results"]["ask"].output.startswith("Read 8 chapters")
    assert max(map(size, model.calls)) <= ROOM
    assert len(model.calls[0].kwargs["tools"]) == 1
    assert len(model.calls[-1].kwargs["tools"]) == 2


@pytest.mark.parametrize("recall", [True, False])
def test_an_agent_whose_first_view_lacks_something_can_recall_it_at_once(recall):
    model = the_model(inquisitive if recall else ["fine"])
    context = POLICY.model_copy(update={"recall": recall, "recall_tokens": 300})
    output = run(book_graph(model, context=context, tools=[look_up]))
    assert output["results"]["ask"].output == ("It is HELIOTROPE." if recall else "fine")
    offered = {each["function"]["name"] for call in model.calls for each in call.kwargs["tools"]}
    assert offered == ({"look_up", "recall"} if recall else {"look_up"})
    assert max(map(size, model.calls)) <= ROOM


def test_two_runs_of_one_graph_recall_each_from_their_own():
    model = the_model(inquisitive)
    compiled = book_graph(model, tools=[look_up], context=POLICY.model_copy(update={"recall_tokens": 300})).compile()
    for run_id in ("one", "two"):
        output = compiled.invoke({"inputs": {}}, {"configurable": {"run_id": run_id}})
        assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert len(model.calls) == 6


def test_the_authors_cap_goes_with_every_call_of_an_agent():
    model = the_model(looks_up_twice)
    graph = RunGraph(model=model).add_task("ask", prompt="Hi.", tools=[look_up], max_output_tokens=2)
    assert run(graph)["results"]["ask"].output.strip() == "It is"
    assert {call.kwargs["max_tokens"] for call in model.calls} == {2}


# --- where the policy comes from -------------------------------------------------------------------------------------

RUN_FILE = """
version: 1
model: test:m
policy:
  context: {max_tokens: 4000, strategy: [truncate, summarize], truncate_to: 64, summary_tokens: 100, preview_over: 500,
            recall: false, recall_tokens: 128, remind_tokens: 200, on_orphans: refuse}
tasks:
  - id: book
    prompt: Write a book.
  - id: ask
    prompt: Which is the code word?
    deps: [book]
    context: {max_tokens: 2000, recall_tokens: 300}
"""


def test_a_run_file_says_how_views_are_made_to_fit(tmp_path):
    jsonschema.validate(yaml.safe_load(RUN_FILE), run_file_schema())
    path = tmp_path / "run.yaml"
    path.write_text(RUN_FILE, encoding="utf-8")
    model = the_model(lambda messages: BOOK if messages[-1].text == "Write a book." else inquisitive(messages))
    output = run(RunGraph.from_file(path), models={"test:m": model})
    assert output["results"]["ask"].output == "It is HELIOTROPE."
    assert max(map(size, model.calls)) <= ROOM


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("context: {max_tokens: 100, reserve_output: 100}", "reserves 100 of 100"),
        ("context: {max_tokens: 100, recal: false}", "unknown key 'recal'"),
        ("context: {max_tokens: 100, recall_tokens: 10}", "recall_tokens"),
        ("context: {max_tokens: 100, strategy: []}", "at least one strategy"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_the_run_file(tmp_path, line, problem):
    path = tmp_path / "run.yaml"
    path.write_text(f"tasks:\n  - id: ask\n    prompt: Hi\n    {line}\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=problem):
        RunGraph.from_file(path)
