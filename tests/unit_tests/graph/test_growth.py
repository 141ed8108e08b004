"""Tasks made at run time, as they follow from outcomes: made live, made again on a resume, and only looked at."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from langchain_runtime.backends import as_body
from langchain_runtime.chat_models import ExtractiveChatModel
from langchain_runtime.contracts.errors import InvalidDAGError, InvalidInputError, TaskNotFoundError, UnknownModelError
from langchain_runtime.contracts.run import (
    EnqueuedTask,
    RetrySpec,
    RunHeader,
    RunPolicy,
    RunState,
    TaskError,
    TaskOutcome,
    TaskState,
)
from langchain_runtime.contracts.task_spec import Condition, ForEach, TaskSpec
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.graph import made_tasks
from langchain_runtime.graph.growth import Growth, RunTasks
from langchain_runtime.graph.models import check_model_name
from langchain_runtime.graph.run_view import assemble_run, finish
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.orchestration import NewTask

HEADER = RunHeader(run_id="r", state=RunState.RUNNING, spec_hash="x")
FAILED = TaskError(code="task_failed", message="boom")


def task(task_id, *, model=None, chat_model=None, body=None, **spec):
    if "prompt" not in spec and body is None:
        body = as_body(lambda inputs: 1)
    elif body is None:
        model = model or "extractive"
    return TaskDefinition(TaskSpec(id=task_id, **spec), body=body, model=model, chat_model=chat_model)


def graph(*definitions, inputs=(), **settings):
    return GraphSpec.checked(
        name="g", policy=RunPolicy(), definitions=definitions, inputs=dict.fromkeys(inputs, ""), **settings
    )


def mapping(**of_map):
    """A list, a task for each of its items, and one task after those."""
    return graph(
        task("list"),
        task("map", deps=["list"], for_each=ForEach(task="list"), **of_map),
        task("after", deps=["map"]),
    )


def done(task_id, output=None, **facts):
    return TaskOutcome(task=task_id, state=TaskState.COMPLETED, output=output, **facts)


def ended(task_id, state):
    return TaskOutcome(task=task_id, state=state, error=FAILED if state is TaskState.FAILED else None)


def by_id(*outcomes):
    return {outcome.task: outcome for outcome in outcomes}


# --- for_each --------------------------------------------------------------------------------------------------------


def test_each_item_gets_a_child_that_is_as_the_task_with_one_more_input():
    spec = mapping(retry=RetrySpec(max_attempts=3), timeout_ms=5, when=Condition(task="list", op="truthy"))
    tasks = RunTasks(spec)
    new = tasks.expand("map", by_id(done("list", ["x", {"y": None}])))
    assert new == [NewTask(task_id, deps=("list",), retry=RetrySpec(max_attempts=3)) for task_id in ("map#0", "map#1")]
    first, second = (tasks.definition(each.task_id) for each in new)
    assert (first.inputs, second.inputs) == ({"item": "x"}, {"item": {"y": None}})
    assert first.body is spec.tasks["map"].body
    assert first.spec == spec.tasks["map"].spec.model_copy(update={"id": "map#0", "for_each": None, "when": None})
    assert tasks.origin("map#1") == tasks.whose_body("map#1") == "map"
    assert tasks.members("map") == ("map", "map#0", "map#1")
    assert "map#1" in tasks
    assert "map#2" not in tasks
    assert tasks.is_expanded("map")
    assert not tasks.is_expanded("after")


def test_a_task_waits_for_its_children_and_what_comes_after_it_waits_for_the_task():
    tasks = RunTasks(mapping())
    tasks.expand("map", by_id(done("list", [1, 2])))
    assert tasks.deps_of("map") == ("list", "map#0", "map#1")
    assert tasks.deps_of("map#1") == ("list",)
    assert tasks.next_of("list") == ("map", "map#0", "map#1")
    assert tasks.next_of("map#0") == ("map",)
    assert tasks.next_of("map") == ("after",)


@pytest.mark.parametrize(
    ("source", "list_outcome", "items"),
    [
        (ForEach(task="list"), done("list", [1]), [1]),
        (ForEach(task="list", path="output.deep.0"), done("list", {"deep": [[1, 2]]}), [1, 2]),
        (ForEach(task="list", path="outputs.names"), done("list", 5, outputs={"names": ["a"]}), ["a"]),
        (ForEach(task="list"), done("list", []), []),
    ],
)
def test_the_list_may_be_anywhere_in_the_result(source, list_outcome, items):
    tasks = RunTasks(graph(task("list"), task("map", deps=["list"], for_each=source)))
    children = tasks.expand("map", by_id(list_outcome))
    assert [tasks.definition(child.task_id).inputs["item"] for child in children] == items
    assert tasks.is_expanded("map")


@pytest.mark.parametrize(
    ("path", "list_outcome", "found"),
    [
        ("output", done("list", None), "no list but null"),
        ("output", done("list", True), "no list but true"),
        ("output", done("list", "a, b" * 99), "no list but the text 'a, ba, b"),
        ("output", done("list", {"a": 1, "b": 2}), "no list but a mapping with the keys a, b"),
        ("output", done("list", {}), "no list but an empty mapping"),
        ("output.rows", done("list", {"row": [1]}), "no value: 'output' is a mapping with the keys row"),
        ("output.a.b.c", done("list", {"a": [1, 2]}), "no value: 'output.a' is a list of 2 items"),
        ("outputs.rows", done("list", [1]), "no value: 'outputs' is an empty mapping"),
    ],
)
def test_what_is_no_list_is_an_error_that_names_the_task_the_path_and_what_is_there(path, list_outcome, found):
    tasks = RunTasks(graph(task("list"), task("map", deps=["list"], for_each=ForEach(task="list", path=path))))
    with pytest.raises(InvalidInputError) as caught:
        tasks.expand("map", by_id(list_outcome))
    assert f"task 'map' runs for each item of {path!r} of task 'list'" in str(caught.value)
    assert found in str(caught.value)
    assert not tasks.is_expanded("map")
    assert len(str(caught.value)) < 300


def test_a_list_that_is_too_long_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(made_tasks, "MOST_CHILDREN", 1_000)
    with pytest.raises(InvalidInputError, match="1,001 items; 1,000 are the most"):
        RunTasks(mapping()).expand("map", by_id(done("list", [0] * 1_001)))


def test_children_of_a_prompt_see_their_item_instead_of_the_whole_list():
    definitions = {
        "silent": task("silent", prompt="Do it.", deps=["list"], for_each=ForEach(task="list")),
        "named": task("named", prompt="{item} of {list}", deps=["list"], for_each=ForEach(task="list")),
        "other": task(
            "other", prompt="{item}", deps=["list", "list.n"], for_each=ForEach(task="list", path="outputs.n")
        ),
    }
    tasks = RunTasks(graph(task("list"), *definitions.values()))
    outcomes = by_id(done("list", [1], outputs={"n": [2]}))
    aliases = {
        task_id: [dep.alias for dep in tasks.definition(child.task_id).spec.deps]
        for task_id in definitions
        for child in tasks.expand(task_id, outcomes)
    }
    assert aliases == {"silent": [], "named": ["list"], "other": ["list"]}
    assert tasks.deps_of("silent#0") == ("list",)


def test_a_childs_model_is_that_of_the_task_it_comes_from():
    chat = ExtractiveChatModel()
    spec = mapping(prompt="{item}", model="extractive", chat_model=chat)
    tasks = RunTasks(spec)
    [new] = tasks.expand("map", by_id(done("list", [1])))
    assert new.model == "extractive"
    assert tasks.definition("map#0").chat_model is chat


def test_what_the_children_made_is_gathered_in_order():
    tasks = RunTasks(mapping())
    usage = Usage(tokens=TokenUsage(input=7))
    outcomes = by_id(
        done("list", [1, 2]),
        done("map#1", "b", outputs={"only": 1, "n": 2}, usage=usage),
        done("map#0", "a", outputs={"n": 1, "title": "A"}, usage=usage),
    )
    tasks.expand("map", outcomes)
    gathered = tasks.gather("map", outcomes)
    assert (gathered.task, gathered.state) == ("map", TaskState.COMPLETED)
    assert gathered.output == ["a", "b"]
    assert gathered.outputs == {"n": [1, 2]}
    assert gathered.usage == Usage()
    assert gathered.started_at == gathered.ended_at is not None


def test_an_empty_list_gives_an_empty_list():
    tasks = RunTasks(mapping())
    assert tasks.expand("map", by_id(done("list", []))) == []
    assert tasks.gather("map", {}).output == []


def test_children_that_ended_before_the_resume_join_as_they_ended():
    tasks = RunTasks(mapping())
    outcomes = by_id(done("list", [1, 2, 3]), done("map#0", 1), ended("map#2", TaskState.FAILED))
    assert tasks.restore(outcomes) == []
    assert [child.state for child in tasks.expand("map", outcomes)] == [
        TaskState.COMPLETED,
        TaskState.PENDING,
        TaskState.FAILED,
    ]


def test_a_task_that_asks_a_human_joins_as_pending():
    tasks = RunTasks(mapping())
    outcomes = by_id(done("list", [1]), ended("map#0", TaskState.READY))
    assert [child.state for child in tasks.expand("map", outcomes)] == [TaskState.PENDING]


# --- enqueued tasks --------------------------------------------------------------------------------------------------


def adding(*enqueued, by="a", **facts):
    return done(by, "made", enqueued=list(enqueued), **facts)


def test_an_enqueued_prompt_waits_for_the_task_that_added_it_and_receives_what_it_asked_for():
    tasks = RunTasks(graph(task("a"), task("b"), model="extractive"))
    added = EnqueuedTask(
        id="new",
        prompt="{text} {x}",
        deps={"text": "b.title", "self": "a"},
        inputs={"x": 1},
        max_output_tokens=9,
        timeout_ms=8,
    )
    assert tasks.enqueue(adding(added), {}) == [NewTask("new", deps=("a", "b"), model="extractive")]
    definition = tasks.definition("new")
    assert [(dep.alias, dep.task, dep.output) for dep in definition.spec.deps] == [
        ("text", "b", "title"),
        ("self", "a", None),
    ]
    assert (definition.inputs, definition.spec.max_output_tokens, definition.spec.timeout_ms) == ({"x": 1}, 9, 8)
    assert (tasks.origin("new"), tasks.whose_body("new")) == ("a", None)
    assert (tasks.origin("b"), tasks.whose_body("b"), tasks.members("b")) == ("b", "b", ("b",))
    assert (tasks.next_of("a"), tasks.next_of("b"), tasks.next_of("new")) == (("new",), ("new",), ())


def test_a_task_like_another_takes_over_everything_but_what_it_waits_for():
    like = task(
        "worker",
        prompt="{item}",
        deps=["a"],
        for_each=ForEach(task="a"),
        when=Condition(task="a", op="truthy"),
        retry=RetrySpec(max_attempts=2),
        max_output_tokens=50,
        timeout_ms=60,
        priority=3,
        metadata={"note": 1},
        chat_model=ExtractiveChatModel(),
    )
    tasks = RunTasks(graph(task("a"), like))
    [new] = tasks.enqueue(adding(EnqueuedTask(id="new", like="worker", inputs={"item": 1}, timeout_ms=70)), {})
    assert new == NewTask("new", deps=("a",), model="extractive", retry=RetrySpec(max_attempts=2))
    definition = tasks.definition("new")
    assert definition.spec == like.spec.model_copy(
        update={"id": "new", "deps": (), "for_each": None, "when": None, "priority": 0, "timeout_ms": 70}
    )
    assert definition.chat_model is like.chat_model
    assert (tasks.origin("new"), tasks.whose_body("new")) == ("a", "worker")


def test_another_model_is_opened_by_name_and_the_same_one_is_kept():
    chat = ExtractiveChatModel()
    tasks = RunTasks(graph(task("a"), model="extractive", chat_model=chat))
    tasks.enqueue(
        adding(
            EnqueuedTask(id="same", prompt="x", model="extractive"),
            EnqueuedTask(id="other", prompt="x", model="openai:gpt-5-mini"),
        ),
        {},
    )
    assert tasks.definition("same").chat_model is chat
    other = tasks.definition("other")
    assert (other.model, other.chat_model) == ("openai:gpt-5-mini", None)


def test_a_body_that_is_no_prompt_has_no_model():
    tasks = RunTasks(graph(task("a")))
    [new] = tasks.enqueue(adding(EnqueuedTask(id="new", like="a", model="openai:gpt-5-mini")), {})
    assert new.model is tasks.definition("new").model is None


def test_the_urgent_ones_of_what_a_body_added_come_first():
    tasks = RunTasks(graph(task("a")))
    added = [EnqueuedTask(id=f"t{number}", like="a", priority=number % 2) for number in range(4)]
    assert [new.task_id for new in tasks.enqueue(adding(*added), {})] == ["t1", "t3", "t0", "t2"]


@pytest.mark.parametrize(
    ("added", "code", "text"),
    [
        ([EnqueuedTask(id="b", like="a")], "invalid_dag", "the graph has a task of that id"),
        ([EnqueuedTask(id="n", like="nobody")], "task_not_found", "is like 'nobody', which the graph does not have"),
        ([EnqueuedTask(id="n", like="bb")], "task_not_found", "did you mean 'b'?"),
        (
            [EnqueuedTask(id="n", like="a", deps={"x": "nobody"})],
            "dependency_not_found",
            "depends on 'nobody', which is neither in the graph nor added by the same body",
        ),
        (
            [EnqueuedTask(id="n", like="a", deps={"m": "m"}), EnqueuedTask(id="m", like="a", deps={"n": "n"})],
            "cyclic_dependency",
            "n -> m -> n",
        ),
        ([EnqueuedTask(id="n", like="a", deps={"n": "n"})], "cyclic_dependency", "n -> n"),
        ([EnqueuedTask(id="n", prompt="x")], "invalid_input", "a prompt but no model"),
        ([EnqueuedTask(id="n", prompt="{who}", model="extractive")], "invalid_input", "{who}, which nothing supplies"),
        ([EnqueuedTask(id="n", like="each")], "invalid_input", "{item}, which nothing supplies"),
        (
            [EnqueuedTask(id="n", like="a", deps={"topic": "b"})],
            "invalid_input",
            "'topic' names both a run input and something the task receives",
        ),
        ([EnqueuedTask(id="n", prompt="x", model="gpt")], "unknown_model", "'gpt' is not a model"),
    ],
)
def test_what_the_run_cannot_take_fails_the_task_that_added_it(added, code, text):
    spec = graph(task("a"), task("b"), task("each", prompt="{item}", deps=["a"], for_each=ForEach(task="a")))
    tasks = RunTasks(spec, inputs=["topic"], check_model=lambda definition: check_model_name(definition.model))
    outcome = adding(*added, usage=Usage(tokens=TokenUsage(input=3)), outputs={"o": 1}, attempts=2)
    refused = tasks.accept(outcome)
    assert refused.state is TaskState.FAILED
    assert (refused.error.code, refused.error.retryable) == (code, False)
    assert text in refused.error.message
    assert (refused.output, refused.outputs, refused.enqueued) == (None, {}, [])
    assert (refused.usage, refused.attempts) == (outcome.usage, 2)
    assert "n" not in tasks


def test_what_the_run_can_take_is_left_as_it_is():
    tasks = RunTasks(graph(task("a"), task("b"), model="extractive"), inputs=["topic"])
    plain = done("b", 1)
    assert tasks.accept(plain) is plain
    outcome = adding(
        EnqueuedTask(id="n", prompt="{topic} {x} {late}", inputs={"x": 1, "topic": 2}, deps={"late": "m"}),
        EnqueuedTask(id="m", like="b", deps={"b": "b", "a": "a"}),
    )
    assert tasks.accept(outcome) is outcome


def test_of_two_bodies_that_choose_one_id_the_second_fails():
    tasks = RunTasks(graph(task("a"), task("b")))
    added = EnqueuedTask(id="n", like="a")
    assert tasks.accept(adding(added)).state is TaskState.COMPLETED
    refused = tasks.accept(adding(added, by="b"))
    assert refused.state is TaskState.FAILED
    assert "'a' has added one of that id" in refused.error.message
    assert tasks.accept(adding(added)).state is TaskState.COMPLETED, "another attempt of the first one may"


def test_an_id_stays_taken_after_a_resume_even_before_the_task_has_joined_again():
    tasks = RunTasks(graph(task("list"), task("map", deps=["list"], for_each=ForEach(task="list")), task("b")))
    outcomes = by_id(done("list", [1]), adding(EnqueuedTask(id="n", like="b"), by="map#0"))
    tasks.restore(outcomes)
    assert "n" not in tasks
    assert tasks.accept(adding(EnqueuedTask(id="n", like="b"), by="b")).state is TaskState.FAILED


# --- growing again ---------------------------------------------------------------------------------------------------


def test_what_had_joined_joins_again_parents_first():
    tasks = RunTasks(mapping())
    outcomes = by_id(
        done("list", [1, 2]),
        adding(EnqueuedTask(id="one", like="list"), by="map#0"),
        adding(EnqueuedTask(id="two", like="list"), by="one"),
        done("map#1", 2),
        done("map", [1, 2]),
    )
    assert tasks.restore(outcomes) == [
        Growth(
            "map",
            (
                NewTask("map#0", deps=("list",), state=TaskState.COMPLETED),
                NewTask("map#1", deps=("list",), state=TaskState.COMPLETED),
            ),
        ),
        Growth("map#0", (NewTask("one", deps=("map#0",), state=TaskState.COMPLETED),)),
        Growth("one", (NewTask("two", deps=("one",)),)),
    ]
    assert tasks.members("map") == ("map", "map#0", "map#1", "one", "two")
    assert tasks.origin("two") == "map"


def test_what_the_children_of_an_unfinished_task_had_added_joins_after_them():
    tasks = RunTasks(mapping())
    outcomes = by_id(done("list", [1, 2]), adding(EnqueuedTask(id="one", like="list"), by="map#0"))
    assert tasks.restore(outcomes) == []
    children = tasks.expand("map", outcomes)
    assert tasks.grown_by([child.task_id for child in children], outcomes) == [
        Growth("map#0", (NewTask("one", deps=("map#0",)),))
    ]


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.SKIPPED])
def test_the_children_that_a_failed_task_left_undone_are_still_to_be_done(state):
    tasks = RunTasks(mapping())
    outcomes = by_id(done("list", [1, 2]), ended("map#0", TaskState.FAILED), ended("map", state))
    [growth] = tasks.restore(outcomes)
    assert [child.state for child in growth.tasks] == [TaskState.FAILED, TaskState.PENDING]


@pytest.mark.parametrize(
    "outcomes",
    [
        by_id(done("list", [1, 2]), ended("map", TaskState.FAILED)),
        by_id(done("list", "no list"), ended("map", TaskState.FAILED)),
        by_id(done("list", [1, 2]), done("map", "written by hand")),
        by_id(done("map", "written by hand")),
    ],
    ids=["never expanded", "no list", "an outcome by hand", "no list yet"],
)
def test_a_task_that_ended_without_children_has_none(outcomes):
    tasks = RunTasks(mapping())
    assert tasks.restore(outcomes) == []
    assert "map#0" not in tasks


def test_a_resume_asks_whether_the_models_of_open_prompts_can_be_called():
    asked = []

    def check(definition):
        asked.append(definition.spec.id)
        raise UnknownModelError("no", model=definition.model)

    tasks = RunTasks(graph(task("a"), model="extractive"), check_model=check)
    outcomes = by_id(
        adding(
            EnqueuedTask(id="over", prompt="x"), EnqueuedTask(id="body", like="a"), EnqueuedTask(id="open", prompt="x")
        ),
        done("over"),
    )
    with pytest.raises(UnknownModelError):
        tasks.restore(outcomes)
    assert asked == ["open"]


def test_a_resume_with_a_graph_that_lacks_a_task_says_so_and_a_look_at_the_run_leaves_it_out():
    outcomes = by_id(adding(EnqueuedTask(id="n", like="gone")), done("n", 1))
    with pytest.raises(TaskNotFoundError, match="'gone'"):
        RunTasks(graph(task("a"))).restore(outcomes)
    assert set(assemble_run(graph(task("a")), HEADER, outcomes).tasks) == {"a"}
    clashing = by_id(adding(EnqueuedTask(id="b", like="a")))
    with pytest.raises(InvalidDAGError, match="'b'"):
        RunTasks(graph(task("a"), task("b"))).restore(clashing)


def test_thousands_of_tasks_that_each_add_one_are_restored_without_recursion():
    count = 3_000
    outcomes = by_id(
        *(adding(EnqueuedTask(id=f"t{number + 1}", like="t0"), by=f"t{number}") for number in range(count))
    )
    tasks = RunTasks(graph(task("t0")))
    assert len(tasks.restore(outcomes)) == count
    assert tasks.deps_of(f"t{count}") == (f"t{count - 1}",)


STATIC = ("list", "map", "again", "after")


@st.composite
def additions(draw, by, number):
    """What a body might add: nothing mostly; else tasks of either kind that wait for one another and for the graph."""
    ids = [f"{by.replace('#', '-')}.{number}.{index}" for index in range(draw(st.integers(0, 2)))]
    return [
        EnqueuedTask(
            id=task_id,
            **({"like": draw(st.sampled_from(STATIC))} if draw(st.booleans()) else {"prompt": "{list}"}),
            deps={name: name for name in draw(st.lists(st.sampled_from([*STATIC, by, *ids[:index]]), max_size=2))},
            inputs={"item": draw(st.integers())},
            priority=draw(st.integers(0, 2)),
        )
        for index, task_id in enumerate(ids)
    ]


@given(st.data())
def test_growth_is_the_same_again_from_the_outcomes_alone(data):
    spec = graph(
        task("list"),
        task("map", deps=["list"], for_each=ForEach(task="list")),
        task("again", prompt="{item}", deps=["map"], for_each=ForEach(task="map")),
        task("after", deps=["again", "list"]),
        model="extractive",
    )
    live, outcomes, present = RunTasks(spec), {}, list(STATIC)
    for number in range(data.draw(st.integers(0, 20))):
        ready = [
            task_id
            for task_id in present
            if task_id not in outcomes and all(dep in outcomes for dep in live.deps_of(task_id))
        ]
        if not ready:
            break
        chosen = data.draw(st.sampled_from(ready))
        if live.definition(chosen).spec.for_each is None:
            outcome = adding(*data.draw(additions(chosen, number)), by=chosen)
            outcome = outcome.model_copy(update={"output": data.draw(st.lists(st.integers(), max_size=3))})
            present += [new.task_id for new in live.enqueue(outcome, outcomes)]
            outcomes[chosen] = outcome
        elif live.is_expanded(chosen):
            outcomes[chosen] = live.gather(chosen, outcomes)
        else:
            present += [new.task_id for new in live.expand(chosen, outcomes)]

    restored = RunTasks(spec)
    growths = restored.restore(dict(data.draw(st.permutations(list(outcomes.items())))))
    for task_id in ("map", "again"):
        if live.is_expanded(task_id) and task_id not in outcomes:
            children = restored.expand(task_id, outcomes)
            growths += [Growth(task_id, tuple(children))]
            growths += restored.grown_by([child.task_id for child in children], outcomes)
    joined = [new for growth in growths for new in growth.tasks]
    assert {*STATIC, *(new.task_id for new in joined)} == set(present)
    assert len(joined) == len(present) - len(STATIC)
    for task_id in present:
        assert restored.definition(task_id) == live.definition(task_id)
        assert restored.origin(task_id) == live.origin(task_id)
        assert restored.whose_body(task_id) == live.whose_body(task_id)
        assert set(restored.members(task_id)) == set(live.members(task_id))
        assert restored.deps_of(task_id) == live.deps_of(task_id)
        assert set(restored.next_of(task_id)) == set(live.next_of(task_id))
    for new in joined:
        assert new.state is (TaskState.COMPLETED if new.task_id in outcomes else TaskState.PENDING)

    run = assemble_run(spec, HEADER, outcomes)
    assert set(present) <= set(run.tasks)
    assert {task_id for task_id, each in run.tasks.items() if each.state is TaskState.COMPLETED} == set(outcomes)


# --- the run, looked at ----------------------------------------------------------------------------------------------


def test_a_run_shows_its_children_and_what_was_added():
    outcomes = by_id(
        done("list", ["x", "y"]),
        adding(EnqueuedTask(id="one", like="list", inputs={"k": 1}), by="map#0"),
    )
    run = assemble_run(mapping(), HEADER, outcomes)
    assert list(run.tasks) == ["list", "map", "after", "map#0", "map#1", "one"]
    assert {task_id: str(each.state) for task_id, each in run.tasks.items()} == {
        "list": "completed",
        "map": "pending",
        "after": "pending",
        "map#0": "completed",
        "map#1": "pending",
        "one": "pending",
    }
    assert run.tasks["map#1"].inputs.inputs == {"item": "y"}
    assert run.tasks["one"].inputs.inputs == {"k": 1}
    assert run.tasks["map#0"].outputs.output == "made"
    assert run.tasks["map"].deps == ["list", "map#0", "map#1"]
    nodes = run.dag.nodes
    assert nodes["map"].pending == 1
    assert nodes["map#0"].next == ["map", "one"]
    assert run.dag.edges["list"] == ["map", "map#0", "map#1"]
    assert (nodes["one"].deps, nodes["one"].pending) == (["map#0"], 0)


@pytest.mark.parametrize(
    ("when", "outcomes"),
    [
        (None, by_id()),
        (None, by_id(ended("list", TaskState.FAILED))),
        (None, by_id(done("list", "no list"))),
        (Condition(task="list", path="output.0", op="gt", value=5), by_id(done("list", [1]))),
        (Condition(task="list", path="output.0", op="gt", value="text"), by_id(done("list", [1]))),
    ],
    ids=["not yet", "failed before it", "no list", "condition does not hold", "condition cannot be judged"],
)
def test_a_run_shows_no_children_that_will_not_be(when, outcomes):
    spec = graph(task("list"), task("map", deps=["list"], for_each=ForEach(task="list"), when=when))
    assert set(assemble_run(spec, HEADER, outcomes).tasks) == {"list", "map"}


def test_a_run_shows_the_children_of_a_task_that_failed_or_completed():
    failed = by_id(done("list", [1, 2]), ended("map#0", TaskState.FAILED), ended("map", TaskState.SKIPPED))
    assert assemble_run(mapping(), HEADER, failed).tasks["map#1"].state is TaskState.PENDING
    completed = by_id(done("list", [1]), done("map#0", 1), done("map", [1]))
    run = assemble_run(mapping(), HEADER, completed)
    assert run.tasks["map#0"].state is TaskState.COMPLETED
    assert run.dag.nodes["map"].pending == 0


def test_a_failed_run_counts_its_children():
    outcomes = by_id(done("list", [1, 2, 3]), done("map#0", 1), ended("map#1", TaskState.FAILED))
    header = HEADER.model_copy(update={"state": RunState.FAILED})
    state = {
        "run": header.model_dump(mode="json"),
        "results": {task_id: outcome.model_dump(mode="json") for task_id, outcome in outcomes.items()},
    }
    with pytest.raises(Exception, match=r"1 task\(s\) of run r failed: task 'map#1': boom") as caught:
        finish(mapping(), state, raise_on_failure=True)
    assert caught.value.hint.startswith("2 of 6 tasks are finished")
    assert set(caught.value.results) == {"list", "map#0"}
