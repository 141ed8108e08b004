"""Run files and the task specs in them: what authors may write, and what they are told when it is wrong."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from langchain_runtime.contracts.errors import InvalidDAGError, InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import CacheSpec
from langchain_runtime.contracts.run_file import RunFile, run_file_schema
from langchain_runtime.contracts.task_spec import Dependency, TaskSpec

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

RICH = """
version: 1
name: weekly
model: openai:gpt-5-mini
inputs: {team: Platform, days: [1, 2]}
policy:
  budget_limit: {amount: "0.50", currency: EUR}
  retry: {max_attempts: 3}
  per_model: {"openai:gpt-5-mini": {rpm: 60}}
  context: {strategy: truncate, truncate_to: 500}
tasks:
  - {id: notes, prompt: "Notes of {team}"}
  - {id: topics, prompt: "Topics in {text}", deps: {text: notes.summary}, tier: 2}
  - id: section
    prompt: "Write about {topic}"
    deps: [topics, notes]
    for_each: {task: topics, path: outputs.list, as: topic}
    when: {task: notes, op: truthy}
    context: {strategy: [truncate, offload]}
    retry: {initial_interval_ms: 5}
    response_format: {type: object}
  - {id: numbers, run: "pack:compute", metadata: {owner: me}}
"""


def one_task(**fields):
    return {"tasks": [{"id": "a", "prompt": "x", **fields}]}


def refusal(data, error=InvalidInputError):
    with pytest.raises(error) as caught:
        RunFile.parse(data, source="weekly.yaml")
    return caught.value


def schema_accepts(data):
    return Draft202012Validator(run_file_schema()).is_valid(data)


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_a_rich_run_file_is_read():
    run = RunFile.parse(yaml.safe_load(RICH))
    topics, section = run.tasks[1:3]
    assert run.policy.budget_limit == Cost("0.5", "EUR")
    assert topics.deps == (Dependency(alias="text", task="notes.summary"),)
    assert section.deps == (Dependency(alias="topics", task="topics"), Dependency(alias="notes", task="notes"))
    assert (section.for_each.as_, section.for_each.path) == ("topic", "outputs.list")
    assert (run.policy.context.strategy, section.context.strategy) == (("truncate",), ("truncate", "offload"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid_for_us_and_for_editors(path):
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert RunFile.parse(data).tasks
    assert schema_accepts(data)


def test_the_schema_is_valid_and_describes_what_is_accepted():
    schema = run_file_schema()
    Draft202012Validator.check_schema(schema)
    assert schema_accepts(yaml.safe_load(RICH))
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"tasks": []},
        one_task(promt="x"),
        one_task(tier=4),
        one_task(deps=[7]),
        one_task(context={"strategy": "magic"}),
        one_task(context={"strategy": []}),
        {**one_task(), "version": 2},
        {**one_task(), "policy": {"max_parallelism": 0}},
        {**one_task(), "policy": {"budget_limit": {"amount": 0.5}}},
        {**one_task(), "policy": {"budget_limit": {"amount": "-1"}}},
        {**one_task(), "policy": {"budget_limit": {"amount": "0.0000000001"}}},
    ],
    ids=str,
)
def test_editors_are_told_by_the_schema_what_we_refuse(data):
    refusal(data)
    assert not schema_accepts(data)


# --- what is refused, and how -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "place", "nearest"),
    [
        ({**one_task(), "taks": 1}, "taks", "tasks"),
        (one_task(promt="x"), "tasks.a.promt", "prompt"),
        (one_task(when={"task": "b", "op": "eq", "vlaue": 1}), "tasks.a.when.vlaue", "value"),
        (one_task(context={"stratgy": "x"}), "tasks.a.context.stratgy", "strategy"),
        ({**one_task(), "policy": {"buget_limit": 1}}, "policy.buget_limit", "budget_limit"),
        ({**one_task(), "policy": {"retry": {"max_atempts": 1}}}, "policy.retry.max_atempts", "max_attempts"),
        ({**one_task(), "policy": {"per_model": {"m": {"rmp": 1}}}}, "policy.per_model.m.rmp", "rpm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_valid_one(data, place, nearest):
    error = refusal(data)
    assert str(error) == f"weekly.yaml: {place}: unknown key {place.rpartition('.')[2]!r}"
    assert error.hint == f"did you mean {nearest!r}?"


@pytest.mark.parametrize(
    "data",
    [one_task(zzzz=1), one_task(deps=[{"alias": "x", "task": "b", "zzzz": 1}])],
    ids=["no key is near", "no key is described"],
)
def test_an_unknown_key_without_a_neighbour_points_to_the_format(data):
    error = refusal(data)
    assert "unknown key 'zzzz'" in str(error)
    assert "lcr schema" in error.hint


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(None, r"weekly\.yaml: Input should be a valid dictionary", id="empty file"),
        pytest.param(["a"], r"weekly\.yaml: Input should be a valid dictionary", id="list"),
        pytest.param({}, r"weekly\.yaml: tasks: Field required", id="no tasks"),
        pytest.param({"tasks": []}, r"weekly\.yaml: tasks: .*at least 1", id="no task"),
        pytest.param({"tasks": ["a"]}, r"weekly\.yaml: tasks\.0: ", id="task without keys"),
        pytest.param({"tasks": [{"prompt": "x"}]}, r"weekly\.yaml: tasks\.0\.id: Field required", id="task without id"),
        pytest.param(one_task(deps="b"), r"weekly\.yaml: tasks\.a\.deps: ", id="deps as a word"),
        pytest.param(one_task(timeout_ms=-1), r"weekly\.yaml: tasks\.a\.timeout_ms: .*greater than 0", id="timeout"),
        pytest.param({**one_task(), "version": 2}, r"weekly\.yaml: version: Input should be 1", id="version"),
        pytest.param({**one_task(), 5: 1}, r"weekly\.yaml: 5: Keys should be strings", id="number as a key"),
        pytest.param(one_task(run="m:a"), "task 'a' has both a prompt and a body", id="two bodies"),
        pytest.param(one_task(id="driver"), "'driver' is not a valid task id", id="reserved id"),
        pytest.param(one_task(id="a#0"), "'a#0' is not a valid task id", id="id of a child"),
        pytest.param(one_task(id=7), "7 is not a valid task id", id="number as an id"),
        pytest.param(one_task(deps={"x": 5}), "5 is not a valid task id", id="number as a dependency"),
        pytest.param(one_task(context={"strategy": []}), "at least one strategy", id="no strategy"),
        pytest.param({**one_task(), "policy": {"budget_limit": {"amount": 0.5}}}, "must not be a float", id="float"),
        pytest.param({**one_task(), "policy": {"budget_limit": {"amount": "0"}}}, "must be positive", id="no money"),
    ],
)
def test_a_mistake_is_refused_where_it_stands_and_with_what_to_do(data, complaint):
    error = refusal(data)
    assert error.hint
    with pytest.raises(InvalidInputError, match=complaint):
        raise error


def test_a_task_id_that_occurs_twice_is_refused_A14():
    error = refusal({"tasks": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}, InvalidDAGError)
    assert "'a' occurs twice" in str(error)
    assert error.hint


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "known", "resolved"),
    [
        ("a", {"a"}, ("a", "a", None)),
        ("a.out", {"a"}, ("out", "a", "out")),
        ("a.out", {"a", "a.out"}, ("a.out", "a.out", None)),
        ("a.b.out", {"a", "a.b"}, ("out", "a.b", "out")),
        ("a.out", {"b"}, ("a.out", "a.out", None)),
        ("missing", {"a"}, ("missing", "missing", None)),
    ],
)
def test_a_reference_is_a_task_or_one_of_its_outputs(reference, known, resolved):
    found = Dependency.parse(reference).resolved(known)
    assert (found.alias, found.task, found.output) == resolved
    assert found.resolved(known) == found


def test_a_chosen_alias_stays():
    assert Dependency.parse("a.out", alias="x").resolved({"a"}) == Dependency(alias="x", task="a", output="out")


def test_dependencies_may_be_given_as_records():
    dependency = Dependency(alias="x", task="a", output="out")
    assert TaskSpec(id="t", deps=[dependency]).deps == (dependency,)


def test_the_item_of_a_loop_may_be_named_by_either_key():
    named = TaskSpec(id="t", for_each={"task": "a", "as": "row"})
    assert named == TaskSpec(id="t", for_each={"task": "a", "as_": "row"})


@pytest.mark.parametrize(
    ("written", "read"), [(True, CacheSpec()), (False, None), ({"ttl_seconds": 60}, CacheSpec(ttl_seconds=60))]
)
def test_a_cache_is_written_as_yes_or_with_the_age_of_its_results(written, read):
    data = {"tasks": [{"id": "a", "prompt": "hello", "cache": written}]}
    assert RunFile.parse(data).tasks[0].cache == read
    assert Draft202012Validator(run_file_schema()).is_valid(data)
