"""The LangGraph face: describe a DAG with ``RunGraph``, run it as a graph with ``CompiledRunGraph``."""

from langchain_runtime.graph.compiled import CompiledRunGraph
from langchain_runtime.graph.plan import PlannedTask, RunPlan
from langchain_runtime.graph.run_graph import RunGraph
from langchain_runtime.graph.what_if_result import ChangedTask, WhatIf

__all__ = ["ChangedTask", "CompiledRunGraph", "PlannedTask", "RunGraph", "RunPlan", "WhatIf"]
