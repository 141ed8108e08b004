"""kill -9 in a task that recalls what its view lacks: of its calls only those are bought that were not yet paid."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, ToolCall
from langgraph.store.sqlite.aio import AsyncSqliteStore

from langchain_runtime.context import MemoryManager, find_handles
from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

CATALOG = ModelCatalog({"models": {"test:m": {"input": "1", "output": "1", "max_output_tokens": 4096}}})
SECRET = "The code word of the harbour master is HELIOTROPE."
BOOK = "\n".join([*["A ship came in with the tide."] * 1_700, SECRET, *["A ship left with the tide."] * 1_700])
ROUNDS = 2


def script(messages):
    """Reads the beginning of what is missing, searches it, and answers; a summary is written where one is asked for."""
    said = "\n".join(message.text for message in messages)
    if messages[0].type == "system":
        return "Ships came and went."
    turns = sum(message.type == "ai" for message in messages)
    if turns == ROUNDS:
        return "HELIOTROPE" if SECRET in said else "unknown"
    asked = {"handle": find_handles(said)[0]} if turns == 0 else {"query": "code word harbour master"}
    return AIMessage("", tool_calls=[ToolCall(name="recall", args=asked, id=f"call-{turns}")])


def look_up(word: str) -> str:
    """Look a word up."""
    return word


def graph_of(scene, model):
    strategy = "summarize" if scene == "summary" else "offload"
    policy = RunPolicy(
        budget_limit=Cost.usd(1), context=ContextPolicy(max_tokens=2_000, recall_tokens=300, strategy=strategy)
    )

    async def note(inputs, runtime):
        await runtime.memory.aput("ship", "Calypso")

    return (
        RunGraph(policy, model=model)
        .add_task("book", lambda inputs: BOOK)
        .add_task("note", note)
        .add_task(
            "ask",
            prompt="Which is the code word?",
            deps=["book", "note"],
            tools=[look_up] if scene == "agent" else [],
        )
    )


async def carry_on(folder, scene, mode, *, dies_in=None):
    """Carry the run on; returns what it said and the requests that this process made."""

    async def hook(call_no, chunk_no):
        if call_no == dies_in:
            await MemoryManager(store).aput("r", "later", "Nereid")
            os.kill(os.getpid(), signal.SIGKILL)

    model = ScriptedChatModel(provider="test", model="m", script=script, hook=hook)
    config = {"configurable": {"run_id": "r", "continue_run": True}}
    ledger = SqliteLedger(folder / "ledger.db")
    ledger.abandon("r")
    async with AsyncSqliteStore.from_conn_string(str(folder / "store.db")) as store:
        await store.setup()
        compiled = graph_of(scene, model).compile(ledger=ledger, store=store, catalog=CATALOG, mode=mode)
        output = await compiled.ainvoke({"inputs": {}}, config)
    ledger.close()
    return output["results"]["ask"].output, model.calls


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
@pytest.mark.parametrize(("scene", "calls"), [("recall", 3), ("summary", 4), ("agent", 3)])
async def test_a_task_that_dies_after_two_rounds_of_recall_buys_only_the_rest(tmp_path, scene, calls, mode):
    arguments = [str(tmp_path), scene, mode, str(calls - 1)]
    child = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, timeout=90
    )
    assert child.returncode == -signal.SIGKILL, child.stderr

    said, made = await carry_on(tmp_path, scene, mode)

    assert said == "HELIOTROPE"
    assert len(made) == 1
    seen = "\n".join(message.text for message in made[0].messages)
    assert "Calypso" in seen
    assert "Nereid" not in seen
    ledger = SqliteLedger(tmp_path / "ledger.db")
    states = [each.state for each in ledger.reservations("r")]
    assert states.count(ReservationState.SETTLED) == calls
    assert states.count(ReservationState.FORFEITED) == 1  # the call in which the process died
    ledger.close()


if __name__ == "__main__":
    where, scene, mode, dies_in = sys.argv[1:]
    asyncio.run(carry_on(Path(where), scene, mode, dies_in=int(dies_in)))
