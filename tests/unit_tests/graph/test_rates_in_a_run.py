"""Requests and tokens per minute, and a circuit breaker, inside runs; in virtual time."""

import asyncio
import selectors
import time
from itertools import pairwise

import httpx
import pytest
from langchain_core.tools import tool

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.cost import CircuitBreaker, ModelCatalog, RateLimiter
from langchain_runtime.graph import RunGraph, model_gates
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

START = 1_000.0
CATALOG = ModelCatalog(
    {
        "models": {
            f"scripted:{name}": {"input": price, "output": price, "max_output_tokens": 4096}
            for name, price in {"dear": "1000", "cheap": "1"}.items()
        }
    }
)


class HttpError(Exception):
    def __init__(self, status, **headers):
        super().__init__(f"HTTP {status}")
        self.response = httpx.Response(
            status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class VirtualTime(selectors.DefaultSelector):
    """A clock that stands still while anything can go on, and jumps to the next timer when nothing can."""

    def __init__(self):
        super().__init__()
        self.now = START

    def __call__(self):
        return self.now

    @property
    def passed(self):
        return self.now - START

    def select(self, timeout=None):
        ready = super().select(0)
        if ready or timeout is None:
            return ready or super().select(None)
        self.now += max(timeout, 0)
        return ready

    def run(self, coroutine):
        def new_loop():
            loop = asyncio.SelectorEventLoop(self)
            loop.time = self
            return loop

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(coroutine)


@pytest.fixture
def clock(monkeypatch):
    clock = VirtualTime()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(model_gates, "RateLimiter", lambda **limits: RateLimiter(**limits, clock=clock))
    return clock


@pytest.fixture
def make_breaker(clock):
    return lambda **settings: CircuitBreaker(**settings, clock=clock, random=lambda: 0.0)


class Provider:
    """Models that note when they were called; ``answer`` says what they reply, or raises."""

    def __init__(self, clock, answer=lambda passed: "ok"):
        self.clock, self.answer = clock, answer
        self.called_at = {}

    def model(self, name="scripted-1", **fields):
        def reply(messages):
            self.called_at.setdefault(name, []).append(self.clock.passed)
            return self.answer(self.clock.passed)

        return ScriptedChatModel(model=name, **{"script": reply, **fields})

    @property
    def times(self):
        return sorted(at for times in self.called_at.values() for at in times)


def prompts(graph, count, model, prefix="t", **options):
    for number in range(count):
        graph.add_task(f"{prefix}{number:02}", prompt=f"Say {prefix}{number}.", model=model, **options)
    return graph


def run(clock, graph, **options):
    compiled = graph.compile(**{"raise_on_failure": False, **options})
    return clock.run(compiled.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))["run"]


def codes(run):
    return {task.error.code if task.error else None for task in run.tasks.values()}


# --- requests and tokens per minute ----------------------------------------------------------------------------------


def test_twenty_prompts_at_ten_requests_a_minute_take_a_minute(clock):
    provider = Provider(clock)
    policy = RunPolicy(per_model={"scripted:scripted-1": ModelLimits(rpm=10)}, max_parallelism=20)
    finished = run(clock, prompts(RunGraph(policy), 20, provider.model()))
    assert finished.state is RunState.COMPLETED
    assert {task.attempts for task in finished.tasks.values()} == {1}
    assert provider.times[:10] == [0] * 10
    assert provider.times[10:] == [pytest.approx(6 * number, abs=0.1) for number in range(1, 11)]


def test_a_second_run_of_the_graph_does_not_get_a_second_minute(clock):
    provider = Provider(clock)
    policy = RunPolicy(per_model={"scripted:scripted-1": ModelLimits(rpm=10)}, max_parallelism=20)
    graph = prompts(RunGraph(policy), 6, provider.model()).compile()

    async def both():
        return await asyncio.gather(*(graph.ainvoke({"inputs": {}}) for _ in range(2)))

    for output in clock.run(both()):
        assert output["run"].state is RunState.COMPLETED
    assert provider.times == [pytest.approx(at, abs=0.1) for at in [0] * 10 + [6, 12]]


def test_tasks_of_another_model_pass_those_that_wait_for_a_minute(clock):
    provider = Provider(clock)
    policy = RunPolicy(per_model={"scripted:slow": ModelLimits(rpm=1)}, max_parallelism=2)
    graph = prompts(RunGraph(policy), 4, provider.model("slow"), "slow", priority=9)
    graph = prompts(graph, 10, provider.model("quick"), "quick")
    assert run(clock, graph).state is RunState.COMPLETED
    assert provider.called_at["quick"] == [0] * 10
    assert provider.called_at["slow"] == [pytest.approx(60 * number, abs=0.1) for number in range(4)]


def test_no_money_is_held_by_tasks_that_wait_for_their_turn(clock):
    ledger, held = InMemoryLedger(), []

    def answer(passed):
        held.append(sum(reservation.state == "held" for reservation in ledger.reservations("r")))
        return "ok"

    policy = RunPolicy(per_model={"scripted:cheap": ModelLimits(rpm=1)}, budget_limit=Cost.usd(9), max_parallelism=4)
    graph = prompts(RunGraph(policy), 3, Provider(clock, answer).model("cheap"), max_output_tokens=100)
    assert run(clock, graph, catalog=CATALOG, ledger=ledger).state is RunState.COMPLETED
    assert len(held) == 3
    assert max(held) <= 1
    assert len(ledger.reservations("r")) == 3


def test_tokens_per_minute_are_kept(clock):
    provider = Provider(clock, lambda passed: "word " * 99 + "word")
    policy = RunPolicy(per_model={"scripted:scripted-1": ModelLimits(tpm=250)}, max_parallelism=10)
    finished = run(clock, prompts(RunGraph(policy), 8, provider.model(), max_output_tokens=100))
    assert finished.state is RunState.COMPLETED
    used = [finished.tasks[task].outputs.usage.tokens.total for task in finished.tasks]
    assert min(used) > 100
    for number, at in enumerate(provider.times):
        assert number * min(used) <= 250 + at * 250 / 60
    assert provider.times[-1] > 100


def test_every_call_of_an_agent_is_counted(clock):
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    provider = Provider(clock)
    replies = [{"word": "a"}, {"word": "b"}, "done"]
    model = provider.model(script=lambda messages: replies[(len(messages) - 1) // 2])
    times = []
    model.hook = lambda call_no, chunk_no: times.append(clock.passed)
    policy = RunPolicy(per_model={"scripted:scripted-1": ModelLimits(rpm=1)})
    graph = RunGraph(policy, model=model).add_task("t", prompt="Look them up.", tools=[look_up])
    assert run(clock, graph).tasks["t"].outputs.output == "done"
    # The agent works in threads, which virtual time does not wait for: calls may come later, never earlier.
    assert len(times) == 3
    assert all(later - earlier > 59.9 for earlier, later in pairwise(times))


def test_a_call_that_a_budget_moves_to_a_cheaper_model_keeps_that_models_limit(clock):
    schema = {"title": "Order", "description": "An order.", "type": "object", "properties": {"n": {"type": "integer"}}}
    provider = Provider(clock, lambda passed: {"n": 1})
    policy = RunPolicy(
        budget_limit=Cost.usd("0.1"),
        on_exceed="downgrade",
        ladder=("scripted:dear", "scripted:cheap"),
        per_model={"scripted:cheap": ModelLimits(rpm=1)},
    )
    graph = prompts(RunGraph(policy), 3, provider.model("dear"), response_format=schema, max_output_tokens=1_000)
    finished = run(clock, graph, catalog=CATALOG)
    assert finished.state is RunState.COMPLETED
    assert provider.times == [pytest.approx(60 * number, abs=0.1) for number in range(3)]


def test_a_deadline_ends_the_wait_for_a_turn(clock):
    provider = Provider(clock)
    policy = RunPolicy(per_model={"scripted:scripted-1": ModelLimits(rpm=1)}, timeout_ms=90_000)
    finished = run(clock, prompts(RunGraph(policy), 5, provider.model()))
    assert finished.state is RunState.ABORTED
    assert clock.passed == pytest.approx(90, abs=1)
    assert sum(task.state is TaskState.COMPLETED for task in finished.tasks.values()) == len(provider.times) == 2


# --- breakers --------------------------------------------------------------------------------------------------------


def test_a_breaker_opens_in_mid_run_and_the_run_goes_on_when_the_model_is_back(clock, make_breaker):
    def answer(passed):
        if 5 <= passed < 45:
            raise HttpError(503)
        return "ok"

    provider, quick = Provider(clock, answer), Provider(clock)
    policy = RunPolicy(
        per_model={"scripted:scripted-1": ModelLimits(rpm=60)},
        max_parallelism=2,
        retry=RetrySpec(max_attempts=5, initial_interval_ms=100),
    )
    graph = RunGraph(policy)
    graph.add_task("wait", _sleep_until(clock, 10))
    prompts(graph, 8, provider.model(), deps=["wait"], priority=9)
    prompts(graph, 5, quick.model("quick"), "quick", deps=["wait"])
    finished = run(clock, graph, breaker=make_breaker(failures_in_a_row=2, open_seconds=30))
    assert finished.state is RunState.COMPLETED
    assert [at for at in quick.times if at > 11] == []
    failed = [at for at in provider.times if at < 45]
    assert len(failed) == 3  # two that opened it, one that tried it
    assert failed[2] == pytest.approx(40, abs=1)
    assert provider.times[3] == pytest.approx(70, abs=2)


def test_a_run_ends_though_its_provider_is_gone_for_good_and_there_is_no_deadline(clock, make_breaker):
    def gone(passed):
        raise HttpError(500)

    provider = Provider(clock, gone)
    policy = RunPolicy(retry=RetrySpec(max_attempts=100, initial_interval_ms=1), max_parallelism=4)
    breaker = make_breaker(failures_in_a_row=2, open_seconds=30, give_up_after=3)
    finished = run(clock, prompts(RunGraph(policy), 30, provider.model()), breaker=breaker)
    assert finished.state is RunState.FAILED
    assert codes(finished) == {"model_unavailable"}
    assert len(provider.times) <= 4 + 3
    assert 90 <= clock.passed < 130


def test_too_many_requests_are_no_attempt_of_anybody(clock, make_breaker):
    def answer(passed):
        if passed < 7:
            raise HttpError(429, retry_after="7")
        return "ok"

    provider = Provider(clock, answer)
    finished = run(clock, prompts(RunGraph(RunPolicy(max_parallelism=3)), 6, provider.model()), breaker=make_breaker())
    assert finished.state is RunState.COMPLETED
    assert {task.attempts for task in finished.tasks.values()} == {1}
    assert [at for at in provider.times if 0 < at < 7] == []
    assert len(provider.times) <= 3 + 6


def test_an_agent_goes_on_where_its_model_closed_and_its_bill_has_every_call_once(clock, make_breaker):
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    refusals = [HttpError(429, retry_after="7")]

    def reply(messages):
        if len(messages) > 1 and refusals:
            raise refusals.pop()
        return {"word": "a"} if len(messages) == 1 else "done"

    model = Provider(clock).model("cheap", script=reply)
    graph = RunGraph(model=model).add_task("t", prompt="Look it up.", tools=[look_up])
    finished = run(clock, graph, breaker=make_breaker(), catalog=CATALOG)
    task = finished.tasks["t"]
    assert (task.outputs.output, task.attempts) == ("done", 1)
    assert len(model.calls) == 3  # the first is not made again
    assert task.actual_use == finished.usage
    assert clock.passed >= 7  # the agent works in threads, which virtual time does not wait for


def test_a_run_ends_though_its_provider_refuses_every_call(clock, make_breaker):
    def refuse(passed):
        raise HttpError(429, retry_after="5")

    provider = Provider(clock, refuse)
    breaker = make_breaker(give_up_after=4)
    finished = run(clock, prompts(RunGraph(RunPolicy(max_parallelism=2)), 10, provider.model()), breaker=breaker)
    assert finished.state is RunState.FAILED
    assert len(provider.times) < 30
    assert clock.passed < 120


def _sleep_until(clock, passed):
    async def body(inputs):
        await asyncio.sleep(passed - clock.passed)

    return body
