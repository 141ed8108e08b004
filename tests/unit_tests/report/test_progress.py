"""Progress added up from events, and the lines that a log gets."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_runtime.contracts.events import TasksAdded
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report import Progress
from langchain_runtime.report.lines import plain_line


def lines_of(*events, **known):
    progress = Progress(**known)
    lines = []
    for event in events:
        tenths = progress.tenths
        progress.feed(event)
        line = plain_line(progress, event, tenths=tenths)
        lines += [] if line is None else line.splitlines()
    return lines


def whole_run(make, number, *, usd="0.001"):
    events = [make.started(number)]
    for place in range(number):
        events += [
            make.task_ready(f"t{place}", place),
            make.task_started(f"t{place}", place),
            make.task_finished(f"t{place}", place + 1, usage=make.usage(100, 10, usd)),
        ]
    return events


def test_counts_follow_the_states(make):
    figures = Progress(
        [
            make.started(10),
            make.task_ready("a"),
            make.task_started("a", 1),
            make.task_ready("b"),
            make.task_finished("c", 2),
            make.task_finished("d", 2, state=TaskState.FAILED, message="no"),
            make.task_finished("e", 2, state=TaskState.SKIPPED),
        ]
    ).figures()
    assert {state: number for state, number in figures.states.items() if number} == {
        TaskState.PENDING: 5,
        TaskState.READY: 1,
        TaskState.RUNNING: 1,
        TaskState.COMPLETED: 1,
        TaskState.FAILED: 1,
        TaskState.SKIPPED: 1,
    }
    assert (figures.total, figures.ended, figures.done) == (10, 3, 0.3)
    assert figures.state is RunState.RUNNING


def test_running_tasks_have_model_try_and_seconds_longest_first(make):
    progress = Progress(
        [make.started(3), make.task_started("b", 2), make.task_started("a", 1), make.task_retried("a", 3)]
    )
    progress.feed(make.task_started("a", 4, attempt=2, model=None))
    first, second = progress.figures(make.at(10)).running
    assert (first.id, first.model, first.attempt, first.seconds(make.at(10))) == ("a", make.MINI, 2, 9)
    assert (second.id, second.seconds(make.at(10))) == ("b", 8)
    assert first.error.message == "429"


def test_ended_tasks_are_listed_latest_first(make):
    progress = Progress(whole_run(make, 300))
    recent = progress.figures().recent
    assert [task.id for task in recent[:3]] == ["t299", "t298", "t297"]
    assert len(recent) == 200
    assert recent[0].seconds(make.at(999)) == 1


def test_calls_count_at_once_and_are_replaced_by_what_the_task_tells(make):
    progress = Progress([make.started(2), make.reserved("a", "0.05"), make.reserved("a", "0.02", id_="r2")])
    assert (progress.figures().held, progress.figures().spent) == (Cost.usd("0.07"), None)
    progress.feed(make.settled("a", "0.01"))
    assert (progress.figures().held, progress.figures().spent) == (Cost.usd("0.02"), Cost.usd("0.01"))
    assert progress.figures().tokens.total == 110
    progress.feed(make.task_finished("a", usage=make.usage(200, 20, "0.015")))
    assert (progress.figures().held, progress.figures().spent) == (None, Cost.usd("0.015"))
    progress.feed(make.settled("a", "0.01", id_="late"))
    assert progress.figures().spent == Cost.usd("0.015")


def test_a_task_that_tells_nothing_keeps_its_calls(make):
    progress = Progress([make.settled("a", "0.01"), make.settled(None, "0.02", id_="r2"), make.task_finished("a")])
    assert progress.figures().spent == Cost.usd("0.03")


def test_the_share_of_the_budget_is_known_where_both_are(make):
    progress = Progress([make.started(1, limit="0.10"), make.settled("a", "0.025")])
    assert progress.figures().share == 0.25
    assert Progress([make.settled("a", "0.025")]).figures().share is None


def test_unknown_cost_stays_unknown(make):
    figures = Progress([make.started(1), make.task_finished("a", usage=make.usage(10, 1))]).figures()
    assert (figures.spent, figures.complete) == (None, False)


def test_another_currency_counts_as_unknown(make):
    progress = Progress([make.settled("a", "0.01")], limit=Cost("1", "EUR"))
    assert (progress.figures().spent, progress.figures().complete) == (None, False)


def test_the_end_of_the_run_tells_the_sum(make):
    progress = Progress([make.started(1), make.settled("a", "0.01"), make.ended(5, usage=make.usage(500, 50, "0.04"))])
    figures = progress.figures(make.at(1000))
    assert (figures.spent, figures.tokens.total, figures.state) == (Cost.usd("0.04"), 550, RunState.COMPLETED)
    assert figures.elapsed == 5


def test_a_run_that_ends_without_telling_keeps_what_was_added_up(make):
    progress = Progress([make.started(1), make.settled("a", "0.01"), make.ended(5)])
    assert progress.figures().spent == Cost.usd("0.01")


def test_the_time_left_goes_by_the_tasks_of_this_sitting(make):
    progress = Progress([make.started(10, finished=5)])
    assert progress.figures(make.at(4)).eta is None
    progress.feed(make.task_finished("f", 4))
    figures = progress.figures(make.at(4))
    assert (figures.ended, figures.eta) == (6, 16)


def test_a_resumed_run_keeps_what_was_completed_and_starts_the_rest_anew(make):
    progress = Progress(
        [
            make.started(4),
            make.task_finished("a", 1),
            make.task_finished("b", 1, state=TaskState.FAILED),
            make.task_started("c", 1),
            make.reserved("c", "0.01"),
            make.ended(2, state=RunState.FAILED),
            make.started(4, finished=1, at=100),
        ]
    )
    figures = progress.figures(make.at(103))
    assert (figures.ended, figures.states[TaskState.COMPLETED], figures.states[TaskState.PENDING]) == (1, 1, 3)
    assert (figures.running, figures.held, figures.elapsed) == ((), None, 3)
    assert [task.id for task in figures.recent] == ["a"]
    progress.feed(make.settled("b", "0.02", id_="again", at=104))
    assert progress.figures().spent == Cost.usd("0.02")


def test_children_made_on_the_way_enlarge_the_total(make):
    progress = Progress([make.started(1), *(make.task_ready(f"map#{place}") for place in range(5))])
    assert progress.figures().total == 5


def test_children_are_added_up_by_their_parent(make):
    added = TasksAdded(run_id="brief-1", at=make.at(1), parent="map", tasks=("map#0", "map#1", "map#2"))
    progress = Progress([make.started(2), make.task_ready("map", 1), added])
    for event in (
        make.task_started("map#0", 2),
        make.task_started("map#1", 3),
        make.settled("map#1", "0.05", tokens=10),
        make.task_finished("map#0", 4, usage=make.usage(100, 10, "0.01")),
        make.task_started("other", 4),
    ):
        progress.feed(event)
    (group,) = progress.figures().groups
    assert (group.id, group.state, group.total, group.ended) == ("map", TaskState.RUNNING, 3, 1)
    assert (group.used.tokens.total, group.used.cost) == (130, Cost.usd("0.06"))
    assert group.seconds(make.at(10)) == 8
    progress.feed(make.task_finished("map#1", 5, state=TaskState.FAILED, message="no"))
    progress.feed(make.task_finished("map", 6, state=TaskState.FAILED, message="a child failed"))
    (group,) = progress.figures().groups
    assert (group.state, group.states[TaskState.FAILED], group.seconds(make.at(10))) == (TaskState.FAILED, 1, 4)


def test_a_resumed_group_keeps_what_completed_and_does_not_guess_its_size(make):
    progress = Progress([make.started(4), make.task_started("map#0"), make.task_started("map#1")])
    progress.feed(make.task_finished("map#0", 1, usage=make.usage(100, 10, "0.01")))
    progress.feed(make.started(4, finished=1, at=100))
    (group,) = progress.figures().groups
    assert (group.ended, group.states[TaskState.RUNNING], group.total, group.started_at) == (1, 0, None, None)
    assert group.used.cost == Cost.usd("0.01")


def test_before_the_first_event_nothing_is_known():
    figures = Progress().figures()
    assert (figures.run_id, figures.total, figures.done, figures.elapsed) == (None, None, None, 0)
    assert Progress(total=7).figures().states[TaskState.PENDING] == 7


def test_events_without_a_count_are_accepted(make):
    progress = Progress([make.compacted("a"), make.refused("a", "wait")])
    assert progress.figures().run_id == "brief-1"


moves = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(["ready", "started", "retried", "completed", "failed", "skipped"])),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it keeps no state
@given(moves=moves)
def test_states_always_add_up_to_the_total(make, moves):

    progress = Progress([make.started(5)])
    states = {}
    for place, move in moves:
        task = f"t{place}"
        if move == "ready":
            progress.feed(make.task_ready(task))
            states[task] = TaskState.READY
        elif move == "started":
            progress.feed(make.task_started(task))
            states[task] = TaskState.RUNNING
        elif move == "retried":
            progress.feed(make.task_retried(task))
            states.setdefault(task, TaskState.PENDING)
        else:
            progress.feed(make.task_finished(task, state=TaskState(move)))
            states[task] = TaskState(move)
    figures = progress.figures()
    assert figures.states.total() == figures.total == max(5, len(states))
    assert figures.ended == sum(state.ended for state in states.values())
    assert {task.id for task in figures.running} == {t for t, state in states.items() if state is TaskState.RUNNING}
    assert {task.id for task in figures.recent} == {task for task, state in states.items() if state.ended}


# lines


@pytest.mark.parametrize("number", [10, 50, 120, 1000])
def test_a_log_gets_one_line_for_each_tenth(make, number):
    lines = lines_of(*whole_run(make, number))
    assert lines[0] == f"started: {number:,} tasks, limit 0.50 USD"
    assert [line.split("%")[0].strip() for line in lines[1:]] == [str(10 * place) for place in range(1, 11)]


def test_a_run_of_few_tasks_gets_a_line_for_each(make):
    assert [line.split("%")[0].strip() for line in lines_of(*whole_run(make, 3))[1:]] == ["33", "66", "100"]


def test_a_line_has_tasks_tokens_money_time_and_what_is_left(make):
    assert lines_of(*whole_run(make, 10))[3] == (
        " 30 %  3 of 10 tasks, 330 tokens, 0.003 of 0.50 USD (0.6 %), 3.00 s, about 7.00 s left"
    )


def test_a_failure_has_its_line_and_its_tenth(make):
    lines = lines_of(make.started(2), make.task_finished("a", 1, state=TaskState.FAILED, message="no\x1b[31m luck"))
    assert lines[1] == "failed: a: [task_failed] no\ufffd[31m luck"
    assert lines[2].startswith(" 50 %  1 of 2 tasks, 1 failed, ")


def test_a_failure_without_an_error_is_told(make):
    lines = lines_of(make.started(20), make.task_finished("a", 1, state=TaskState.FAILED))
    assert lines[1:] == ["failed: a: no error was recorded"]


def test_very_many_failures_are_only_counted(make):
    events = [make.task_finished(f"t{place}", state=TaskState.FAILED, message="no") for place in range(100)]
    lines = lines_of(make.started(100), *events)
    failures = [line for line in lines if line.startswith("failed")]
    assert len(failures) == 20
    assert failures[-1].endswith("(further failures are only counted)")
    assert "100 failed" in lines[-1]


def test_the_end_says_how_it_ended(make):
    lines = lines_of(make.started(2, limit=None), make.ended(65, state=RunState.ABORTED, reason="deadline"))
    assert lines == [
        "started: 2 tasks, no limit",
        "aborted (deadline): 0 of 2 tasks, 0 tokens, -, 1 min 05 s",
    ]


def test_a_resumed_run_says_what_was_done_before(make):
    assert lines_of(make.started(1000, finished=900)) == [
        "started: 1,000 tasks, 900 of them done before, limit 0.50 USD"
    ]


def test_without_a_total_nothing_is_said_in_tenths(make):
    assert lines_of(make.task_finished("a"), make.task_ready("b")) == []
    assert lines_of(make.task_finished("a"), total=1)[0].startswith("100 %  1 of 1 task, ")


def test_skipped_tasks_are_counted_in_the_line(make):
    lines = lines_of(make.started(1), make.task_finished("a", state=TaskState.SKIPPED, usage=Usage()))
    assert "1 skipped" in lines[-1]
