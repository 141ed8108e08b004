from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from langchain_runtime.contracts.run import DAG, RunPolicy, Task
from langchain_runtime.orchestration import DependencyResolver, ParallelExecutor

Graph = Callable[[Mapping[str, Sequence[str]]], DAG]


@pytest.fixture
def graph() -> Graph:
    """Build a DAG from ``{task: dependencies}``."""

    def build(deps: Mapping[str, Sequence[str]]) -> DAG:
        return DependencyResolver().build([Task(id=task_id, deps=list(needed)) for task_id, needed in deps.items()])

    return build


@pytest.fixture
def planner(graph: Graph) -> Callable[..., ParallelExecutor]:
    """Build a planner from ``{task: dependencies}``; keywords of the policy and of the planner may be mixed."""

    def build(deps: Mapping[str, Sequence[str]], **keywords: Any) -> ParallelExecutor:
        policy = {name: keywords.pop(name) for name in list(keywords) if name in RunPolicy.model_fields}
        return ParallelExecutor(graph(deps), policy=RunPolicy(**policy), random=lambda: 1.0, **keywords)

    return build
