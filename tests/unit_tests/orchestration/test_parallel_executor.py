"""Starting and finishing: slots, order, guards."""

import pytest
from pydantic import ValidationError

from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    DeadlockError,
    InvalidInputError,
    TaskNotFoundError,
    TaskNotReadyError,
)
from langchain_runtime.contracts.run import DAG, DAGNode, ModelLimits, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Attempt,
    Begin,
    BodyStopped,
    Deferred,
    Ended,
    Finish,
    ParallelExecutor,
    Start,
    Tick,
    simulate,
)

COMPLETED, FAILED, SKIPPED = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED
CHAIN = {"a": [], "b": ["a"], "c": ["b"]}
FORK = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def started(actions):
    return [action.task_id for action in actions if isinstance(action, Start)]


def order(forecast):
    return [span.task_id for span in sorted(forecast.spans, key=lambda span: span.started)]


def test_planner_satisfies_its_protocol(planner):
    assert isinstance(planner({}), protocols.ParallelExecutor)


# --- the course of a run ---------------------------------------------------------------------------------------------


def test_empty_dag_completes_at_once_R5(planner):
    assert planner({}).next(Begin(0)) == [Finish(RunState.COMPLETED)]


def test_single_task_starts_once_and_completes_the_run_F8_F9_Q4_R4(planner):
    run = planner({"a": []})
    assert run.next(Begin(0)) == [Start("a", 1)]
    assert run.next(Ended("a", 1, COMPLETED)) == [Finish(RunState.COMPLETED)]
    assert run.attempts == {"a": 1}


@pytest.mark.parametrize(
    ("deps", "expected"),
    [
        pytest.param(CHAIN, ["a", "b", "c"], id="R1-R6-chain"),
        pytest.param({"a": [], "b": [], "c": ["a", "b"]}, ["a", "b", "c"], id="R2-join"),
        pytest.param(FORK, ["a", "b", "c", "d"], id="R3-diamond"),
    ],
)
def test_tasks_start_after_their_dependencies(planner, deps, expected):
    forecast = simulate(planner(deps, max_parallelism=2), lambda *_: Attempt(1))
    assert order(forecast) == expected
    assert forecast.state is RunState.COMPLETED


def test_independent_tasks_all_run_Q10(planner):
    run = planner({"a": [], "b": [], "c": []})
    assert run.next(Begin(0)) == [Start("a", 1), Start("b", 1), Start("c", 1)]


def test_task_is_running_while_it_runs_Q11_F22(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    assert run.states == {"a": TaskState.RUNNING}
    assert run.running == {"a"}


def test_running_task_is_not_started_again_however_often_the_planner_is_asked_Q15(planner):
    run = planner({"a": []})
    assert started(run.next(Begin(0))) == ["a"]
    assert run.next(Tick(1)) == run.next(Tick(2)) == []


def test_skipped_and_completed_tasks_make_a_completed_run_Q13(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, SKIPPED))
    assert run.next(Ended("b", 1, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_failed_and_completed_tasks_make_a_failed_run_Q14(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED))
    assert run.next(Ended("b", 1, COMPLETED)) == [Finish(RunState.FAILED)]


def test_no_superstep_dependents_do_not_wait_for_siblings_Z12(planner):
    deps = {f"{chain}{i}": [f"{chain}{i - 1}"] if i else [] for chain in "ab" for i in range(10)}
    slow = {task_id: (int(task_id[1:]) + (task_id[0] == "b")) % 2 for task_id in deps}
    forecast = simulate(planner(deps), lambda task_id, _: Attempt(0.1 if slow[task_id] else 0.01))
    assert forecast.makespan == pytest.approx(0.55)


def test_fifty_thousand_tasks_in_a_chain_need_no_recursion(planner):
    deps = {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(50_000)}
    forecast = simulate(planner(deps), lambda *_: Attempt(1))
    assert (forecast.state, forecast.makespan) == (RunState.COMPLETED, 50_000)


def test_failure_before_a_chain_of_fifty_thousand_skips_it_all(planner):
    deps = {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(50_000)}
    forecast = simulate(planner(deps), lambda *_: Attempt(1, FAILED))
    assert len(forecast.skipped) == 49_999


# --- earlier results -------------------------------------------------------------------------------------------------


def test_earlier_results_are_not_started_again(planner):
    run = planner(CHAIN, completed=["a"])
    assert run.next(Begin(0)) == [Start("b", 1)]
    assert run.attempts["a"] == 0


def test_run_that_is_already_done_finishes_at_once_Z16(planner):
    assert planner(CHAIN, completed="abc").next(Begin(0)) == [Finish(RunState.COMPLETED)]


def test_unknown_earlier_result_is_refused(planner):
    with pytest.raises(TaskNotFoundError):
        planner(CHAIN, completed=["nobody"])
    with pytest.raises(TaskNotFoundError):
        planner(CHAIN, failed=["nobody"])


# --- slots and order -------------------------------------------------------------------------------------------------


def test_no_more_run_than_there_are_slots_F13(planner):
    run = planner({"a": [], "b": [], "c": [], "d": []}, max_parallelism=2)
    assert started(run.next(Begin(0))) == ["a", "b"]
    assert started(run.next(Ended("a", 1, COMPLETED))) == ["c"]
    assert len(run.running) == 2


@pytest.mark.parametrize("slots", [0, -1])
def test_fewer_than_one_slot_is_refused_by_the_policy_F15(slots):
    with pytest.raises(ValidationError):
        RunPolicy(max_parallelism=slots)


def test_five_slots_start_five_tasks_F16(planner):
    assert len(started(planner({f"t{i}": [] for i in range(9)}, max_parallelism=5).next(Begin(0)))) == 5


def test_only_tasks_with_a_slot_are_running_Z13(planner):
    run = planner({"a": [], "b": [], "c": [], "d": []}, max_parallelism=1)
    run.next(Begin(0))
    assert [run.states[task_id] for task_id in "abcd"] == ["running", "ready", "ready", "ready"]


def test_tasks_start_in_order_of_urgency_Z14(planner):
    deps = {"d": [], "c": [], "b": [], "a": [], "long": [], "tail": ["long"]}
    run = planner(deps, max_parallelism=1, priorities={"c": 1})
    assert order(simulate(run, lambda *_: Attempt(1))) == ["long", "c", "a", "b", "d", "tail"]


def test_a_task_that_becomes_ready_overtakes_less_urgent_ones_Z14(planner):
    deps = {"first": [], "x": [], "y": [], "urgent": ["first"], "tail": ["urgent"]}
    run = planner(deps, max_parallelism=1)
    assert order(simulate(run, lambda *_: Attempt(1))) == ["first", "urgent", "tail", "x", "y"]


def test_task_whose_model_is_full_lets_the_others_pass(planner):
    run = planner(
        {"a": [], "b": [], "c": [], "d": []},
        models={"a": "slow", "b": "slow", "c": "other", "d": None},
        per_model={"slow": ModelLimits(parallelism=1), "other": ModelLimits(rpm=10)},
    )
    assert started(run.next(Begin(0))) == ["a", "c", "d"]
    assert run.states["b"] is TaskState.READY
    assert run.next(Ended("c", 1, COMPLETED)) == []
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("b", 1)]


def test_the_most_urgent_task_of_a_full_model_goes_first_when_it_has_room(planner):
    run = planner(
        {"a": [], "b": [], "c": [], "late": ["free"], "free": []},
        models={"a": "m", "b": "m", "c": "m", "late": "m"},
        per_model={"m": ModelLimits(parallelism=1)},
        expected_seconds={"a": 9, "b": 2, "c": 3, "late": 5, "free": 1},
    )
    assert started(run.next(Begin(0))) == ["a", "free"]
    assert run.next(Ended("free", 1, COMPLETED)) == []
    taken = [started(run.next(Ended(task_id, 2, COMPLETED))) for task_id in ("a", "late", "c")]
    assert taken == [["late"], ["c"], ["b"]]


# --- guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [Tick(0), Ended("a", 0, COMPLETED), Abort(0)])
def test_nothing_comes_before_begin_F2(planner, event):
    with pytest.raises(InvalidInputError, match="Begin comes first"):
        planner({"a": []}).next(event)


def test_begin_comes_only_once(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    with pytest.raises(InvalidInputError, match="only once"):
        run.next(Begin(1))


@pytest.mark.parametrize("event", [Ended("zzz", 1, COMPLETED), Deferred("zzz", 1), BodyStopped("zzz", 1)])
@pytest.mark.parametrize("deps", [pytest.param({}, id="F3"), pytest.param({"a": []}, id="F4")])
def test_events_of_unknown_tasks_are_refused(planner, deps, event):
    run = planner(deps)
    run.next(Begin(0))
    with pytest.raises(TaskNotFoundError):
        run.next(event)


@pytest.mark.parametrize(
    "state", [pytest.param(COMPLETED, id="F5-D6"), pytest.param(FAILED, id="F6"), pytest.param(SKIPPED, id="F7")]
)
@pytest.mark.parametrize("again", [Ended("a", 2, COMPLETED), Deferred("a", 2), BodyStopped("a", 2)])
def test_task_that_has_ended_cannot_end_again(planner, state, again):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, state))
    with pytest.raises(TaskNotReadyError) as caught:
        run.next(again)
    assert caught.value.state == run.states["a"] == state


def test_task_that_waits_cannot_end(planner):
    run = planner(CHAIN)
    run.next(Begin(0))
    with pytest.raises(TaskNotReadyError, match="'b' is pending and does not run"):
        run.next(Ended("b", 1, COMPLETED))


def test_a_body_is_never_started_twice_at_once_F14(planner):
    run = planner({"a": [], "b": ["a"]}, max_parallelism=2)
    actions = run.next(Begin(0)) + run.next(Tick(0.01)) + run.next(Ended("a", 0.1, COMPLETED))
    assert started(actions) == ["a", "b"]
    with pytest.raises(TaskNotReadyError):
        run.next(Ended("a", 0.11, COMPLETED))


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.READY, TaskState.RUNNING])
def test_attempt_must_end_in_an_end(planner, state):
    run = planner({"a": []})
    run.next(Begin(0))
    with pytest.raises(InvalidInputError, match="cannot end as"):
        run.next(Ended("a", 1, state))
    assert run.running == {"a"}


def test_refused_event_changes_nothing(planner):
    run = planner(CHAIN)
    run.next(Begin(0))
    with pytest.raises(TaskNotReadyError):
        run.next(Ended("c", 1, COMPLETED))
    assert run.next(Ended("a", 1, COMPLETED)) == [Start("b", 1)]


def test_what_comes_late_changes_nothing_Z28(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, COMPLETED))
    assert run.next(Abort(2)) == run.next(Tick(3)) == []
    assert run.states == {"a": COMPLETED}


def test_cycle_is_refused_Q3(planner):
    with pytest.raises(CyclicDependencyError):
        planner({"a": ["b"], "b": ["a"]})


def test_nothing_ready_and_something_pending_is_a_deadlock_Q9():
    nodes = {"a": DAGNode(id="a"), "b": DAGNode(id="b", deps=["a"], pending=1)}  # a does not know of b
    run = ParallelExecutor(DAG(nodes=nodes, edges={"a": [], "b": []}), policy=RunPolicy())
    run.next(Begin(0))
    with pytest.raises(DeadlockError) as caught:
        run.next(Ended("a", 1, COMPLETED))
    assert caught.value.waiting == ("b",)


def test_views_cannot_be_written_from_outside(planner):
    run = planner({"a": []})
    for view in (run.states, run.attempts, run.backing_off):
        with pytest.raises(TypeError):
            view["a"] = 0
