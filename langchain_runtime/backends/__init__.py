"""Where the body of a task runs: in this process."""

from langchain_runtime.backends.in_process import InProcessBackend
from langchain_runtime.backends.task_body import TaskBody, TaskRuntime, as_body

__all__ = ["InProcessBackend", "TaskBody", "TaskRuntime", "as_body"]
