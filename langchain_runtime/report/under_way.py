"""A run that another process carries out: what its journal says of the tasks that have not ended."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_runtime.contracts.events import (
    LifecycleEvent,
    RunEnded,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskStarted,
    TaskSuspended,
)
from langchain_runtime.contracts.run import Run, Task, TaskState


def under_way(run: Run, events: Iterable[LifecycleEvent]) -> Run:
    """The run with its tasks ready and running by its journal; a process that died leaves them so.

    Args:
        run: By its outcomes.
        events: Its journal.
    """
    latest: dict[str, TaskReady | TaskStarted] = {}
    for event in events:
        match event:
            case RunStarted() | RunEnded():
                latest.clear()
            case TaskReady() | TaskStarted():
                latest[event.task] = event
            case TaskFinished() | TaskSuspended():
                latest.pop(event.task, None)
            case _:
                pass
    tasks = {
        task_id: _moved(task, latest[task_id]) if task_id in latest and not task.state.ended else task
        for task_id, task in run.tasks.items()
    }
    return run.model_copy(update={"tasks": tasks})


def _moved(task: Task, event: TaskReady | TaskStarted) -> Task:
    if isinstance(event, TaskReady):
        return task.model_copy(update={"state": TaskState.READY})
    return task.model_copy(
        update={
            "state": TaskState.RUNNING,
            "started_at": task.started_at or event.at,
            "attempts": event.attempt,
            "model": event.model or task.model,
        }
    )
