"""Which run and task a call belongs to, for LangSmith and all callbacks: in the metadata of what a body calls."""

from __future__ import annotations

from typing import Final

from langchain_core.runnables.config import var_child_runnable_config

from langchain_runtime.contracts.job import TaskJob

RUN_ID: Final = "lcr_run_id"
TASK_ID: Final = "lcr_task_id"


def name_in_traces(job: TaskJob) -> None:
    """Add the job's run and task to the metadata that Runnables inherit in this context, which is one body's."""
    config = var_child_runnable_config.get() or {}
    metadata = {**config.get("metadata", {}), RUN_ID: job.run_id, TASK_ID: job.task_id}
    var_child_runnable_config.set({**config, "metadata": metadata})
