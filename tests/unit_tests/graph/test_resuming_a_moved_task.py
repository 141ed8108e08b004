"""A run that had moved a task to a cheaper model goes on: nothing is bought twice, whatever fits by now."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.contracts.errors import RunAbortedError, RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy, RunState, TaskState
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

# A call of `large` can cost a little more than a dollar with this cap, one of `small` a tenth of that.
CATALOG = ModelCatalog(
    {
        "models": {
            "test:large": {"input": "1000", "output": "1000", "max_output_tokens": 4096},
            "test:small": {"input": "100", "output": "100", "max_output_tokens": 4096},
        }
    }
)
CAP = 1_000
LONG = "word " * (CAP - 1)
CONFIG = {"configurable": {"thread_id": "r", "run_id": "r"}}


def team(script=("ok",), **of_small):
    large = ScriptedChatModel(provider="test", model="large", script=script)
    return {
        "test:large": large,
        "test:small": ScriptedChatModel(provider="test", model="small", script=script, **of_small),
    }


def compiled(limit, ledger, models, *, tasks=2, also=None, checkpointer=None):
    policy = RunPolicy(
        budget_limit=Cost.usd(limit), on_exceed="downgrade", ladder=("test:large", "test:small"), max_parallelism=1
    )
    graph = RunGraph(policy, model="test:large")
    for number in range(tasks):
        graph.add_task(f"t{number}", prompt="Say ok.", max_output_tokens=CAP, priority=tasks - number)
    if also is not None:
        graph.add_task("also", also, deps=[f"t{number}" for number in range(tasks)])
    return graph.compile(ledger=ledger, catalog=CATALOG, models=models, checkpointer=checkpointer)


def calls(models):
    return [len(models[name].calls) for name in ("test:large", "test:small")]


def die_in_the_call_of_the_cheaper_model(path):
    def die(call_no, chunk_no):
        os.kill(os.getpid(), signal.SIGKILL)

    models = team(script=(LONG,), hook=die)
    asyncio.run(compiled("1.30", SqliteLedger(Path(path)), models).ainvoke({"inputs": {}}, CONFIG))


@pytest.mark.crash
async def test_a_kill_between_the_move_and_the_reply_is_charged_once_and_what_was_finished_is_not_bought_again(
    tmp_path,
):
    path = tmp_path / "ledger.db"
    child = subprocess.run(
        [sys.executable, __file__, str(path)], capture_output=True, text=True, check=False, timeout=90
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    ledger, models = SqliteLedger(path), team()
    ledger.abandon("r")

    configurable = CONFIG["configurable"] | {"continue_run": True}
    output = await compiled("1.30", ledger, models).ainvoke({"inputs": {}}, {"configurable": configurable})

    assert output["run"].state is RunState.COMPLETED
    assert {task_id: result.model for task_id, result in output["results"].items()} == {
        "t0": "test:large",
        "t1": "test:small",
    }
    assert calls(models) == [0, 1]
    books = [(r.hold.task_id, r.hold.model, r.state) for r in ledger.reservations("r")]
    assert books == [
        ("t0", "test:large", ReservationState.SETTLED),
        ("t1", "test:small", ReservationState.FORFEITED),
        ("t1", "test:small", ReservationState.SETTLED),
    ]
    balance = ledger.balance("run:r")
    assert balance.spent_nano == sum(r.charged_nano for r in ledger.reservations("r"))
    assert balance.spent <= Cost.usd("1.30")
    ledger.close()


@pytest.mark.parametrize("kept_by", ["checkpoint", "journal"])
async def test_a_moved_task_keeps_its_outcome_when_its_own_model_would_fit_again(kept_by):
    broken = True

    def also(inputs):
        if broken:
            raise ValueError("boom")
        return inputs["t1"]

    ledger, models = InMemoryLedger(), team(script=(LONG,))
    checkpointer = InMemorySaver() if kept_by == "checkpoint" else None
    with pytest.raises(RunFailedError):
        await compiled("1.30", ledger, models, also=also, checkpointer=checkpointer).ainvoke({"inputs": {}}, CONFIG)
    broken = False
    ledger.set_limit("run:r", Cost.usd(100).nano)
    again = compiled("100", ledger, models, also=also, checkpointer=checkpointer)
    if kept_by == "checkpoint":
        output = await again.ainvoke(None, CONFIG)
    else:
        configurable = CONFIG["configurable"] | {"continue_run": True}
        output = await again.ainvoke({"inputs": {}}, {"configurable": configurable})
    assert output["run"].tasks["t1"].model == output["results"]["t1"].model == "test:small"
    assert calls(models) == [1, 1]
    assert output["results"]["also"].output == LONG


class Stuck(AsyncCallbackHandler):
    """Has the reply of a call and does not let go of it."""

    def __init__(self):
        self.reached, self.release = asyncio.Event(), asyncio.Event()

    async def on_llm_end(self, response, **kwargs):
        self.reached.set()
        await self.release.wait()


@pytest.mark.parametrize("limit_now", ["0.13", "100"], ids=["nothing fits any more", "everything fits again"])
async def test_a_reply_that_was_paid_for_is_read_back_from_the_model_that_gave_it(limit_now):
    ledger, models, checkpointer, stuck = InMemoryLedger(), team(script=(LONG,)), InMemorySaver(), Stuck()
    graph = compiled("0.13", ledger, models, tasks=1, checkpointer=checkpointer)
    run = asyncio.create_task(graph.ainvoke({"inputs": {}}, {**CONFIG, "callbacks": [stuck]}))
    await stuck.reached.wait()
    graph.abort("r")
    with pytest.raises(RunAbortedError):
        await run
    stuck.release.set()
    spent = ledger.balance("run:r").spent
    assert calls(models) == [0, 1]
    assert ledger.outcomes("r")["t0"].state is TaskState.FAILED
    assert spent > Cost.usd("0.10")

    ledger.set_limit("run:r", Cost.usd(limit_now).nano)
    output = await compiled(limit_now, ledger, models, tasks=1, checkpointer=checkpointer).ainvoke(None, CONFIG)

    assert output["run"].state is RunState.COMPLETED
    assert output["results"]["t0"].model == "test:small"
    assert calls(models) == [0, 1]
    assert ledger.balance("run:r").spent == output["run"].usage.cost == output["results"]["t0"].usage.cost == spent
    assert ledger.balance("run:r").held_nano == 0


async def test_a_task_whose_paid_reply_is_of_no_use_is_tried_again_from_its_own_model():
    ledger, checkpointer = InMemoryLedger(), InMemorySaver()
    failing = team(script=(ConnectionResetError("reset"),))
    with pytest.raises(RunFailedError):
        await compiled("0.13", ledger, failing, tasks=1, checkpointer=checkpointer).ainvoke({"inputs": {}}, CONFIG)
    assert calls(failing) == [0, 1]  # it may be billed, so it is charged in full; there is no reply to read back
    ledger.set_limit("run:r", Cost.usd(100).nano)
    models = team()
    output = await compiled("100", ledger, models, tasks=1, checkpointer=checkpointer).ainvoke(None, CONFIG)
    assert output["results"]["t0"].model == "test:large"
    assert calls(models) == [1, 0]


async def test_a_model_that_could_not_have_answered_is_no_hindrance_to_a_resumed_task():
    prices = {"input": "1", "output": "1", "max_output_tokens": 4096}
    narrow = {"test:large": {**prices, "context_window": 100_000}, "test:small": {**prices, "context_window": 100}}
    ledger, checkpointer, models = InMemoryLedger(), InMemorySaver(), team(script=(ConnectionResetError("reset"), "ok"))
    policy = RunPolicy(budget_limit=Cost.usd(100), on_exceed="downgrade", ladder=("test:large", "test:small"))
    graph = RunGraph(policy, model="test:large").add_task("t", prompt="word " * 1_000, max_output_tokens=CAP)
    resumable = graph.compile(
        ledger=ledger, catalog=ModelCatalog({"models": narrow}), models=models, checkpointer=checkpointer
    )
    with pytest.raises(RunFailedError):
        await resumable.ainvoke({"inputs": {}}, CONFIG)
    output = await resumable.ainvoke(None, CONFIG)
    assert output["results"]["t"].output == "ok"
    assert calls(models) == [2, 0]


if __name__ == "__main__":
    die_in_the_call_of_the_cheaper_model(sys.argv[1])
