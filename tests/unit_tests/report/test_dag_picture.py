"""The DAG of a run as a picture, and the page of `lcr view` around it."""

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from langchain_runtime.contracts.events import RunStarted, TaskReady, TaskStarted, TaskSuspended
from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report import RunReport
from langchain_runtime.report.dag_picture import dag_picture
from langchain_runtime.report.live_page import CONTENT_SECURITY_POLICY, live_fragment, live_page
from langchain_runtime.report.under_way import under_way

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>\"'&]]>\x00\u202e"


def figures_of(make, *tasks, **options):
    return RunReport(make.run(*tasks, **options)).figures


def picture_of(make, *tasks):
    return ET.fromstring(str(dag_picture(figures_of(make, *tasks))))


def boxes(picture):
    """Name -> what stands below it, left edge, class of its mark."""
    found = {}
    for group in picture.iter(f"{SVG}g"):
        name, note = (text.text for text in group.iter(f"{SVG}text"))
        box, mark = group.iter(f"{SVG}rect")
        found[name] = (note, float(box.get("x")), mark.get("class").split()[-1], float(box.get("y")))
    return found


def edges(picture):
    return sum(1 for _ in picture.iter(f"{SVG}path"))


def test_each_task_has_a_box_with_state_and_bill_right_of_what_it_depends_on(make):
    found = boxes(
        picture := picture_of(
            make,
            make.done("outline", 0, 1, usd="0.0012"),
            make.failed("facts", 1, 2, deps=["outline"]),
            make.done("draft", 1, 3, deps=["outline", "facts"], usd=None),
            make.skipped("end", deps=["draft"]),
        )
    )
    assert [found[name][0] for name in ("outline", "facts", "draft", "end")] == [
        "completed, 0.0012 USD",
        "failed, 0.001 USD",
        "completed",
        "skipped",
    ]
    lefts = [found[name][1] for name in ("outline", "facts", "draft", "end")]
    assert lefts == sorted(set(lefts))
    assert [found[name][2] for name in found] == ["m-completed", "m-failed", "m-completed", "m-skipped"]
    assert edges(picture) == 4


def test_children_stand_in_the_box_of_their_list(make):
    children = [make.done(f"map#{place}", 1, 2, deps=["list"], usd="0.001") for place in range(8)]
    picture = picture_of(
        make,
        make.done("list", 0, 1),
        make.done("map", 1, 2, deps=["list"]),
        *children,
        make.failed("map#8", 1, 2, deps=["list"]),
        make.done("end", 2, 3, deps=["map"]),
    )
    found = boxes(picture)
    assert set(found) == {"list", "map", "end"}
    assert found["map"][0] == "8 of 9, 1 failed, 0.009 USD"
    assert found["map"][2] == "m-failed"
    assert edges(picture) == 2


def test_boxes_do_not_overlap(make):
    tasks = [make.done(f"t{place}", 0, 1, deps=[f"t{place // 3}"] if place else []) for place in range(100)]
    places = [(left, top) for _, left, _, top in boxes(picture_of(make, *tasks)).values()]
    assert len(set(places)) == 100
    for left in {left for left, _ in places}:
        tops = sorted(top for at, top in places if at == left)
        assert all(later - earlier >= 40 for earlier, later in pairwise(tops))


@pytest.mark.parametrize(("number", "width"), [(151, 10), (10_000, 100)])
def test_a_large_dag_is_drawn_layer_by_layer(make, number, width):
    tasks = [
        make.done(f"t{place}", place // width, place // width + 1, deps=[f"t{place - width}"] if place >= width else [])
        for place in range(number)
    ]
    picture = dag_picture(figures_of(make, *tasks))
    assert len(picture) < 150_000
    found = ET.fromstring(str(picture))
    groups = list(found.iter(f"{SVG}g"))
    assert len(groups) == -(-number // width)
    assert edges(found) == len(groups) - 1
    assert f"{width} tasks" in str(picture)
    assert f"{width:,} of {width:,}" in str(picture)


def test_a_long_chain_has_a_bounded_number_of_boxes(make):
    tasks = [
        make.done(f"t{place}", place, place + 1, deps=[f"t{place - 1}"] if place else []) for place in range(3_000)
    ]
    assert len(list(picture_of(make, *tasks).iter(f"{SVG}g"))) == 150


def test_a_run_without_tasks_has_no_picture(make):
    assert dag_picture(figures_of(make)) is None
    assert "Timeline" not in live_fragment(figures_of(make), last_event=None)


def test_what_models_and_people_wrote_cannot_leave_the_page(make):
    run = make.run(make.done("a", 0, 1, output=EVIL * 50, model=EVIL), make.failed("b", 1, 2, message=EVIL))
    page = live_page("r1", live_fragment(RunReport(run).figures, last_event=make.at(3)))
    root = ET.fromstring(
        page.removeprefix("<!doctype html>").replace("&&", "and").split("<script>")[0] + "</body></html>"
    )
    assert not list(root.iter("script"))
    assert page.count("<script>") == 1
    assert "last event" in page


def test_only_the_pages_own_script_may_run():
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='$", CONTENT_SECURITY_POLICY)
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY


def test_tasks_are_ready_and_running_by_the_journal(make):
    tasks = [make.done("a", 0, 1), *(make.pending(name) for name in "bcdef")]
    run = make.run(*tasks)
    moved = under_way(
        run,
        [
            TaskStarted(run_id="r", at=make.at(0), task="f", attempt=1),
            RunStarted(run_id="r", at=make.at(1), tasks=6),
            TaskStarted(run_id="r", at=make.at(1), task="a", attempt=1),
            TaskReady(run_id="r", at=make.at(2), task="b"),
            TaskReady(run_id="r", at=make.at(2), task="c"),
            TaskStarted(run_id="r", at=make.at(3), task="c", attempt=2, model="openai:gpt-5.4"),
            TaskStarted(run_id="r", at=make.at(3), task="d", attempt=1),
            TaskSuspended(run_id="r", at=make.at(4), task="d"),
        ],
    )
    assert {name: task.state for name, task in moved.tasks.items()} == {
        "a": TaskState.COMPLETED,
        "b": TaskState.READY,
        "c": TaskState.RUNNING,
        "d": TaskState.PENDING,
        "e": TaskState.PENDING,
        "f": TaskState.PENDING,
    }
    running = moved.tasks["c"]
    assert (running.started_at, running.attempts, running.model) == (make.at(3), 2, "openai:gpt-5.4")
    assert run.tasks["c"].state is TaskState.PENDING
