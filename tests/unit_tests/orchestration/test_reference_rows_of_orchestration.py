"""Rows of an earlier implementation's behaviour that concern the planner, and the document that lists all rows."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from langchain_runtime.contracts.errors import InvalidInputError, TaskNotFoundError, TaskNotReadyError
from langchain_runtime.contracts.run import DAG, DAGNode, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration import (
    Begin,
    Ended,
    Finish,
    ParallelExecutor,
    Scheduler,
    Start,
    Tick,
)

TESTS = Path(__file__).resolve().parents[2]
DOCUMENT = TESTS.parent / "docs" / "reference_rows.md"

ROWS_OF_FAMILIES = zip("ABCDEFKLMNOPQRSZ", (16, 16, 14, 13, 9, 22, 13, 9, 17, 20, 14, 8, 22, 9, 6, 28), strict=True)
ROWS = {f"{family}{number}" for family, count in ROWS_OF_FAMILIES for number in range(1, count + 1)} | {"D7b"}
TAGS = {"kept", "fixed", "decided"}


# --- the planner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ParallelExecutor, Scheduler])
def test_no_dag_is_refused_F1_Q1_Q2(kind):
    """Kept: the error says what is missing."""
    keywords = {"policy": RunPolicy()} if kind is ParallelExecutor else {}
    with pytest.raises(InvalidInputError, match="a DAG is needed, got None"):
        kind(None, **keywords)


def test_nothing_is_started_before_a_run_began_or_after_it_ended_C2_D2(planner):
    """Decided: what has not begun is refused as such; what has ended starts nothing and cannot end again."""
    run = planner({"a": []})
    with pytest.raises(InvalidInputError, match="Begin comes first"):
        run.next(Tick(0))
    run.next(Begin(0))
    assert run.next(Ended("a", 1, TaskState.COMPLETED)) == [Finish(RunState.COMPLETED, None)]
    assert run.next(Tick(2)) == []
    with pytest.raises(TaskNotReadyError, match="'a' is completed"):
        run.next(Ended("a", 2, TaskState.COMPLETED))


def test_every_node_of_the_graph_is_a_task_that_must_run_C12_Z18():
    """Fixed: a node that nobody described elsewhere is neither passed over nor completed in silence."""
    nodes = {"a": DAGNode(id="a", next=["b"]), "b": DAGNode(id="b", deps=["a"], pending=1)}
    run = ParallelExecutor(DAG(nodes=nodes, edges={"a": ["b"], "b": []}), policy=RunPolicy())
    assert set(run.states) == {"a", "b"}
    assert run.next(Begin(0)) == [Start("a", 1)]
    assert run.next(Ended("a", 1, TaskState.COMPLETED)) == [Start("b", 1)]


@pytest.mark.parametrize("known_as", ["completed", "failed", "skipped", "held"])
def test_a_task_that_is_not_in_the_graph_is_refused_up_front_Z17(planner, known_as):
    """Fixed: not a deadlock after everything else has run."""
    with pytest.raises(TaskNotFoundError, match="'ghost'"):
        planner({"a": []}, **{known_as: ["ghost"]})


def test_a_task_that_nobody_knows_cannot_end_and_does_not_fail_the_run_Q7(planner):
    """Decided: the planner names tasks of its graph only; a report on another one is refused and changes nothing."""
    run = planner({"a": []})
    assert run.next(Begin(0)) == [Start("a", 1)]
    with pytest.raises(TaskNotFoundError, match="'ghost'"):
        run.next(Ended("ghost", 1, TaskState.COMPLETED))
    assert run.next(Ended("a", 2, TaskState.COMPLETED)) == [Finish(RunState.COMPLETED, None)]


# --- the document ----------------------------------------------------------------------------------------------------


def rows():
    """Row id, tag and tests of each line of the document's tables."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text("utf-8").splitlines()
        if re.match(r"\| [A-Z]\d", line)
    ]
    return [(row, tag, re.findall(r"`([^`]+::[^`]+)`", tests)) for row, tag, _, tests in cells]


@cache
def sources_in(file):
    """The tests of a file by name, with their decorators."""
    [path] = TESTS.rglob(file)
    text = path.read_text("utf-8")
    return {
        node.name: "\n".join(
            text.splitlines()[min(each.lineno for each in [node, *node.decorator_list]) - 1 : node.end_lineno]
        )
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_the_document_lists_every_row_once():
    listed = [row for row, _, _ in rows()]
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == ROWS


def test_every_row_is_kept_fixed_or_decided():
    assert {row for row, tag, _ in rows() if tag not in TAGS} == set()


def test_every_row_has_a_test_that_exists_and_names_it():
    wrong = []
    for row, _, tests in rows():
        sources = [sources_in(file).get(name) for file, _, name in (test.partition("::") for test in tests)]
        if not sources or None in sources:
            wrong.append((row, tests))
        elif not any(re.search(rf"(?<![A-Za-z0-9]){row}(?![0-9A-Za-z])", source) for source in sources):
            wrong.append((row, "not named by its tests"))
    assert wrong == []
