"""Bodies that raise anything, return anything or never return: the run ends, and what is finished stays finished."""

import asyncio
import itertools
import json
import subprocess
import sys
import threading

import pydantic
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime.backends.daemon_threads import run_in_daemon_thread
from langchain_runtime.backends.json_values import MAX_DEPTH, MAX_ERROR_CHARACTERS, as_result, error_text, unfit
from langchain_runtime.contracts.errors import InvalidInputError, TaskResultNotSerializableError
from langchain_runtime.contracts.run import RetrySpec, RunPolicy, RunState, TaskResult
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

CONFIG = {"configurable": {"thread_id": "t", "run_id": "r"}}
PATIENCE = 40
"""Seconds after which a run that should have ended hangs."""


@pytest.fixture(params=["invoke", "ainvoke"])
def carry_out(request):
    """Runs a graph in one of the two ways, in a thread of its own: a run that hangs fails its test, and no more."""

    def run(graph, given, config=CONFIG):
        ended, output, error = threading.Event(), [], []

        async def ainvoke():
            try:
                output.append(await graph.ainvoke(given, config))
            except BaseException as raised:
                error.append(raised)
            ended.set()  # closing the loop waits for every body that was let go

        def invoke():
            try:
                output.append(graph.invoke(given, config))
            except BaseException as raised:
                error.append(raised)
            ended.set()

        target = invoke if request.param == "invoke" else lambda: asyncio.run(ainvoke())
        threading.Thread(target=target, daemon=True).start()
        assert ended.wait(PATIENCE), "the run hangs"
        if error:
            raise error[0]
        return output[0]

    return run


@pytest.fixture
def ledger(tmp_path):
    books = SqliteLedger(tmp_path / "ledger.db")
    yield books
    books.close()


def states(run):
    return {task_id: str(task.state) for task_id, task in run.tasks.items()}


class OddError(BaseException):
    pass


class TextRaisesError(Exception):
    def __str__(self):
        raise SystemExit("no text")

    __repr__ = __str__


class TextIsNoTextError(Exception):
    __str__ = lambda self: 7


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("cannot be pickled")
        self.lock = threading.Lock()

    def __reduce__(self):
        raise TypeError("never")


class LyingError(Exception):
    is_retryable = "perhaps"


class TrappedError(Exception):
    @property
    def is_retryable(self):
        raise OSError("trap")


def endless(inputs):
    return endless(inputs)


RAISED = {
    "Exception": (lambda: ValueError("boom"), "ValueError: boom"),
    "BaseException": (lambda: OddError("odd"), "OddError: odd"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "GeneratorExit": (GeneratorExit, "GeneratorExit"),
    "StopIteration": (lambda: StopIteration(4), "StopIteration"),
    "StopAsyncIteration": (StopAsyncIteration, "StopAsyncIteration"),
    "CancelledError": (asyncio.CancelledError, "ancelled"),
    "TimeoutError": (TimeoutError, "TimeoutError"),
    "MemoryError": (MemoryError, "MemoryError"),
    "text-raises": (TextRaisesError, "TextRaisesError: its text cannot be shown, __str__ raised SystemExit"),
    "text-is-no-text": (TextIsNoTextError, "TextIsNoTextError: its text cannot be shown"),
    "unpicklable": (UnpicklableError, "UnpicklableError: cannot be pickled"),
    "lying": (lambda: LyingError("x"), "LyingError: x"),
    "trapped": (lambda: TrappedError("x"), "TrappedError: x"),
    "half-a-character": (lambda: ValueError("half \ud800"), "ValueError: half \ufffd"),
    "group": (lambda: ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "ValueError: a; KeyError: 'b'"),
    "base-group": (lambda: BaseExceptionGroup("worse", [SystemExit(1)]), "SystemExit: 1"),
    "endless-text": (lambda: ValueError("x" * 1_000_000), "... (1,000,012 characters)"),
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("raised", "says"), RAISED.values(), ids=RAISED.keys())
def test_whatever_a_body_raises_fails_its_task_and_nothing_else_Z21(raised, says, kind, carry_out, ledger):
    """Z21 fixed: the process lives, siblings keep their results, and a resumed run tries the task again."""
    calls = []

    def sync_body(inputs):
        calls.append("bad")
        if calls.count("bad") == 1:
            raise raised()
        return "mended"

    async def async_body(inputs):
        return sync_body(inputs)

    graph = (
        RunGraph()
        .add_task("bad", sync_body if kind == "sync" else async_body)
        .add_task("good", lambda inputs: calls.append("good") or "kept")
        .add_task("after", lambda inputs: inputs["bad"], deps=["bad"])
    ).compile(checkpointer=InMemorySaver(), ledger=ledger, raise_on_failure=False)
    run = (carry_out(graph, {"inputs": {}}))["run"]
    assert states(run) == {"bad": "failed", "good": "completed", "after": "skipped"}
    error = run.tasks["bad"].error
    assert error.code in {"task_failed", "task_cancelled"}
    assert says in error.message
    assert len(error.message) < MAX_ERROR_CHARACTERS + 100
    assert ledger.outcome("r", "good").output == "kept"
    run.model_dump_json().encode()

    run = (carry_out(graph, None))["run"]
    assert states(run) == {"bad": "completed", "good": "completed", "after": "completed"}
    assert calls.count("good") == 1


@pytest.mark.parametrize("raised", [SystemExit, StopIteration, TextRaisesError], ids=lambda error: error.__name__)
def test_what_is_no_ordinary_error_is_tried_again_like_one(raised, carry_out):
    calls = []

    def body(inputs):
        calls.append(1)
        if len(calls) < 3:
            raise raised
        return "third time lucky"

    retry = RetrySpec(max_attempts=3, initial_interval_ms=1)
    output = carry_out(RunGraph().add_task("t", body, retry=retry).compile(), {"inputs": {}})
    assert output["results"]["t"].output == "third time lucky"


def test_a_body_that_recurses_without_end_fails_its_task(carry_out):
    graph = RunGraph().add_task("t", endless).compile(raise_on_failure=False)
    error = (carry_out(graph, {"inputs": {}}))["run"].tasks["t"].error
    assert error.message.startswith("RecursionError")


def test_a_runnable_that_raises_fails_its_task(carry_out):
    def raises(inputs):
        raise OddError("odd")

    graph = RunGraph().add_task("t", RunnableLambda(raises)).compile(raise_on_failure=False)
    assert "OddError: odd" in (carry_out(graph, {"inputs": {}}))["run"].tasks["t"].error.message


def test_the_text_of_a_group_shows_its_first_errors_however_deep_they_are():
    group = ExceptionGroup("inner", [ValueError(str(number)) for number in range(9)])
    for _ in range(2_000):
        group = ExceptionGroup("outer", [group])
    text = error_text(group)
    assert text.startswith("ExceptionGroup: outer (1 sub-exception): ValueError: 0; ValueError: 1")
    assert text.endswith("ValueError: 4")


CTRL_C = """
import asyncio, os, signal, sys
from langgraph.checkpoint.memory import InMemorySaver
from langchain_runtime.graph import RunGraph

pressed, finished = [], []

async def body(inputs):
    if not pressed:
        pressed.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
    return "late"

graph = RunGraph().add_task("kept", lambda inputs: finished.append(1)).add_task("slow", body, deps=["kept"]).compile(
    checkpointer=InMemorySaver()
)
config = {"configurable": {"thread_id": "t"}}
run = graph.invoke if sys.argv[1] == "invoke" else lambda *given: asyncio.run(graph.ainvoke(*given))
try:
    run({"inputs": {}}, config)
except KeyboardInterrupt:
    print(run(None, config)["results"]["slow"].output, len(finished))
"""


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_ctrl_c_ends_the_run_and_a_resumed_run_keeps_what_was_finished(how):
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C, how], check=False, capture_output=True, text=True, timeout=100
    )
    assert ended.stdout.split() == ["late", "1"], ended.stderr


# --- bodies that never return ----------------------------------------------------------------------------------------


class Bodies:
    """Bodies that do not return before ``release`` is set, whoever asks them to."""

    def __init__(self):
        self.release, self.started, self.running, self.peak = threading.Event(), threading.Event(), 0, 0

    def enter(self):
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.started.set()

    def blocking(self, inputs):
        self.enter()
        self.release.wait()
        self.running -= 1

    async def waiting(self, inputs):
        self.enter()
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    async def stubborn(self, inputs):
        self.enter()
        while not self.release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        self.running -= 1

    async def in_a_thread(self, inputs):
        self.enter()
        await asyncio.to_thread(self.release.wait)


@pytest.fixture
def bodies():
    made = Bodies()
    yield made
    made.release.set()


KINDS = ["blocking", "waiting", "stubborn", "in_a_thread"]


def stuck(bodies, kind, **policy):
    return (
        RunGraph(RunPolicy(**policy))
        .add_task("kept", lambda inputs: "kept")
        .add_task("stuck", getattr(bodies, kind), deps=["kept"], timeout_ms=policy.get("task_timeout_ms"))
        .add_task("after", lambda inputs: 1, deps=["stuck"])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_never_returns_meets_its_time_and_the_run_ends(kind, bodies, carry_out):
    graph = stuck(bodies, kind, task_timeout_ms=50).compile(checkpointer=InMemorySaver(), raise_on_failure=False)
    output = carry_out(graph, {"inputs": {}})
    bodies.release.set()
    run = output["run"]
    assert run.state is RunState.FAILED
    assert states(run) == {"kept": "completed", "stuck": "failed", "after": "skipped"}
    assert run.tasks["stuck"].error.code == "task_timeout"
    assert output["results"]["kept"].output == "kept"


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_never_returns_does_not_outlive_the_deadline_of_its_run(kind, bodies, carry_out):
    graph = stuck(bodies, kind, timeout_ms=1_000).compile(checkpointer=InMemorySaver(), raise_on_failure=False)
    output = carry_out(graph, {"inputs": {}})
    bodies.release.set()
    run = output["run"]
    assert run.state is RunState.ABORTED
    assert run.tasks["stuck"].error.code == "task_cancelled"
    assert output["results"]["kept"].output == "kept"


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_never_returns_does_not_hold_up_an_abort_R9(kind, bodies, carry_out):
    graph = stuck(bodies, kind).compile(checkpointer=InMemorySaver(), raise_on_failure=False)
    threading.Thread(target=lambda: (bodies.started.wait(PATIENCE), graph.abort("r")), daemon=True).start()
    output = carry_out(graph, {"inputs": {}})
    bodies.release.set()
    run = output["run"]
    assert run.state is RunState.ABORTED
    assert run.tasks["stuck"].error.code == "task_cancelled"
    assert output["results"]["kept"].output == "kept"


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_never_returns_does_not_hold_up_a_run_that_fails_fast(kind, bodies, carry_out):
    def bad(inputs):
        bodies.started.wait(PATIENCE)
        raise ValueError("boom")

    graph = stuck(bodies, kind, on_task_failure="fail_fast").add_task("bad", bad, deps=["kept"])
    output = carry_out(graph.compile(raise_on_failure=False), {"inputs": {}})
    bodies.release.set()
    run = output["run"]
    assert run.state is RunState.FAILED
    assert (run.tasks["bad"].error.code, run.tasks["stuck"].error.code) == ("task_failed", "task_cancelled")
    assert output["results"]["kept"].output == "kept"


@pytest.mark.parametrize("kind", ["blocking", "stubborn"])
async def test_bodies_that_were_let_go_keep_their_slots_until_they_end_Z6(kind, bodies):
    """Z6 fixed: with one slot and four bodies that ignore cancellation, one runs at a time."""
    graph = RunGraph(RunPolicy(max_parallelism=1, task_timeout_ms=20))
    for name in "abcd":
        graph.add_task(name, getattr(bodies, kind))
    failed = []
    async with asyncio.timeout(PATIENCE):
        async for event in graph.compile(raise_on_failure=False).astream({"inputs": {}}, stream_mode="custom"):
            if event["kind"] == "task_finished":
                failed.append(event["error"])
                await asyncio.sleep(0.05)  # time for a driver that is wrong to start the next one
                assert bodies.running <= 1
                bodies.release.set()
    assert bodies.peak == 1
    assert failed[0]["code"] == "task_timeout"


async def test_a_body_that_was_let_go_can_no_longer_change_its_task(bodies, ledger):
    """What a zombie returns in the end is nobody's result."""
    ended = threading.Event()

    def late(inputs):
        bodies.blocking(inputs)
        ended.set()
        return "too late"

    graph = RunGraph().add_task("t", late, timeout_ms=20).compile(ledger=ledger, raise_on_failure=False)
    async with asyncio.timeout(PATIENCE):
        run = (await graph.ainvoke({"inputs": {}}, CONFIG))["run"]
        bodies.release.set()
        await asyncio.to_thread(ended.wait)
    assert run.tasks["t"].error.code == "task_timeout"
    assert ledger.outcome("r", "t").output is None


async def test_a_thread_that_the_system_refuses_is_reported_and_occupies_nothing():
    ended = []
    usual = threading.stack_size(1 << 46)  # more than there is
    try:
        with pytest.raises(RuntimeError, match="new thread"):
            run_in_daemon_thread(int, name="t", on_end=lambda: ended.append(1))
    finally:
        threading.stack_size(usual)
    assert ended == [1]


def test_a_thread_that_ends_after_its_loop_was_closed_harms_nobody():
    release, threads = threading.Event(), []

    async def start():
        run_in_daemon_thread(release.wait, name="left-behind", on_end=lambda: None).cancel()
        threads.extend(thread for thread in threading.enumerate() if thread.name == "left-behind")

    asyncio.run(start())
    release.set()
    threads[0].join(PATIENCE)  # pytest reports an error in a thread
    assert not threads[0].is_alive()


# --- bodies that return what JSON cannot carry -----------------------------------------------------------------------


def nested(levels, kind=list):
    value = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


def circular():
    value = {}
    value["itself"] = [value]
    return value


class Trap(pydantic.BaseModel):
    value: int = 1

    @pydantic.field_serializer("value")
    def raises(self, value):
        raise OSError("cannot")


async def coroutine():
    return 1


UNSERIALIZABLE = {
    "object": (object, "object"),
    "lock": (threading.Lock, "lock"),
    "generator": (lambda: (number for number in [1]), "a generator gives its items one by one"),
    "endless-iterator": (lambda: {"deep": [(itertools.count(),)]}, "a count gives its items one by one"),
    "range": (lambda: range(3), "range"),
    "nan": (lambda: float("nan"), "nan"),
    "infinity": (lambda: {"deep": [float("-inf")]}, "-inf"),
    "circular": (circular, "Circular"),
    "a-million-levels": (lambda: nested(10**6), "depth"),
    "many-levels": (lambda: nested(MAX_DEPTH + 1, dict), f"more than {MAX_DEPTH} levels"),
    "bytes": (lambda: b"\xff\xfe", "utf-8"),
    "set": (lambda: {object()}, "object"),
    "coroutine": (lambda: [coroutine()], "coroutine"),
    "half-a-character": (lambda: "half \ud800", "'half \\ud800'"),
    "half-a-key": (lambda: {"\ud800": 1}, "surrogate"),
    "huge-number": (lambda: [10**5_000], "16610 bits"),
    "number-of-65-bits": (lambda: 2**64, "65 bits"),
    "model": (Trap, "OSError: cannot"),
    "error": (lambda: ValueError("x"), "ValueError"),
    "class": (lambda: int, "type"),
    "unchecked-result": (lambda: TaskResult.model_construct(output=object()), "object"),
    "nan-in-a-result": (lambda: TaskResult(output=float("nan")), "nan"),
    "half-a-character-in-a-result": (lambda: TaskResult(outputs={"a": ["\udfff"]}), "surrogate"),
    "nan-in-the-metadata": (lambda: TaskResult(metadata={"a": float("inf")}), "inf"),
    "object-beside-messages": (lambda: {"messages": [AIMessage("hi")], "x": object()}, "object"),
}


@pytest.mark.filterwarnings("ignore:coroutine 'coroutine' was never awaited:RuntimeWarning")
@pytest.mark.parametrize(("value", "says"), UNSERIALIZABLE.values(), ids=UNSERIALIZABLE.keys())
def test_what_json_cannot_carry_fails_its_task_by_name_and_nothing_else(value, says, carry_out, ledger):
    graph = (
        RunGraph()
        .add_task("bad", lambda inputs: value())
        .add_task("good", lambda inputs: "kept")
        .add_task("after", lambda inputs: 1, deps=["bad"])
    ).compile(checkpointer=InMemorySaver(), ledger=ledger, raise_on_failure=False)
    output = carry_out(graph, {"inputs": {}})
    run = output["run"]
    assert states(run) == {"bad": "failed", "good": "completed", "after": "skipped"}
    error = run.tasks["bad"].error
    assert error.code == "result_not_serializable"
    assert error.message.startswith("task 'bad' returned a value (")
    assert says in error.message
    assert "(return " in error.message
    assert not error.retryable
    assert output["results"]["good"].output == "kept"


CARRIED = {
    "deepest": (nested(MAX_DEPTH), nested(MAX_DEPTH)),
    "deepest-mapping": (nested(MAX_DEPTH, dict), nested(MAX_DEPTH, dict)),
    "largest-number": ([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
    "characters-beyond-ascii": ("\U0001f600 é \0", "\U0001f600 é \0"),
    "bytes-of-text": (b"abc", "abc"),
    "set": ({1}, [1]),
    "keys": ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
    "half-a-character-of-a-model": (AIMessage("half \ud83d"), "half \ufffd"),
    "two-halves-of-a-model": (AIMessage("\ud83d\ude00"), "\U0001f600"),
    "result-made-of-a-set": (TaskResult.model_construct(output={1}), [1]),
}


@pytest.mark.parametrize(("value", "output"), CARRIED.values(), ids=CARRIED.keys())
def test_what_json_can_carry_comes_back_from_journal_and_checkpoint(value, output, carry_out, tmp_path):
    graph = RunGraph().add_task("t", lambda inputs: value)
    with_ledger = SqliteLedger(tmp_path / "ledger.db")
    compiled = graph.compile(checkpointer=InMemorySaver(), ledger=with_ledger)
    assert (carry_out(compiled, {"inputs": {}}))["results"]["t"].output == output
    assert (carry_out(compiled, None))["results"]["t"].output == output
    with_ledger.close()
    reopened = SqliteLedger(tmp_path / "ledger.db")
    assert reopened.outcome("r", "t").output == output
    reopened.close()


def test_a_reply_that_was_paid_for_is_kept_whatever_its_provider_says_about_it(carry_out):
    class Boasts(ScriptedChatModel):
        def _generate(self, *arguments, **keywords):
            result = super()._generate(*arguments, **keywords)
            result.generations[0].message.response_metadata["finish_reason"] = {"why": {1, 2}}
            return result

    graph = RunGraph(model=Boasts(provider="test", model="m", script=("half \ud83d",))).add_task("t", prompt="Hi")
    result = (carry_out(graph.compile(), {"inputs": {}}))["results"]["t"]
    assert result.output == "half \ufffd"
    json.dumps(result.metadata)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", [{"a": [None]}], {}, []], ids=repr)
def test_plain_values_are_fit(value):
    assert unfit(value) is None


@pytest.mark.parametrize("value", [{1: 2}, (1,), {"\ud800": 1}, [object()], [{"a": {1}}]], ids=range(5))
def test_what_is_no_plain_json_as_it_is_is_unfit(value):
    assert unfit(value)


def test_a_result_whose_values_had_to_be_converted_keeps_what_else_it_says():
    given = TaskResult.model_construct(output={3}, outputs={}, metadata={}, model="m")
    assert as_result(given, task_id="t") == TaskResult(output=[3], model="m")


def test_the_complaint_of_a_serialiser_is_bounded():
    class Talks(pydantic.BaseModel):
        value: int = 1

        @pydantic.field_serializer("value")
        def raises(self, value):
            raise OSError("x" * 1_000_000)

    with pytest.raises(TaskResultNotSerializableError) as caught:
        as_result(Talks(), task_id="t")
    assert len(str(caught.value)) < MAX_ERROR_CHARACTERS + 200


# --- what is handed to a run -----------------------------------------------------------------------------------------

BAD_INPUTS = {
    "no-mapping": 3,
    "list": [1],
    "object": {"x": object()},
    "huge-number": {"x": 2**70},
    "nan": {"x": float("nan")},
    "half-a-character": {"x": "\ud800"},
    "deep": {"x": nested(300)},
    "bytes": {"x": b"\xff"},
}


@pytest.mark.parametrize("inputs", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_inputs_that_json_cannot_carry_are_refused_before_anything_runs(inputs, carry_out, ledger):
    calls = []
    graph = (
        RunGraph().add_task("t", lambda inputs: calls.append(1)).compile(ledger=ledger, checkpointer=InMemorySaver())
    )
    with pytest.raises(InvalidInputError) as caught:
        carry_out(graph, {"inputs": inputs})
    assert caught.value.hint
    assert calls == []


@pytest.mark.parametrize("wanted", [0, -1, "many"])
def test_a_bound_that_lets_nothing_start_is_refused(wanted, carry_out):
    graph = RunGraph().add_task("t", lambda inputs: 1).compile()
    with pytest.raises(InvalidInputError, match="max_concurrency"):
        carry_out(graph, {"inputs": {}}, {"max_concurrency": wanted})


def test_a_store_that_breaks_ends_the_run_with_its_own_error_instead_of_stalling_it(carry_out):
    class Broken(InMemoryLedger):
        async def arecord_outcome(self, run_id, outcome):
            raise OSError("disk on fire")

    graph = RunGraph().add_task("t", lambda inputs: 1).compile(ledger=Broken())
    with pytest.raises(OSError, match="disk on fire"):
        carry_out(graph, {"inputs": {}})
