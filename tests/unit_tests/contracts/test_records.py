"""Whatever crosses a process or comes back from storage comes back as it was."""

import importlib
import inspect
import pkgutil
from datetime import UTC, date, datetime

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from langchain_runtime import contracts
from langchain_runtime.contracts.budget import (
    Balance,
    Budget,
    Decision,
    Hold,
    Period,
    Reservation,
    ReservationState,
    Scope,
    Settlement,
    Verdict,
)
from langchain_runtime.contracts.context import (
    Boundary,
    Compaction,
    ContextBundle,
    ContextPolicy,
    ContextReport,
    Summary,
)
from langchain_runtime.contracts.events import (
    BudgetRefused,
    CallReserved,
    CallSettled,
    ContextCompacted,
    LifecycleEvent,
    RunEnded,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskRetried,
    TasksAdded,
    TaskStarted,
    TaskSuspended,
    parse_event,
)
from langchain_runtime.contracts.job import AdoptedHold, LeftOut, TaskJob
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.pricing import ModelInfo, PriceTier, RateCard
from langchain_runtime.contracts.run import (
    DAG,
    CacheSpec,
    DAGNode,
    EnqueuedTask,
    ModelLimits,
    RetrySpec,
    Run,
    RunHeader,
    RunPolicy,
    RunState,
    Task,
    TaskError,
    TaskInput,
    TaskOutcome,
    TaskResult,
    TaskState,
)
from langchain_runtime.contracts.run_file import RunFile
from langchain_runtime.contracts.task_spec import Condition, Dependency, ForEach, TaskSpec
from langchain_runtime.contracts.usage import TokenUsage, Usage

AT = datetime(2026, 11, 22, 18, 30, 0, 123456, tzinfo=UTC)
JSON = {"text": "日本\n", "list": [1, 2.5, None, True, {"deep": []}]}
TOKENS = TokenUsage(
    input=9, output=7, cache_read=1, cache_write=3, cache_write_1h=2, audio_input=1, reasoning=4, audio_output=1
)
USAGE = Usage(tokens=TOKENS, cost=Cost("0.000000001", "EUR"))
ERROR = TaskError(code="task_failed", message="It raised.", retryable=True)
PERIOD = Period(kind="week", timezone="Europe/Vienna")
SCOPE = Scope(name="user:42", currency="EUR", limit_nano=10, token_limit=100, period=PERIOD)
BALANCE = Balance(
    scope=SCOPE, spent_nano=5, held_nano=2, forfeited_nano=1, tokens_spent=3, tokens_held=2, overdrawn_nano=1
)
HOLD = Hold(
    scopes=("b", "a"), nano=5, currency="EUR", tokens=9, holder="me", sent=True, run_id="r", task_id="t", model="m"
)
RESERVATION = Reservation(
    hold=HOLD, state=ReservationState.SETTLED, lease=3, charged_nano=4, usage=TOKENS, created_at=1.5, ended_at=2.5
)
CARD = RateCard(input=3 * 10**9, output=15 * 10**9, cache_read=3 * 10**8, cache_write_1h=6 * 10**9, per_request=7)
CALL = {"name": "search", "args": {"q": "x"}, "id": "call_1", "type": "tool_call"}
MESSAGES = [
    SystemMessage("Be brief."),
    HumanMessage([{"type": "text", "text": "Hello"}], name="user", id="1"),
    AIMessage("", tool_calls=[CALL], usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    ToolMessage("found", tool_call_id="call_1", status="error"),
]
BUNDLE = ContextBundle(messages=MESSAGES, memory=JSON, tools={"search": {"name": "search", "parameters": JSON}})
POLICY = ContextPolicy(max_tokens=100, strategy=("truncate", "offload"), keep_last_n=2, truncate_to=16, pin=("1",))
ADDED = EnqueuedTask(
    id="more", like="map", deps={"text": "a.text"}, inputs={"n": 1}, model="x:y", priority=2, timeout_ms=5
)
CACHE = CacheSpec(ttl_seconds=60)
RETRY = RetrySpec(max_attempts=3, initial_interval_ms=1, backoff_factor=1.5, max_interval_ms=9)
RUN_POLICY = RunPolicy(
    timeout_ms=9, budget_limit=Cost("1", "EUR"), context=POLICY, retry=RETRY, per_model={"m": ModelLimits(rpm=1)}
)
RESULT = TaskResult(output=JSON, outputs=JSON, usage=USAGE, metadata=JSON)
TASK = Task(
    id="map#0",
    state=TaskState.FAILED,
    inputs=TaskInput(prompt="Say {x}", inputs=JSON, metadata=JSON),
    deps=["a"],
    outputs=RESULT,
    error=ERROR,
    model="m",
    estimated_use=USAGE,
    actual_use=USAGE,
    expected_seconds=1.5,
    attempts=2,
    started_at=AT,
    ended_at=AT,
)
NODE = DAGNode(id="a", deps=["b"], next=["map#0"], pending=1)
GRAPH = DAG(nodes={"a": NODE}, edges={"a": ["map#0"]})
DEPENDENCY = Dependency(alias="x", task="a", output="summary")
CONDITION = Condition(task="a", path="outputs.score", op="ge", value=0.5)
FOR_EACH = ForEach(**{"task": "a", "path": "outputs.items", "as": "row"})
SPEC = TaskSpec(
    id="t",
    prompt="Say {x}",
    deps=(DEPENDENCY,),
    tier=2,
    tools=("m:t",),
    retry=RETRY,
    context=POLICY,
    when=CONDITION,
    for_each=FOR_EACH,
    response_format={"type": "object"},
    cache=CACHE,
    metadata=JSON,
)
ADOPTED = AdoptedHold(reservation_id="x", lease=1, nano=2, tokens=3, max_output_tokens=4)

EVENTS = [
    RunStarted(run_id="r", at=AT, name="weekly", tasks=3, finished=1, limit=Cost("1")),
    RunEnded(run_id="r", at=AT, state=RunState.ABORTED, reason="deadline", usage=USAGE),
    TasksAdded(run_id="r", at=AT, parent="map", tasks=("map#0", "map#1")),
    TaskReady(run_id="r", at=AT, task="map#0"),
    TaskSuspended(run_id="r", at=AT, task="map#0"),
    TaskStarted(run_id="r", at=AT, task="t", attempt=2, model="m"),
    TaskRetried(run_id="r", at=AT, task="t", attempt=1, error=ERROR),
    TaskFinished(run_id="r", at=AT, task="t", state=TaskState.SKIPPED, attempts=1, usage=USAGE, skipped_because="a"),
    CallReserved(run_id="r", at=AT, task=None, reservation_id="x", worst_case=None),
    CallSettled(run_id="r", at=AT, task="t", reservation_id="x", cost=Cost("0.1"), usage=TOKENS, model="m"),
    BudgetRefused(run_id="r", at=AT, task="t", scope="s", action="wait", needed=Cost("0.5", "EUR")),
    ContextCompacted(
        run_id="r", at=AT, task="t", strategy=("offload",), tokens_before=9, tokens_after=4, evicted=1, clipped=0
    ),
]

RECORDS = [
    *(Cost("0.5", "EUR"), TOKENS, USAGE),
    *(PERIOD, Budget(Cost("1", "EUR"), period=PERIOD), SCOPE, BALANCE, HOLD, RESERVATION),
    Decision(verdict=Verdict.WAIT, refused_by=BALANCE, free_nano=1, free_tokens=2),
    Settlement(reservation_id="x", nano=3, usage=TOKENS, reply_key="k", reply=b'{"text": "\xc3\xa9"}'),
    *(CARD, PriceTier(above_input_tokens=9, rates=CARD, service_tiers={"flex": CARD})),
    ModelInfo(id="m", rates=CARD, service_tiers={"flex": CARD}, currency="EUR", dated=date(2026, 1, 1)),
    *(BUNDLE, POLICY, ContextReport(tokens_before=9, strategy=("offload",), summary=USAGE)),
    Boundary(upto=3, head=(0, {"messages": "[]"}), inserted=((4, {"messages": "[]"}),), events=1, handle="abc"),
    LeftOut(policy=POLICY, window=9, handles=("abc",), note="n", recall_tokens=64),
    *(ADOPTED, TaskJob(run_id="r", task_id="map#0", inputs=JSON, messages=MESSAGES, hold=ADOPTED, used=USAGE)),
    *(TASK.inputs, RESULT, ERROR, TASK, NODE, GRAPH, RETRY, CACHE, ADDED, ModelLimits(tpm=9), RUN_POLICY),
    TaskOutcome(task="map#0", state=TaskState.FAILED, output=JSON, error=ERROR, usage=USAGE, started_at=AT),
    RunHeader(run_id="r", spec_hash="abc", reason="abort", usage=USAGE),
    Run(id="r", policy=RUN_POLICY, dag=GRAPH, tasks={"map#0": TASK}, usage=USAGE, created_at=AT),
    *(DEPENDENCY, CONDITION, FOR_EACH, SPEC, RunFile(name="weekly", inputs=JSON, policy=RUN_POLICY, tasks=(SPEC,))),
    *EVENTS,
]
"""An example of every record, with as many fields as make sense together."""

STAYS = {Compaction, Summary}
"""What never leaves its process."""


def record_classes():
    for module in pkgutil.iter_modules(contracts.__path__):
        for _, each in inspect.getmembers(importlib.import_module(f"{contracts.__name__}.{module.name}")):
            if inspect.isclass(each) and issubclass(each, BaseModel) and each.__module__.endswith(f".{module.name}"):
                yield each


def by_class(record):
    return type(record).__name__


def test_there_is_an_example_of_every_record():
    named = {each for each in record_classes() if not each.__name__.startswith("_")}
    assert {type(record) for record in RECORDS} == named - STAYS


@pytest.mark.parametrize("record", RECORDS, ids=by_class)
def test_a_record_comes_back_from_json_as_it_was(record):
    back = type(record).model_validate_json(record.model_dump_json(by_alias=True))
    assert back == record
    assert type(back) is type(record)


@pytest.mark.parametrize("record", RECORDS, ids=by_class)
def test_a_record_comes_back_from_plain_data_as_it_was(record):
    assert type(record).model_validate(record.model_dump(mode="json", by_alias=True)) == record


@pytest.mark.parametrize("record", RECORDS, ids=by_class)
def test_a_record_with_a_field_that_nobody_knows_is_refused(record):
    data = record.model_dump(by_alias=True)
    with pytest.raises((ValidationError, TypeError)):
        type(record).model_validate({**data, "surprise": 1})


@pytest.mark.parametrize("event", EVENTS, ids=by_class)
def test_an_event_is_told_from_the_others_by_its_json(event):
    for data in (event.model_dump_json(), event.model_dump_json().encode(), event.model_dump(mode="json")):
        back = parse_event(data)
        assert back == event
        assert type(back) is type(event)


def test_every_event_has_a_kind_of_its_own():
    kinds = [event.kind for event in EVENTS]
    assert len(kinds) == len(set(kinds))
    tags = TypeAdapter(LifecycleEvent).json_schema()["discriminator"]["mapping"]
    assert set(kinds) == set(tags)


@pytest.mark.parametrize("data", ["{}", {"kind": "surprise", "run_id": "r"}, {"kind": "task_ready", "run_id": "r"}])
def test_what_is_no_event_is_refused(data):
    with pytest.raises(ValidationError):
        parse_event(data)


def test_an_event_knows_when_it_happened():
    assert TaskReady(run_id="r", task="t").at.tzinfo is UTC


# --- what records compute ---------------------------------------------------------------------------------------------


def test_an_outcome_gives_the_part_that_a_caller_asked_for():
    outcome = TaskOutcome(
        task="t", state="completed", output="x", outputs={"a": 1}, usage=USAGE, metadata={"finish": "stop"}
    )
    assert outcome.result() == TaskResult(output="x", outputs={"a": 1}, usage=USAGE, metadata={"finish": "stop"})
    assert outcome.cost == USAGE.cost
    assert TaskOutcome(task="t", state="failed").cost is None


@pytest.mark.parametrize("state", TaskState)
def test_a_task_has_ended_when_its_state_is_final(state):
    assert state.ended == (state in {"completed", "failed", "skipped"})


def test_one_strategy_may_be_written_without_a_list():
    assert ContextPolicy(strategy="truncate").strategy == ("truncate",)
