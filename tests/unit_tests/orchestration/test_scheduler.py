import math
from itertools import pairwise

import pytest

from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    InvalidDAGError,
    InvalidInputError,
    TaskNotFoundError,
    TaskNotReadyError,
)
from langchain_runtime.contracts.run import DAG, TaskState
from langchain_runtime.orchestration import CriticalPath, NewTask, Scheduler
from langchain_runtime.orchestration.task_ids import natural_key

DIAMOND = {"t1": [], "t2a": ["t1"], "t2b": ["t1"], "t3": ["t2a", "t2b"]}


def test_scheduler_satisfies_its_protocol():
    assert isinstance(Scheduler(DAG()), protocols.Scheduler)


# --- what is ready ---------------------------------------------------------------------------------------------------


def test_none_instead_of_a_dag_is_refused_C1_D1():
    with pytest.raises(InvalidInputError):
        Scheduler(None)


def test_dag_without_nodes_is_refused_C3_D3():
    with pytest.raises(InvalidDAGError):
        Scheduler(DAG.model_construct(nodes=None, edges={}))


def test_cycle_is_refused_Q3(graph):
    with pytest.raises(CyclicDependencyError):
        Scheduler(graph({"a": ["b"], "b": ["a"]}))


def test_no_tasks_are_never_ready_C4_C5():
    scheduler = Scheduler(DAG())
    assert scheduler.next_ready() == []
    assert scheduler.unfinished == 0


def test_task_without_dependencies_is_ready_at_once_C6(graph):
    scheduler = Scheduler(graph({"task-1": []}))
    assert scheduler.next_ready() == ["task-1"]
    assert scheduler.states == {"task-1": TaskState.READY}


def test_equally_urgent_tasks_are_ready_in_order_of_id_C7(graph):
    assert Scheduler(graph({"c": [], "a": [], "b": []})).next_ready() == ["a", "b", "c"]


def test_task_with_an_open_dependency_is_not_ready_C8(graph):
    assert Scheduler(graph({"t1": [], "t2": ["t1"]})).next_ready() == ["t1"]


def test_completed_tasks_of_an_earlier_run_release_their_dependents_C9(graph):
    scheduler = Scheduler(graph({"t1": [], "t2": ["t1"]}), completed=["t1"])
    assert scheduler.next_ready() == ["t2"]
    assert scheduler.unfinished == 1


def test_completed_task_stays_completed_when_its_dependency_runs_again(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"], "c": ["b"]}), completed=["b"])
    assert scheduler.next_ready() == ["a", "c"]
    assert scheduler.mark_complete("a") == []
    assert scheduler.states["b"] is TaskState.COMPLETED


def test_failed_task_is_not_ready_C10(graph):
    scheduler = Scheduler(graph({"t1": []}))
    scheduler.mark_failed("t1")
    assert scheduler.next_ready() == []


def test_running_task_is_not_ready_C11(graph):
    scheduler = Scheduler(graph({"t1": []}))
    scheduler.mark_started("t1")
    assert scheduler.next_ready() == []
    assert scheduler.states["t1"] is TaskState.RUNNING


def test_ids_are_counted_as_a_person_counts_C13(graph):
    assert Scheduler(graph({"t10": [], "t2": [], "map#10": [], "map#9": []})).next_ready() == [
        "map#9",
        "map#10",
        "t2",
        "t10",
    ]


def test_natural_order_is_total_even_for_leading_zeros_and_mixed_forms():
    ids = ["", "01", "1", "1a", "2", "10", "a", "a01", "a1", "a1.5", "a1.10", "a1b", "b"]
    assert sorted(set(ids), key=natural_key) == ids
    assert all(natural_key(left) < natural_key(right) for left, right in pairwise(ids))


def test_next_ready_only_looks_C14(graph):
    scheduler = Scheduler(graph({"a": [], "b": []}))
    assert scheduler.next_ready() == scheduler.next_ready() == ["a", "b"]


# --- order of urgency ------------------------------------------------------------------------------------------------


def test_longest_remaining_path_goes_first_whatever_the_priority(graph):
    dag = graph({"short": [], "long": [], "after": ["long"]})
    scheduler = Scheduler(dag, expected_seconds={"short": 5, "long": 1, "after": 10}, priorities={"short": 99})
    assert scheduler.next_ready() == ["long", "short"]


def test_priority_decides_between_equal_paths(graph):
    dag = graph({"a": [], "b": [], "c": []})
    scheduler = Scheduler(dag, expected_seconds={"a": 2, "b": 2, "c": 2}, priorities={"b": 5, "c": -1})
    assert scheduler.next_ready() == ["b", "a", "c"]


def test_paths_of_equal_length_are_equal_in_spite_of_binary_fractions(graph):
    dag = graph({"a": [], "a2": ["a"], "b": []})
    scheduler = Scheduler(dag, expected_seconds={"a": 16.1, "a2": 0.1, "b": 16.2}, priorities={"b": 1})
    assert 16.1 + 0.1 > 16.2
    assert scheduler.next_ready() == ["b", "a"]


def test_without_durations_the_path_with_most_tasks_goes_first(graph):
    scheduler = Scheduler(graph({"a": [], "b": [], "b2": ["b"]}))
    assert scheduler.next_ready() == ["b", "a"]
    assert scheduler.critical_path().seconds == 2.0


def test_unknown_duration_is_taken_to_be_the_median_of_the_known_ones(graph):
    dag = graph({"a": [], "b": [], "c": [], "unknown": []})
    scheduler = Scheduler(dag, expected_seconds={"a": 1, "b": 10, "c": 100})
    assert scheduler.next_ready() == ["c", "b", "unknown", "a"]


def test_durations_of_tasks_that_are_not_in_the_graph_do_not_matter(graph):
    scheduler = Scheduler(graph({"a": [], "b": []}), expected_seconds={"a": 2, "gone": 1e9})
    assert scheduler.critical_path() == CriticalPath(("a",), 2.0)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_impossible_durations_are_refused(graph, seconds):
    with pytest.raises(InvalidInputError, match="'a' is expected to take"):
        Scheduler(graph({"a": []}), expected_seconds={"a": seconds})


def test_urgency_orders_like_next_ready(graph):
    scheduler = Scheduler(graph({"t10": [], "t2": [], "x": [], "y": ["x"]}))
    assert sorted(scheduler.next_ready(), key=scheduler.urgency, reverse=True) == scheduler.next_ready()


def test_critical_path_is_the_longest_chain(graph):
    dag = graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "lone": []})
    scheduler = Scheduler(dag, expected_seconds={"a": 1, "b": 2, "c": 5, "d": 1.5, "lone": 7})
    assert scheduler.critical_path() == CriticalPath(("a", "c", "d"), 7.5)


def test_critical_path_of_nothing_is_empty():
    assert Scheduler(DAG()).critical_path() == CriticalPath((), 0.0)


def test_critical_path_starts_at_a_root_even_if_nothing_takes_time(graph):
    scheduler = Scheduler(graph({"b": [], "a": ["b"]}), expected_seconds={"a": 0, "b": 0})
    assert scheduler.critical_path() == CriticalPath(("b", "a"), 0.0)


# --- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["mark_started", "mark_complete", "mark_failed", "mark_skipped", "requeue", "state"])
def test_unknown_task_is_refused_D4_D5(graph, change):
    scheduler = Scheduler(graph({"task1": []}))
    with pytest.raises(TaskNotFoundError) as caught:
        getattr(scheduler, change)("taks1")
    assert caught.value.task_id == "taks1"
    assert caught.value.hint == "did you mean 'task1'?"


def test_unknown_completed_task_is_refused(graph):
    with pytest.raises(TaskNotFoundError):
        Scheduler(graph({"a": []}), completed=["zzz"])


@pytest.mark.parametrize(
    ("first", "state"),
    [
        pytest.param("mark_complete", "completed", id="D6"),
        pytest.param("mark_failed", "failed", id="D7"),
        pytest.param("mark_cancelled", "failed", id="D7-cancelled"),
        pytest.param("mark_skipped", "skipped", id="D7b"),
    ],
)
@pytest.mark.parametrize("second", ["mark_started", "mark_complete", "mark_failed", "mark_skipped", "mark_cancelled"])
def test_a_task_ends_only_once(graph, first, state, second):
    scheduler = Scheduler(graph({"t1": []}))
    getattr(scheduler, first)("t1")
    with pytest.raises(TaskNotReadyError) as caught:
        getattr(scheduler, second)("t1")
    assert caught.value.state == state
    assert scheduler.states["t1"] == state
    assert scheduler.unfinished == 0


def test_running_task_completes_D8(graph):
    scheduler = Scheduler(graph({"t1": []}))
    scheduler.mark_started("t1")
    assert scheduler.mark_complete("t1") == []
    assert scheduler.states["t1"] is TaskState.COMPLETED


def test_completion_releases_only_what_waits_for_nothing_else_D9(graph):
    scheduler = Scheduler(graph({"t1": [], "other": [], "t2": ["t1"], "t3": ["t1", "other"]}))
    assert scheduler.mark_complete("t1") == ["t2"]
    assert scheduler.mark_complete("other") == ["t3"]


def test_released_tasks_are_given_most_urgent_first(graph):
    dag = graph({"t1": [], "a": ["t1"], "b": ["t1"]})
    assert Scheduler(dag, expected_seconds={"a": 1, "b": 2}).mark_complete("t1") == ["b", "a"]


def test_task_may_complete_without_having_started_D10_D11(graph):
    scheduler = Scheduler(graph({"t1": [], "t2": ["t1"], "t3": ["t2"]}))
    assert scheduler.mark_complete("t2") == ["t3"]
    assert scheduler.mark_complete("t1") == []
    assert scheduler.next_ready() == ["t3"]


def test_walk_along_a_chain_D12(graph):
    scheduler = Scheduler(graph({"t1": [], "t2": ["t1"], "t3": ["t2"]}))
    walked = []
    while ready := scheduler.next_ready():
        walked.append(ready)
        scheduler.mark_started(ready[0])
        scheduler.mark_complete(ready[0])
    assert walked == [["t1"], ["t2"], ["t3"]]


def test_walk_through_a_diamond_D13(graph):
    scheduler = Scheduler(graph(DIAMOND))
    scheduler.mark_complete("t1")
    assert scheduler.next_ready() == ["t2a", "t2b"]
    scheduler.mark_complete("t2a")
    assert scheduler.next_ready() == ["t2b"]
    scheduler.mark_complete("t2b")
    assert scheduler.next_ready() == ["t3"]


def test_only_ready_tasks_start(graph):
    scheduler = Scheduler(graph({"t1": [], "t2": ["t1"]}))
    with pytest.raises(TaskNotReadyError, match="'t2' is pending, not ready"):
        scheduler.mark_started("t2")
    scheduler.mark_started("t1")
    with pytest.raises(TaskNotReadyError, match="'t1' is running, not ready"):
        scheduler.mark_started("t1")


def test_started_task_that_must_wait_is_ready_again(graph):
    scheduler = Scheduler(graph({"a": [], "b": []}))
    scheduler.mark_started("a")
    scheduler.requeue("a")
    assert scheduler.next_ready() == ["a", "b"]
    with pytest.raises(TaskNotReadyError, match="'a' is ready, not running"):
        scheduler.requeue("a")


def test_failure_skips_everything_downstream_in_topological_order(graph):
    scheduler = Scheduler(graph({"x": ["y", "a"], "y": ["z", "b"], "z": ["a"], "a": [], "b": [], "free": ["b"]}))
    assert scheduler.mark_failed("a") == ["z", "y", "x"]
    assert scheduler.states["x"] is TaskState.SKIPPED
    assert scheduler.unfinished == 2
    assert scheduler.mark_complete("b") == ["free"]


def test_second_failure_skips_only_what_is_left(graph):
    scheduler = Scheduler(graph({"a": [], "b": [], "ab": ["a", "b"], "b2": ["b"]}))
    assert scheduler.mark_failed("a") == ["ab"]
    assert scheduler.mark_failed("b") == ["b2"]


def test_failure_does_not_touch_what_completed_before(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"], "c": ["b"]}), completed=["b"])
    assert scheduler.mark_failed("a") == []
    assert scheduler.next_ready() == ["c"]


def test_failure_skips_what_waits_although_its_dependents_completed_before(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"], "c": ["b"], "d": ["b"]}), completed=["c"])
    assert scheduler.mark_failed("a") == ["b", "d"]
    assert scheduler.states["c"] is TaskState.COMPLETED


def test_false_condition_skips_downstream(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"]}))
    assert scheduler.mark_skipped("a") == ["b"]
    assert scheduler.states["a"] is TaskState.SKIPPED


def test_cancelled_task_failed_but_leaves_its_dependents_pending(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"]}))
    scheduler.mark_started("a")
    scheduler.mark_cancelled("a")
    assert scheduler.states == {"a": TaskState.FAILED, "b": TaskState.PENDING}
    assert scheduler.waiting() == ["b"]


def test_waiting_tasks_have_neither_started_nor_ended(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"], "c": [], "d": []}))
    scheduler.mark_started("a")
    scheduler.mark_complete("c")
    assert scheduler.waiting() == ["b", "d"]


def test_standing_down_leaves_nothing_ready(graph):
    scheduler = Scheduler(graph({"a": [], "b": []}))
    scheduler.mark_started("a")
    scheduler.stand_down()
    assert scheduler.next_ready() == []
    assert scheduler.states == {"a": TaskState.RUNNING, "b": TaskState.PENDING}


def test_started_task_that_is_set_aside_does_not_become_ready_again(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"], "c": []}))
    scheduler.mark_started("a")
    scheduler.set_aside("a")
    assert scheduler.mark_complete("c") == []
    assert scheduler.states == {"a": TaskState.PENDING, "b": TaskState.PENDING, "c": TaskState.COMPLETED}
    assert scheduler.unfinished == 2
    with pytest.raises(TaskNotReadyError, match="'a' is pending, not running"):
        scheduler.set_aside("a")


@pytest.mark.parametrize("change", ["mark_failed", "mark_skipped"])
def test_cause_is_the_task_itself_or_the_one_named(graph, change):
    scheduler = Scheduler(graph({"a": [], "a2": ["a"], "b": [], "b2": ["b"]}))
    getattr(scheduler, change)("a")
    getattr(scheduler, change)("b", because="root")
    assert [scheduler.cause(task_id) for task_id in ("a", "a2", "b", "b2")] == ["a", "a", "root", "root"]


def test_states_cannot_be_written_from_outside(graph):
    with pytest.raises(TypeError):
        Scheduler(graph({"a": []})).states["a"] = TaskState.COMPLETED


def test_the_dag_is_not_changed_F18(graph):
    dag = graph(DIAMOND)
    before = dag.model_copy(deep=True)
    scheduler = Scheduler(dag)
    scheduler.mark_complete("t1")
    scheduler.mark_failed("t2a")
    assert dag == before
    scheduler.add([NewTask("t4", ("t2b",))], parent="t2b")
    assert dag == before


# --- tasks that join -------------------------------------------------------------------------------------------------


def test_tasks_that_join_are_ordered_at_their_parents_place(graph):
    scheduler = Scheduler(graph({"a": [], "b": [], "c": []}))
    scheduler.add([NewTask("b#0"), NewTask("b#1")], parent="b")
    scheduler.add([NewTask("b#0#0")], parent="b#0")
    scheduler.add([NewTask("b#2")], parent="b")
    assert scheduler.next_ready() == ["a", "b#0#0", "b#0", "b#1", "b#2", "b", "c"]
    assert sorted(scheduler.next_ready(), key=scheduler.urgency, reverse=True) == scheduler.next_ready()


def test_ready_tasks_among_those_that_join_are_ready_at_once(graph):
    scheduler = Scheduler(graph({"a": []}))
    assert (
        scheduler.add([NewTask("b"), NewTask("c", ("b",)), NewTask("d", state=TaskState.COMPLETED)], parent="a") == []
    )
    assert scheduler.next_ready() == ["b", "a"]
    assert scheduler.unfinished == 3
    assert scheduler.mark_complete("b") == ["c"]


def test_waiting_parent_is_ready_once_all_are_completed(graph):
    scheduler = Scheduler(graph({"a": []}))
    scheduler.mark_started("a")
    scheduler.add([NewTask("b"), NewTask("c")], parent="a", parent_waits=True)
    assert scheduler.states["a"] is TaskState.PENDING
    assert scheduler.mark_complete("c") == []
    assert scheduler.mark_complete("b") == ["a"]


def test_parent_that_was_not_started_waits_for_all_that_it_depends_on(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"]}))
    scheduler.add([NewTask("a#0")], parent="a", parent_waits=True)
    scheduler.add([NewTask("b#0")], parent="b", parent_waits=True)
    assert scheduler.next_ready() == ["a#0", "b#0"]
    assert scheduler.mark_complete("b#0") == []
    assert scheduler.mark_complete("a#0") == ["a"]
    assert scheduler.mark_complete("a") == ["b"]


def test_parent_that_has_ended_cannot_wait(graph):
    scheduler = Scheduler(graph({"a": []}), completed=["a"])
    with pytest.raises(TaskNotReadyError, match="'a' is completed, not pending or ready or running"):
        scheduler.add([NewTask("b")], parent="a", parent_waits=True)


def test_place_of_a_task_does_not_grow_with_every_generation(graph):
    scheduler = Scheduler(graph({"before": [], "t": [], "u": []}))
    parents = ["t", *(f"t{generation}" for generation in range(200))]
    for parent, child in pairwise(parents):
        scheduler.add([NewTask(child)], parent=parent)
    assert len(scheduler.urgency("t199")) == len(scheduler.urgency("t100")) < 100
    scheduler.add([NewTask("last")], parent="t150")
    ready = scheduler.next_ready()
    assert ready.index("before") == 0
    assert ready.index("last") == ready.index("t199") + 1, "equally urgent: in the order in which they became ready"
    assert ready[-4:] == ["t1", "t0", "t", "u"]


def test_critical_path_is_that_of_the_graph_as_it_was_planned(graph):
    scheduler = Scheduler(graph({"a": [], "b": ["a"]}))
    scheduler.add([NewTask("c", ("b",))], parent="b")
    assert scheduler.critical_path() == CriticalPath(("a", "b"), 2.0)
