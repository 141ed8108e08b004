"""Callbacks, LangSmith among them, can tell which run and task a call belongs to."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from langchain_runtime.graph import RunGraph
from langchain_runtime.testing import ScriptedChatModel


class Listener(BaseCallbackHandler):
    run_inline = True

    def __init__(self):
        self.seen = []

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **event):
        self.seen.append((metadata["lcr_run_id"], metadata["lcr_task_id"]))

    def on_chain_start(self, serialized, inputs, *, metadata=None, **event):
        if event.get("name") == "step":
            self.seen.append((metadata["lcr_run_id"], metadata["lcr_task_id"]))


def a_graph(hears):
    model = ScriptedChatModel(callbacks=hears)
    graph = RunGraph(model=model).add_task("ask", prompt="go")
    step = RunnableLambda(lambda _: 1, name="step")
    return graph.add_task("chain", lambda inputs: model.invoke("go").content + str(step.invoke(1)), deps=["ask"])


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["config", "model"])
async def test_calls_of_bodies_carry_run_and_task(call, mode, sync, where):
    listener = Listener()
    app = a_graph([listener] if where == "model" else None).compile(mode=mode)
    config = {"configurable": {"run_id": "r"}, "callbacks": [listener] if where == "config" else None}
    await call(app, sync, {"inputs": {}}, config)
    expected = [("r", "ask"), ("r", "chain")]
    assert listener.seen[:2] == expected
    assert set(listener.seen) == set(expected)
    assert len(listener.seen) == (3 if where == "config" else 2)
