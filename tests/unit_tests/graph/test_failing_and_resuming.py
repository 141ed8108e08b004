"""What fails, what it takes along, and how a run goes on."""

import asyncio
import threading

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_runtime.contracts.errors import (
    InvalidDAGError,
    InvalidInputError,
    RunAbortedError,
    RunCompletedError,
    RunFailedError,
    RunNotFoundError,
)
from langchain_runtime.contracts.run import RetrySpec, RunPolicy, RunState
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

CONFIG = {"configurable": {"thread_id": "t", "run_id": "r"}}


class Flaky:
    """A body that fails until it is mended, and counts its calls."""

    def __init__(self):
        self.calls, self.broken = 0, True

    def __call__(self, inputs):
        self.calls += 1
        if self.broken:
            raise ValueError("boom")
        return "mended"


def states(run):
    return {name: str(task.state) for name, task in run.tasks.items()}


async def test_a_failure_skips_what_depends_on_it_and_nothing_else_Z1_Z11():
    graph = (
        RunGraph().add_task("bad", Flaky()).add_task("after", lambda i: 1, deps=["bad"]).add_task("other", lambda i: 2)
    )
    with pytest.raises(RunFailedError, match="'bad': ValueError: boom") as caught:
        await graph.compile().ainvoke({"inputs": {}})
    run = caught.value.run
    assert run.state is RunState.FAILED
    assert states(run) == {"bad": "failed", "after": "skipped", "other": "completed"}
    assert run.tasks["after"].skipped_because == "bad"
    assert caught.value.results["other"].output == 2


async def test_fail_fast_cancels_what_runs_and_keeps_what_has_finished_R8_Z2():
    cancelled = asyncio.Event()

    async def slow(inputs):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    graph = (
        RunGraph(RunPolicy(on_task_failure="fail_fast", max_parallelism=2))
        .add_task("done", lambda inputs: "kept", priority=9)
        .add_task("slow", slow, deps=["done"])
        .add_task("bad", Flaky(), deps=["done"])
        .add_task("never", lambda inputs: 1, deps=["slow"])
    )
    with pytest.raises(RunFailedError) as caught:
        await graph.compile().ainvoke({"inputs": {}})
    assert cancelled.is_set()
    assert caught.value.results["done"].output == "kept"
    assert caught.value.run.tasks["bad"].error.code == "task_failed"
    assert caught.value.run.tasks["slow"].error.code == "task_cancelled"
    assert states(caught.value.run)["never"] in {"pending", "skipped"}


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), GeneratorExit(), BaseException("odd")], ids=repr)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_body_may_raise_anything_without_harming_the_process_Z21(error, kind):
    def sync_body(inputs):
        raise error

    async def async_body(inputs):
        raise error

    graph = RunGraph().add_task("bad", sync_body if kind == "sync" else async_body).add_task("good", lambda inputs: 1)
    with pytest.raises(RunFailedError) as caught:
        await graph.compile().ainvoke({"inputs": {}})
    assert states(caught.value.run) == {"bad": "failed", "good": "completed"}


async def test_without_raising_the_state_tells():
    graph = RunGraph().add_task("bad", Flaky()).compile(raise_on_failure=False)
    output = await graph.ainvoke({"inputs": {}})
    assert output["run"].state is RunState.FAILED
    assert output["results"] == {}


async def test_a_task_is_tried_again_as_often_as_its_retry_allows():
    body = Flaky()

    def third_time_lucky(inputs):
        body.broken = body.calls < 2
        return body(inputs)

    graph = RunGraph(RunPolicy(retry=RetrySpec(max_attempts=3, initial_interval_ms=1))).add_task("t", third_time_lucky)
    run = (await graph.compile().ainvoke({"inputs": {}}))["run"]
    assert (run.tasks["t"].attempts, body.calls) == (3, 3)


@pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])
async def test_a_task_that_takes_too_long_fails_with_its_time_F12(kind):
    release = threading.Event()

    def sync_body(inputs):
        release.wait(10)

    async def async_body(inputs):
        await asyncio.Event().wait()

    async def stubborn_body(inputs):
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    body = {"sync": sync_body, "async": async_body, "stubborn": stubborn_body}[kind]
    graph = RunGraph().add_task("t", body, timeout_ms=30).compile()
    with pytest.raises(RunFailedError) as caught:
        await graph.ainvoke({"inputs": {}})
    assert caught.value.run.tasks["t"].error.code == "task_timeout"
    assert "30 ms" in caught.value.run.tasks["t"].error.message
    release.set()


async def test_a_task_that_took_too_long_is_tried_again_where_retries_are_allowed():
    attempts = []

    async def slow_at_first(inputs):
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "in time"

    retry = RetrySpec(max_attempts=2, initial_interval_ms=1)
    graph = RunGraph().add_task("t", slow_at_first, timeout_ms=500, retry=retry)
    assert (await graph.compile().ainvoke({"inputs": {}}))["results"]["t"].output == "in time"


async def test_a_slot_stays_taken_while_a_body_that_was_let_go_still_runs_Z6():
    release, running, peak = threading.Event(), [0], [0]

    def body(inputs):
        running[0] += 1
        peak[0] = max(peak[0], running[0])
        release.wait(10)
        running[0] -= 1

    graph = RunGraph(RunPolicy(max_parallelism=1)).add_task("a", body, timeout_ms=20).add_task("b", body, timeout_ms=20)
    compiled = graph.compile(raise_on_failure=False)
    async for event in compiled.astream({"inputs": {}}, stream_mode="custom"):
        if event["kind"] == "task_finished" and event["task"] == "a":
            await asyncio.sleep(0.05)  # time for a driver that is wrong to start b
            assert running == [1]
            release.set()
    assert peak == [1]


async def test_a_deadline_aborts_the_run_and_resuming_goes_on_Z4_Z5():
    gate = asyncio.Event()

    async def waits(inputs):
        await gate.wait()
        return "late"

    graph = (
        RunGraph(RunPolicy(timeout_ms=1_000))
        .add_task("quick", lambda inputs: 1)
        .add_task("slow", waits, deps=["quick"])
    ).compile(checkpointer=InMemorySaver())
    with pytest.raises(RunAbortedError) as caught:
        await graph.ainvoke({"inputs": {}}, CONFIG)
    assert caught.value.reason == "deadline"
    assert caught.value.run.state is RunState.ABORTED
    assert caught.value.results["quick"].output == 1
    gate.set()
    output = await graph.ainvoke(None, CONFIG)
    assert output["results"]["slow"].output == "late"
    assert output["run"].state is RunState.COMPLETED


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_abort_ends_a_run_in_the_middle_of_a_task_R9_Z5(kind):
    started, release = threading.Event(), threading.Event()

    def sync_body(inputs):
        started.set()
        release.wait(10)

    async def async_body(inputs):
        started.set()
        await asyncio.Event().wait()

    graph = RunGraph().add_task("t", sync_body if kind == "sync" else async_body).compile()
    attempt = asyncio.create_task(graph.ainvoke({"inputs": {}}, CONFIG))
    await asyncio.to_thread(started.wait, 5)
    assert graph.abort("r")
    async with asyncio.timeout(5):
        with pytest.raises(RunAbortedError) as caught:
            await attempt
    release.set()
    assert caught.value.run.state is RunState.ABORTED
    assert caught.value.run.tasks["t"].error.code == "task_cancelled"
    assert not graph.abort("r")


def test_abort_reaches_a_run_under_sync_invoke():
    started, graph = threading.Event(), None

    async def body(inputs):
        started.set()
        await asyncio.Event().wait()

    graph = RunGraph().add_task("t", body).compile()
    threading.Thread(target=lambda: (started.wait(5), graph.abort("r")), daemon=True).start()
    with pytest.raises(RunAbortedError):
        graph.invoke({"inputs": {}}, CONFIG)


async def test_cancelling_the_caller_leaves_nothing_running():
    ended, started = asyncio.Event(), asyncio.Event()

    async def body(inputs):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    attempt = asyncio.create_task(RunGraph().add_task("t", body).compile().ainvoke({"inputs": {}}))
    await started.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert ended.is_set()


@pytest.mark.parametrize("ledger", ["memory", "sqlite"])
async def test_resuming_tries_failed_and_skipped_tasks_again_and_keeps_the_rest(ledger, tmp_path):
    flaky, kept = Flaky(), []
    graph = (
        RunGraph()
        .add_task("kept", lambda inputs: kept.append(1) or "kept")
        .add_task("bad", flaky, deps=["kept"])
        .add_task("after", lambda inputs: inputs["bad"] + "!", deps=["bad"])
    )
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        books = InMemoryLedger() if ledger == "memory" else SqliteLedger(tmp_path / "ledger.db")
        with pytest.raises(RunFailedError):
            await graph.compile(checkpointer=saver, ledger=books).ainvoke({"inputs": {}}, CONFIG)
        flaky.broken = False
        again = graph.compile(checkpointer=saver, ledger=books)
        output = await again.ainvoke(None, CONFIG)
        assert output["results"]["after"].output == "mended!"
        assert (len(kept), flaky.calls) == (1, 2)
        assert (await again.ainvoke(None, CONFIG))["results"]["after"].output == "mended!"
        assert flaky.calls == 2
        assert (await again.aget_run(CONFIG)).state is RunState.COMPLETED
        books.close()


def test_resuming_works_under_sync_invoke():
    flaky = Flaky()
    graph = RunGraph().add_task("t", flaky).compile(checkpointer=InMemorySaver())
    with pytest.raises(RunFailedError):
        graph.invoke({"inputs": {}}, CONFIG)
    flaky.broken = False
    assert graph.invoke(None, CONFIG)["results"]["t"].output == "mended"
    assert graph.get_run(CONFIG).tasks["t"].attempts == 1


async def test_new_input_for_an_unfinished_thread_is_refused_and_nothing_is_lost():
    flaky = Flaky()
    graph = RunGraph().add_task("t", flaky).compile(checkpointer=InMemorySaver())
    with pytest.raises(RunFailedError):
        await graph.ainvoke({"inputs": {}}, CONFIG)
    with pytest.raises(InvalidInputError, match="unfinished run"):
        await graph.ainvoke({"inputs": {}}, CONFIG)
    flaky.broken = False
    assert (await graph.ainvoke(None, CONFIG))["results"]["t"].output == "mended"


async def test_a_finished_thread_takes_a_new_run_and_forgets_the_old_results():
    graph = RunGraph().add_task("t", lambda inputs: inputs["x"]).compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    first = await graph.ainvoke({"inputs": {"x": 1}}, thread)
    second = await graph.ainvoke({"inputs": {"x": 2}}, thread)
    assert (first["results"]["t"].output, second["results"]["t"].output) == (1, 2)
    assert first["run"].id != second["run"].id


async def test_a_run_id_is_used_once_Z16():
    graph = RunGraph().add_task("t", lambda inputs: 1).compile()
    await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
    with pytest.raises(RunCompletedError, match="carried out before"):
        await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})


async def test_resuming_a_thread_without_a_run_is_an_error():
    graph = RunGraph().add_task("t", lambda inputs: 1).compile(checkpointer=InMemorySaver())
    with pytest.raises(RunNotFoundError):
        await graph.ainvoke(None, CONFIG)


async def test_a_run_is_not_resumed_with_another_graph():
    saver = InMemorySaver()
    flaky = Flaky()
    with pytest.raises(RunFailedError):
        await RunGraph().add_task("t", flaky).compile(checkpointer=saver).ainvoke({"inputs": {}}, CONFIG)
    other = RunGraph().add_task("u", lambda inputs: 1).compile(checkpointer=saver)
    with pytest.raises(InvalidDAGError, match="different graph"):
        await other.ainvoke(None, CONFIG)


def test_an_abort_does_not_wait_for_a_sync_body_that_still_runs():
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def body(inputs):
        started.set()
        release.wait(30)
        ended.set()

    graph = RunGraph().add_task("t", body).compile()
    threading.Thread(target=lambda: (started.wait(5), graph.abort("r")), daemon=True).start()
    with pytest.raises(RunAbortedError):
        graph.invoke({"inputs": {}}, CONFIG)
    assert not ended.is_set()
    release.set()


def test_a_run_that_died_before_it_had_a_checkpoint_of_its_own_is_resumed():
    """The process is gone after ``prepare`` has returned, and before LangGraph has written what it returned."""

    class Dying(InMemorySaver):
        dead = False

        def put(self, config, checkpoint, metadata, new_versions):
            if self.dead or metadata["step"] == 1:
                self.dead = True
                raise KeyboardInterrupt
            return super().put(config, checkpoint, metadata, new_versions)

    saver, ledger = Dying(), InMemoryLedger()
    graph = RunGraph().add_task("a", lambda inputs: inputs["n"] + 1)
    with pytest.raises(KeyboardInterrupt):
        graph.compile(checkpointer=saver, ledger=ledger).invoke({"inputs": {"n": 1}}, CONFIG)
    revived = InMemorySaver()
    revived.storage, revived.writes, revived.blobs = saver.storage, saver.writes, saver.blobs
    output = graph.compile(checkpointer=revived, ledger=ledger).invoke(None, CONFIG)
    assert output["results"]["a"].output == 2
