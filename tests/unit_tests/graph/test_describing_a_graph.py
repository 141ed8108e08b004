"""What a graph may look like, and what is refused with a code and a hint before anything runs."""

import re

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    DependencyNotFoundError,
    InvalidDAGError,
    InvalidInputError,
    UnknownModelError,
)
from langchain_runtime.contracts.run import RunPolicy, TaskOutcome, TaskState
from langchain_runtime.contracts.run_file import RunFile
from langchain_runtime.contracts.task_spec import Condition, ForEach, TaskSpec
from langchain_runtime.graph import RunGraph
from langchain_runtime.graph.conditions import holds
from langchain_runtime.graph.models import open_model
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition


def one(inputs):
    return 1


@pytest.mark.parametrize(
    "task_id", ["a/b", "../x", "a..b", "a|b", "a:b", "", "driver", "prepare", "finish", "x" * 129, "map#0"]
)
def test_an_id_that_could_be_mistaken_for_something_else_is_refused(task_id):
    with pytest.raises(InvalidInputError, match="task id"):
        RunGraph().add_task(task_id, one)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda g: g.add_task("a", one).add_task("a", one), InvalidDAGError, "twice"),
        (lambda g: g.add_task("a", one, deps=["b"]), DependencyNotFoundError, "'b'"),
        (
            lambda g: g.add_task("a", one, deps=["b"]).add_task("b", one, deps=["a"]),
            CyclicDependencyError,
            "a -> b -> a",
        ),
        (lambda g: g.add_task("a", one, deps=["a"]), CyclicDependencyError, "a -> a"),
        (lambda g: g.add_task("a"), InvalidInputError, "nothing to do"),
        (lambda g: g.add_task("a", one, prompt="x"), InvalidInputError, "both a prompt and a body"),
        (lambda g: g.add_task("a", prompt="x"), InvalidInputError, "no model"),
        (lambda g: g.add_task("a", one, timeout_ms=-1), InvalidInputError, "timeout_ms"),
        (lambda g: g.add_task("a", one, tier=1), InvalidInputError, "tier is not available"),
        (
            lambda g: g.add_task("b", one).add_task("a", one, for_each=ForEach(task="b")),
            InvalidInputError,
            "for each item of 'b', which is not one of its dependencies",
        ),
        (
            lambda g: g.add_task("b", one).add_task("a", one, deps=["b"], for_each=ForEach(task="b", path="rows")),
            InvalidInputError,
            "'rows', where no task has a value",
        ),
        (
            lambda g: g.add_task("b", one).add_task("a", one, deps=["b"], for_each=ForEach(task="b", as_="b")),
            InvalidInputError,
            "2 values under the name 'b'",
        ),
        (
            lambda g: g.add_task("a", one).add_task("b", one, when=Condition(task="a", op="truthy")),
            InvalidInputError,
            "not one of its dependencies",
        ),
        (
            lambda g: (
                g.add_task("a", one).add_task("b", one, deps=["a.x", "a.y"]).add_task("c", one, deps={"x": "a.x"})
            ),
            None,
            "",
        ),
    ],
)
def test_a_graph_that_cannot_run_is_refused_at_compile(build, error, text):
    graph = RunGraph()
    if error is None:
        build(graph).compile()
        return
    with pytest.raises(error, match=text):
        build(graph).compile()


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(InvalidInputError, match="mode"):
        RunGraph().add_task("a", one).compile(mode="parallel")


def test_a_prompt_variable_that_nothing_supplies_is_refused_before_anything_runs():
    ran = []
    graph = (
        RunGraph(model="extractive")
        .add_task("a", lambda inputs: ran.append(1))
        .add_task("b", prompt="{who}", deps=["a"])
    )
    with pytest.raises(InvalidInputError, match="who"):
        graph.compile().invoke({"inputs": {}})
    assert ran == []


def test_an_input_with_the_name_of_a_dependency_is_refused_O14():
    graph = RunGraph().add_task("a", one).add_task("b", one, deps=["a"])
    with pytest.raises(InvalidInputError, match="'a'"):
        graph.compile().invoke({"inputs": {"a": 1}})


def test_an_item_with_the_name_of_an_input_is_refused_as_soon_as_the_input_is_known():
    def graph(**inputs):
        described = RunGraph(inputs=inputs).add_task("a", one)
        return described.add_task("b", one, deps=["a"], for_each=ForEach(task="a", as_="row"))

    with pytest.raises(InvalidInputError, match="'row' names both a run input"):
        graph(row=1).compile()
    with pytest.raises(InvalidInputError, match="'row' names both a run input"):
        graph().compile().invoke({"inputs": {"row": 1}})


def test_a_prompt_may_use_its_item_and_nothing_that_is_not_supplied():
    def inputs_of(prompt):
        each = TaskSpec(id="b", prompt=prompt, deps=["a"], for_each=ForEach(task="a", as_="row"))
        return spec_of(TaskSpec(id="a", prompt="x"), each).run_inputs({})

    with pytest.raises(InvalidInputError, match=r"\{item\}, which nothing supplies") as caught:
        inputs_of("{row} {item}")
    assert caught.value.hint.endswith("supplied: a, row")
    assert inputs_of("{row} {a}") == {}


def spec_of(*specs):
    definitions = [TaskDefinition(spec, model="extractive") for spec in specs]
    return GraphSpec.checked(name="g", policy=RunPolicy(), definitions=definitions, inputs={})


def hashed(*specs):
    return spec_of(*map(TaskSpec.model_validate, specs))


def test_each_task_has_a_short_hash_of_what_it_is():
    a, b = {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "{a}", "deps": ["a"]}
    before = hashed(a, b)
    assert list(before.task_hashes) == ["a", "b"]
    assert all(re.fullmatch("[0-9a-f]{12}", value) for value in before.task_hashes.values())
    changed = hashed(a, {**b, "prompt": "again {a}"})
    assert changed.task_hashes["a"] == before.task_hashes["a"]
    assert changed.task_hashes["b"] != before.task_hashes["b"]
    assert changed.fingerprint != before.fingerprint
    assert hashed(a).fingerprint != before.fingerprint
    assert hashed({**a, "id": "c"}).fingerprint != hashed(a).fingerprint
    assert hashed(b, a).fingerprint == before.fingerprint, "the order of writing is no difference"


def test_what_may_change_between_a_run_and_its_resume_is_not_in_the_hash():
    a = {"id": "a", "prompt": "x"}
    changes = {
        "model": "openai:gpt-5-mini",
        "priority": 3,
        "expected_seconds": 2.0,
        "metadata": {"note": 1},
        "retry": {"max_attempts": 3},
    }
    assert hashed({**a, **changes}).task_hashes == hashed(a).task_hashes
    assert hashed({**a, "max_output_tokens": 5}).task_hashes != hashed(a).task_hashes


def test_a_dependency_listed_twice_counts_once_A15_Z15():
    seen = []
    graph = RunGraph().add_task("a", one).add_task("b", seen.append, deps=["a", "a"]).compile()
    assert graph.invoke({"inputs": {}})["run"].dag.nodes["b"].deps == ["a"]
    assert seen == [{"a": 1}]


def test_a_chain_of_many_tasks_compiles_without_recursion():
    graph = RunGraph()
    for number in range(5_000):
        graph.add_task(f"t{number}", one, deps=[f"t{number - 1}"] if number else [])
    assert len(graph.compile().get_graph().nodes) == 5_002


def test_a_graph_is_read_from_a_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "inputs: {topic: dogs}\nmodel: extractive\ntasks:\n"
        '  - {id: a, prompt: "Question: what do {topic} do? Dogs bark at night and guard the house well."}\n'
        "  - {id: b, run: 'operator:itemgetter', deps: [a]}\n"
    )
    with pytest.raises(InvalidInputError, match="Python code"):
        RunGraph.from_file(path)
    with pytest.raises(InvalidInputError, match="module"):
        RunGraph.from_run_file(RunFile.parse({"tasks": [{"id": "a", "run": "nosuchmodule:x"}]}), allow_code=True)
    graph = RunGraph.from_file(path, allow_code=True).compile(raise_on_failure=False)
    assert graph.invoke({"inputs": {}})["results"]["a"].output.startswith("Dogs bark")


@pytest.mark.parametrize("name", ["gpt", "nosuchprovider:model", ":x", "openai:"])
def test_a_name_that_is_no_model_is_refused(name):
    with pytest.raises(UnknownModelError):
        open_model(name)


def test_a_missing_key_is_named():
    with pytest.raises(InvalidInputError, match="could not be opened") as caught:
        open_model("openai:gpt-5-mini")
    assert "openai" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "op", "value", "expected"),
    [
        ("output.risk", "gt", 0.5, True),
        ("output.risk", "lt", 0.5, False),
        ("output.tags", "contains", "a", True),
        ("output.tags.1", "eq", "b", True),
        ("output.tags.9", "eq", "b", False),
        ("output.tags.x", "exists", None, False),
        ("outputs.title", "in", ["T", "U"], True),
        ("outputs.title", "matches", "^t", False),
        ("outputs.title", "ne", "T", False),
        ("outputs.title.deeper", "exists", None, False),
        ("output.missing", "truthy", None, False),
        ("output", "truthy", None, True),
        ("state", "exists", None, False),
        ("output.risk", "ge", 0.9, True),
        ("output.risk", "le", 0.9, True),
    ],
)
def test_a_condition_compares_a_value_in_a_result(path, op, value, expected):
    outcome = TaskOutcome(
        task="a", state=TaskState.COMPLETED, output={"risk": 0.9, "tags": ["a", "b"]}, outputs={"title": "T"}
    )
    assert holds(Condition(task="a", path=path, op=op, value=value), {"a": outcome}) is expected


def test_values_that_cannot_be_compared_are_an_error():
    outcome = TaskOutcome(task="a", state=TaskState.COMPLETED, output="text")
    with pytest.raises(InvalidInputError, match="cannot apply 'lt'"):
        holds(Condition(task="a", op="lt", value=3), {"a": outcome})


def test_a_compiled_graph_can_be_configured_and_copied():
    graph = RunGraph(name="brief").add_task("a", one).compile(checkpointer=InMemorySaver())
    copied = graph.with_config({"tags": ["x"]})
    assert copied.invoke({"inputs": {}}, {"configurable": {"thread_id": "t"}})["results"]["a"].output == 1
    assert copied.get_name() == "brief"
    assert set(graph.get_input_jsonschema()["properties"]) == {"inputs"}
    assert set(graph.get_output_jsonschema()["properties"]) == {"results", "run"}
