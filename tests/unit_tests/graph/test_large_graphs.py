"""Graphs far larger than a person writes: built, checked and refused without recursion, in messages of a few lines."""

import pytest

from langchain_runtime.contracts.errors import CyclicDependencyError, DependencyNotFoundError
from langchain_runtime.contracts.run import Task
from langchain_runtime.graph import RunGraph
from langchain_runtime.orchestration import DependencyResolver, Scheduler, topological_order
from langchain_runtime.orchestration.task_ids import did_you_mean

LENGTH = 50_000


def one(inputs):
    return 1


def chain(length=LENGTH, *, closed=False):
    graph = RunGraph()
    for number in range(length):
        before = number - 1 if number else length - 1
        graph.add_task(f"t{number}", one, deps=[f"t{before}"] if number or closed else [])
    return graph


def test_a_chain_of_fifty_thousand_tasks_compiles_B15():
    """B15 fixed: nothing recurses."""
    drawn = chain().compile().get_graph()
    assert len(drawn.nodes) == LENGTH + 2
    assert len(drawn.edges) == LENGTH + 1


def test_a_cycle_of_fifty_thousand_tasks_is_refused_in_a_short_message_B15_B16():
    """B16 fixed: the message shows the beginning of the cycle, the error has all of it."""
    with pytest.raises(CyclicDependencyError) as caught:
        chain(closed=True).compile()
    assert len(caught.value.cycle) == LENGTH + 1
    assert "t0 -> t1 -> t2" in str(caught.value)
    assert f"({LENGTH} in the cycle)" in str(caught.value)
    assert len(str(caught.value)) < 200
    assert caught.value.hint


def test_a_hub_with_very_many_neighbours_on_each_side_compiles():
    width = 20_000
    graph = RunGraph().add_task("first", one)
    for number in range(width):
        graph.add_task(f"t{number}", one, deps=["first"])
    graph.add_task("last", one, deps=[f"t{number}" for number in range(width)])
    assert len(graph.compile().get_graph().edges) == 2 * width + 2


def test_a_long_chain_is_scheduled_from_its_first_task_to_its_last():
    dag = DependencyResolver().build(
        [Task(id=f"t{number}", deps=[f"t{number - 1}"] if number else []) for number in range(LENGTH)]
    )
    scheduler = Scheduler(dag)
    for task_id in topological_order(dag):
        assert scheduler.next_ready() == [task_id]
        scheduler.mark_started(task_id)
        scheduler.mark_complete(task_id)
    assert scheduler.unfinished == 0


def test_a_dependency_that_is_missing_among_many_long_ids_is_refused_with_the_nearest_of_them():
    names = [f"{'chapter-of-a-very-long-book-' * 4}{number}" for number in range(LENGTH)]
    tasks = [Task(id=name) for name in names] + [Task(id="last", deps=[f"{names[777]}x"])]
    with pytest.raises(DependencyNotFoundError) as caught:
        DependencyResolver().build(tasks)
    assert caught.value.hint == f"did you mean {names[777]!r}?"
    assert len(str(caught.value)) < 300


def test_the_nearest_id_is_found_on_either_side_and_none_where_nothing_resembles_it():
    names = ["draft", "outline", "summary"]
    assert did_you_mean("drafts", names) == "did you mean 'draft'?"
    assert did_you_mean("a-summary", names) == "did you mean 'summary'?"
    assert did_you_mean("zzz", names) is None
    assert did_you_mean("anything", []) is None
