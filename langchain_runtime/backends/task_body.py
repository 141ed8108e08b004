"""What a task can do: call a model with a prompt, run a Runnable, or call a function."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from pydantic import JsonValue, ValidationError

from langchain_runtime.adapters.account import BudgetScope
from langchain_runtime.backends.daemon_threads import run_in_daemon_thread
from langchain_runtime.backends.json_values import as_result, to_json
from langchain_runtime.backends.run_memory import RunMemory
from langchain_runtime.context import variables
from langchain_runtime.contracts.errors import InvalidInputError, TaskFailedError, TaskResultNotSerializableError
from langchain_runtime.contracts.identifiers import check_task_id
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import EnqueuedTask, TaskResult


@dataclass(frozen=True)
class TaskRuntime:
    """What a body may ask about the run it is in; passed to functions that take a second parameter.

    Attributes:
        run_id: The run.
        task_id: The task.
        attempt: 1 for the first try.
        memory: Key-value memory shared by the run's tasks.
        stream: Writes a JSON value to the graph's ``custom`` stream.
        budget: The run's budget, to look at: ``spent``, ``held``, ``remaining`` and ``limit``, read when asked for.
    """

    run_id: str
    task_id: str
    attempt: int
    memory: RunMemory
    stream: Callable[[Any], None]
    budget: BudgetScope
    _additions: Additions

    def enqueue(
        self,
        id: str,  # noqa: A002 - the word of add_task
        *,
        prompt: str | None = None,
        like: str | None = None,
        deps: Sequence[str] | Mapping[str, str] = (),
        inputs: Mapping[str, Any] | None = None,
        model: str | None = None,
        priority: int = 0,
        max_output_tokens: int | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        """Add a task to the run, once this body has returned; nothing is added if it fails. From any thread.

        The new task waits for this one and for ``deps``. What only the run can see, such as an id that is taken, fails
        this task when its body has returned.

        Args:
            id: Unique in the run.
            prompt: f-string template; its variables are inputs, of the run and the task's own, and ``deps``.
            like: Task of the graph to do again: its body or prompt, model and settings, but not its dependencies,
                ``when`` and ``for_each``. Instead of a prompt.
            deps: Tasks whose outputs it receives, of the graph or enqueued by this body, or this task itself; as for
                ``add_task``.
            inputs: Values for it alone, over the run's inputs. A prompt's model sees those that it does not name, too.
            model: ``provider:name``; None for the graph's, or that of ``like``.
            priority: Larger starts earlier among the tasks that this body adds.
            max_output_tokens: Cap on the reply; None for that of ``like``.
            timeout_ms: For one attempt; None for that of ``like``, or the policy's.

        Raises:
            InvalidInputError: The task cannot be as described, or the body of this one is over.
        """
        self._additions.add(
            _described(
                id,
                prompt=prompt,
                like=like,
                deps=deps,
                inputs=inputs or {},
                model=model,
                priority=priority,
                max_output_tokens=max_output_tokens,
                timeout_ms=timeout_ms,
            )
        )


class Additions:
    """Tasks that one body adds to its run, from any of its threads.

    Args:
        task_id: The body's task.
    """

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id
        self._tasks: dict[str, EnqueuedTask] = {}
        self._closed = False
        self._lock = threading.Lock()

    def add(self, task: EnqueuedTask) -> None:
        """Take in a task.

        Raises:
            InvalidInputError: The body is over, or has added a task of that id.
        """
        with self._lock:
            if self._closed:
                raise InvalidInputError(
                    f"task {task.id!r} cannot be enqueued: task {self._task_id!r} has ended",
                    hint="enqueue before the body returns, and wait for threads of its own that do",
                )
            if task.id in self._tasks:
                raise InvalidInputError(
                    f"task {self._task_id!r} enqueues {task.id!r} twice", hint="give each task an id of its own"
                )
            self._tasks[task.id] = task

    def close(self) -> list[EnqueuedTask]:
        """Everything that was added; nothing more can be."""
        with self._lock:
            self._closed = True
            return list(self._tasks.values())


def _described(
    task_id: str, *, deps: Sequence[str] | Mapping[str, str], inputs: Mapping[str, Any], **rest: Any
) -> EnqueuedTask:
    """The task as the outcome keeps it.

    Raises:
        InvalidInputError: It cannot be as described.
    """
    check_task_id(task_id)
    if (rest["prompt"] is None) is (rest["like"] is None):
        raise InvalidInputError(
            f"task {task_id!r} must be enqueued with either a prompt or a task to be like",
            hint="pass prompt=..., or like= a task of the graph",
        )
    if rest["prompt"] is not None:
        variables(rest["prompt"])
    if isinstance(deps, str):
        raise InvalidInputError(f"deps of task {task_id!r} is the text {deps!r}", hint=f"write deps=[{deps!r}]")
    aliases = dict(deps) if isinstance(deps, Mapping) else {reference: reference for reference in deps}
    if clashing := aliases.keys() & inputs.keys():
        raise InvalidInputError(
            f"task {task_id!r} would receive {min(clashing)!r} both as an input and from a dependency",
            hint='give the dependency another name: deps={"name": "task"}',
        )
    try:
        return EnqueuedTask(id=task_id, deps=aliases, inputs=_as_json(inputs, task_id), **rest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise InvalidInputError(f"task {task_id!r}: {place}: {first['msg']}") from error


def _as_json(inputs: Mapping[str, Any], task_id: str) -> dict[str, JsonValue]:
    plain: dict[str, JsonValue] = {}
    for name, value in inputs.items():
        try:
            plain[name] = to_json(value, task_id=task_id)
        except TaskResultNotSerializableError as error:
            raise InvalidInputError(
                f"task {task_id!r} cannot be enqueued: JSON cannot carry its input {name!r} ({type(value).__name__})",
                hint="pass a string, number, list, dict or pydantic model",
            ) from error
    return plain


@dataclass
class Occupancy:
    """Whether a body still occupies its thread after it was let go; ``on_end`` is called when it ends."""

    on_end: Callable[[], None]
    busy: bool = field(default=False)

    def begin(self) -> None:
        """A thread was started."""
        self.busy = True

    def end(self) -> None:
        """The thread has ended."""
        self.busy = False
        self.on_end()


class TaskBody(Protocol):
    """Something that turns a job into a result; it may raise anything."""

    def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> Coroutine[Any, Any, TaskResult]:
        """Execute the job."""
        ...


def call_arguments(job: TaskJob) -> dict[str, Any]:
    """The keyword arguments with which a prompt calls its model."""
    return {} if job.max_output_tokens is None else {"max_tokens": job.max_output_tokens}


def result_of_reply(reply: Any, *, task_id: str) -> TaskResult:
    """The result of a prompt, from what its model, its agent or its reply format gave."""
    result = as_result(reply, task_id=task_id)
    return result.model_copy(update={"metadata": _facts_of(reply)}) if isinstance(reply, AIMessage) else result


@dataclass(frozen=True)
class PromptBody:
    """One model call over the messages of the job, or an agent's loop where the task has tools.

    Attributes:
        models: What may answer, by the name under which a job asks for it.
        structured: Whether the answer must be an object of the task's reply format.
    """

    models: Mapping[str, Runnable[Any, Any]]
    structured: bool = False

    async def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> TaskResult:  # noqa: ARG002 - the TaskBody interface
        """Call the model."""
        reply = await self.models[str(job.model)].ainvoke(list(job.messages or ()), **call_arguments(job))
        if self.structured and reply is None:
            raise TaskFailedError(
                f"the model of task {job.task_id!r} did not answer in the reply format", task_id=job.task_id
            )
        return result_of_reply(reply, task_id=job.task_id)


@dataclass(frozen=True)
class RunnableBody:
    """Any Runnable: a chain, an agent, a compiled graph. It receives the job's inputs."""

    runnable: Runnable[Any, Any]

    async def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> TaskResult:  # noqa: ARG002 - the TaskBody interface
        """Invoke the Runnable."""
        return as_result(await self.runnable.ainvoke(dict(job.inputs)), task_id=job.task_id)


@dataclass(frozen=True)
class FunctionBody:
    """A function ``fn(inputs)`` or ``fn(inputs, runtime)``, sync or async; sync ones get a thread of their own."""

    function: Callable[..., Any]
    wants_runtime: bool

    @cached_property
    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    async def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> TaskResult:
        """Call the function."""
        arguments = (dict(job.inputs), runtime) if self.wants_runtime else (dict(job.inputs),)
        if self._is_async:
            value = await self.function(*arguments)
        else:
            occupancy.begin()
            value = await run_in_daemon_thread(
                lambda: self.function(*arguments), name=f"lcr-{job.task_id}", on_end=occupancy.end
            )
            if inspect.isawaitable(value):
                value = await value
        return as_result(value, task_id=job.task_id)


def as_body(body: Any) -> TaskBody:
    """Wrap a Runnable or a function.

    Raises:
        InvalidInputError: It is neither, or the function takes other parameters.
    """
    if isinstance(body, Runnable):
        return RunnableBody(body)
    if not callable(body):
        raise InvalidInputError(
            f"a task's body must be a Runnable or a function, got {type(body).__name__}",
            hint="pass prompt=... for a model call",
        )
    return FunctionBody(body, wants_runtime=_takes_runtime(body))


_MOST_PARAMETERS = 2  # inputs and runtime


def _takes_runtime(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = [p for p in positional if p.default is p.empty]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not positional:
        return False
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not positional or len(required) > _MOST_PARAMETERS or keyword_only:
        name = getattr(function, "__name__", repr(function))
        raise InvalidInputError(
            f"a task's function must be fn(inputs) or fn(inputs, runtime); {name}{inspect.signature(function)} is not"
        )
    return len(required) == _MOST_PARAMETERS or (len(positional) > 1 and positional[1].name == "runtime")


def _facts_of(reply: AIMessage) -> dict[str, JsonValue]:
    """What a report should say about a reply: why it ended, and whether our cap cut it."""
    wanted = ("finish_reason", "stop_reason", "model_name", "lcr_capped")
    return {key: reply.response_metadata[key] for key in wanted if key in reply.response_metadata}


def body_name(body: TaskBody | None) -> str:
    """The name of the function or class that does the work, to know it again in another process."""
    match body:
        case FunctionBody(function=function):
            named: Any = function if hasattr(function, "__qualname__") else type(function)
        case RunnableBody(runnable=runnable):
            named = type(runnable)
        case _:
            named = type(body)
    return f"{named.__module__}.{named.__qualname__}"
