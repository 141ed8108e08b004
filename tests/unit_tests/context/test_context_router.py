"""The router hands outputs of direct dependencies over (rows M9, M16, M17 and O of the reference scenarios)."""

import pytest

from langchain_runtime.context import ContextRouter, check_names
from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.task_spec import Dependency, ForEach, TaskSpec


def completed(task, output=None, **fields):
    return TaskOutcome(task=task, state=TaskState.COMPLETED, output=output, **fields)


def route(deps, *outcomes):
    return ContextRouter().route(TaskSpec(id="t", deps=deps), {outcome.task: outcome for outcome in outcomes})


def test_the_router_is_a_context_router_O13():
    assert isinstance(ContextRouter(), protocols.ContextRouter)


def test_an_output_arrives_under_the_id_of_its_task_O1():
    assert route(["task-1"], completed("task-1", "Hello from Task 1")) == {"task-1": "Hello from Task 1"}


def test_outputs_arrive_in_the_order_of_the_dependencies_O8():
    outcomes = [completed(name, name.upper()) for name in ("a", "b", "c")]
    assert list(route(["c", "a", "b"], *outcomes).items()) == [("c", "C"), ("a", "A"), ("b", "B")]


@pytest.mark.parametrize("output", ["", None, 0, [1, {"a": None}], '"quoted" {braces} \n\x00 日本'], ids=repr)
def test_any_output_is_handed_over_verbatim_O5_O10_O12(output):
    assert route(["a"], completed("a", output)) == {"a": output}


def test_a_named_output_is_reachable_by_its_name_O12():
    outline = completed("outline", "text", outputs={"title": "T", "n": 3})
    assert route({"heading": "outline.title"}, outline) == {"heading": "T"}
    assert route(["outline.n"], outline) == {"n": 3}


def test_an_id_with_dots_is_a_task_before_it_is_an_output():
    dotted = completed("a.b", "whole")
    assert route(["a.b"], dotted, completed("a", outputs={"b": "part"})) == {"a.b": "whole"}


def test_a_missing_output_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidInputError, match="'titel' of task 'outline'") as error:
        route(["outline.titel"], completed("outline", outputs={"title": "T", "body": "B"}))
    assert error.value.hint == "did you mean 'title'? available: title, body"


def test_a_missing_output_of_a_task_without_any_says_so():
    with pytest.raises(InvalidInputError) as error:
        route(["outline.title"], completed("outline", "text"))
    assert error.value.hint == "nothing is available"


def test_a_missing_dependency_is_left_out_M9():
    assert route(["a", "missing"], completed("a", "A")) == {"a": "A"}


@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.COMPLETED])
def test_only_completed_dependencies_are_routed_M16(state):
    assert route(["a", "b"], TaskOutcome(task="a", state=state, output="early"), completed("b", "B")) == {"b": "B"}


def test_nothing_travels_further_than_one_edge_M17():
    assert route(["b"], completed("a", "A"), completed("b", "B")) == {"b": "B"}


class TestCheckNames:
    def test_distinct_names_pass(self):
        check_names(TaskSpec(id="t", deps={"x": "a", "y": "b"}, for_each=ForEach(task="a")), ["topic"])

    def test_an_alias_that_is_a_run_input_is_refused_before_the_run_O14(self):
        with pytest.raises(InvalidInputError, match="'topic' names both a run input and"):
            check_names(TaskSpec(id="t", deps=["topic"]), ["topic"])

    def test_the_item_of_for_each_is_a_name_too_O14(self):
        with pytest.raises(InvalidInputError, match="'item'"):
            check_names(TaskSpec(id="t", for_each=ForEach(task="a")), {"item": 1})

    def test_two_dependencies_under_one_name_are_refused(self):
        task = TaskSpec(id="t", deps=(Dependency(alias="x", task="a"), Dependency(alias="x", task="b")))
        with pytest.raises(InvalidInputError, match="2 values under the name 'x'"):
            check_names(task, [])
