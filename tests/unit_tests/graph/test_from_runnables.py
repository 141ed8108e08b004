"""``RunGraph.from_runnables``: what ``RunnableParallel`` takes, as a run."""

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_runtime import RunGraph
from langchain_runtime.contracts.errors import InvalidInputError

STEPS = {
    "double": RunnableLambda(lambda inputs: inputs["n"] * 2),
    "square": RunnableLambda(lambda inputs: inputs["n"] ** 2),
}


def outputs(graph, **inputs):
    results = graph.compile().invoke({"inputs": inputs})["results"]
    return {task_id: result.output for task_id, result in results.items()}


def test_a_mapping_and_a_parallel_give_the_same_as_the_parallel_itself():
    expected = RunnableParallel(STEPS).invoke({"n": 5})
    assert outputs(RunGraph.from_runnables(STEPS), n=5) == expected
    assert outputs(RunGraph.from_runnables(RunnableParallel(STEPS)), n=5) == expected


def test_steps_wait_for_what_deps_say():
    steps = {**STEPS, "sum": lambda inputs: inputs["double"] + inputs["squared"]}
    graph = RunGraph.from_runnables(steps, deps={"sum": {"double": "double", "squared": "square"}})
    assert outputs(graph, n=5)["sum"] == 35


def test_deps_of_a_step_that_is_not_there_are_refused():
    with pytest.raises(InvalidInputError, match="'later'"):
        RunGraph.from_runnables(STEPS, deps={"later": ["double"]})
