"""Mode ``supersteps``: each task is a node of LangGraph's own, with its checkpoints, history, forks and Studio.

::

    prepare -> a -> c -> driver -> finish
            -> b ---^

The nodes decide when a task may start, as LangGraph activates them; everything else is decided by the planner that
also plans the other mode. Its driver works in the background for as long as LangGraph runs the graph, and hands each
task to its node: bodies run there, so that streams, traces and interrupts are the node's own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.types import Interrupt

from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskOutcome
from langchain_runtime.graph.call_ids import number_call, number_of_call, pin_call_ids
from langchain_runtime.graph.execution import Execution
from langchain_runtime.graph.langgraph_tasks import LangGraphTask, async_task, sync_task
from langchain_runtime.graph.open_run import OpenRun, Ways, results_update
from langchain_runtime.graph.own_loop import OwnLoop
from langchain_runtime.graph.run_settings import settings_of
from langchain_runtime.graph.run_view import finish
from langchain_runtime.graph.state import RunGraphState, RunInput, RunOutput
from langchain_runtime.graph.task_calls import LangGraphCalls, RunJob
from langchain_runtime.graph.top_ups import Answer, ask_here

T = TypeVar("T")

_GATHER_SECONDS = 0.5
"""How long the first nodes of a superstep wait for one that does not come, as after a change of the thread. LangGraph
activates nodes one after the other, and only with all of them can the planner start the most urgent task first, and let
humans have all questions at once."""


class Supersteps:
    """Builds the graph, and keeps the sessions of its executions.

    Args:
        execution: Takes runs up.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._sessions: dict[object, Session] = {}
        self._lock = threading.Lock()

    def builder(self, *, raise_on_failure: bool) -> StateGraph[Any, Any, Any, Any]:
        """The graph, not compiled yet."""
        execution, dag = self._execution, self._execution.spec.dag
        builder = StateGraph(RunGraphState, input_schema=RunInput, output_schema=RunOutput)
        builder.add_node("prepare", RunnableLambda(execution.prepare, execution.aprepare, name="prepare"))
        builder.add_node("driver", RunnableLambda(self._close_books, self._aclose_books, name="driver"))
        builder.add_node("finish", partial(finish, execution.spec, raise_on_failure=raise_on_failure))
        builder.add_edge(START, "prepare")
        for task_id in dag.nodes:
            builder.add_node(task_id, self._node(task_id))
        for task_id, node in dag.nodes.items():
            builder.add_edge(list(node.deps) or "prepare", task_id)
        builder.add_edge([task_id for task_id, node in dag.nodes.items() if not node.next] or "prepare", "driver")
        builder.add_edge("driver", "finish")
        builder.add_edge("finish", END)
        return builder

    def end(self, key: object) -> None:
        """The graph has been left, finished or not: nothing of it goes on."""
        session = self._sessions.pop(key, None)
        if isinstance(session, _OwnSession):
            session.stop()

    async def aend(self, key: object) -> None:
        """Async twin of ``end``."""
        session = self._sessions.pop(key, None)
        if session is not None:
            await session.close()

    def _node(self, task_id: str) -> RunnableLambda[Any, dict[str, Any]]:
        def serve(state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
            session = self._session(config)
            return session.run(session.serve(task_id, state, config))

        async def aserve(state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
            return await self._asession(config).serve(task_id, state, config)

        return RunnableLambda(serve, aserve, name=task_id)

    def _close_books(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        session = self._session(config)
        return session.run(session.end_of_run("driver", state, config))

    async def _aclose_books(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        return await self._asession(config).end_of_run("driver", state, config)

    def _session(self, config: RunnableConfig) -> _OwnSession:
        key = settings_of(config).key
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = _OwnSession(self._execution)
            session = self._sessions[key]
            assert isinstance(session, _OwnSession)  # an execution is sync or async as a whole
            return session

    def _asession(self, config: RunnableConfig) -> Session:
        key = settings_of(config).key
        if key not in self._sessions:
            self._sessions[key] = Session(self._execution, async_task)
        return self._sessions[key]


@dataclass(frozen=True)
class _Body:
    """Work for a node: run a task's body, as the call of that number."""

    number: int
    job: TaskJob
    run: RunJob
    reply: asyncio.Future[TaskOutcome]


@dataclass(frozen=True)
class _Question:
    """Work for a node: ask a human."""

    question: dict[str, Any]
    reply: asyncio.Future[Answer]


class Session:
    """One execution: the driver in the background, and a desk for each node that is active.

    Args:
        execution: Takes the run up.
        langgraph_task: For tasks that were made at run time, and have no node of their own: they are called from the
            node of the task that they come from.
    """

    def __init__(self, execution: Execution, langgraph_task: LangGraphTask) -> None:
        self._execution = execution
        self._calls = LangGraphCalls(langgraph_task)
        self._opening = asyncio.Lock()
        self._run: OpenRun | None = None
        self._work: asyncio.Task[dict[str, Any]] | None = None
        self._desks: dict[str, asyncio.Queue[_Body | _Question | None]] = {}
        self._active: list[str] = []
        self._awaited: set[str] = set()
        self._left_over: list[_Body | _Question] = []

    async def serve(self, node: str, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Be the node of a task until it has ended, with all tasks that came from it and wait for no others.

        Raises:
            GraphInterrupt: A human is asked, by this node or by another one.
        """
        run, work = await self._opened(state, config)
        if work.done() or self._is_served(run, node):
            return self._left(run, work, node, ())
        questions = await self._work_at_desk(node, config, opened=partial(self._gather, run, node, state))
        return self._left(run, work, node, questions)

    async def end_of_run(self, node: str, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """What the run has come to, when LangGraph has no more nodes to activate.

        Tasks that wait for what came later than their node are done here; so are those whose node was not activated
        again after somebody changed the thread.
        """
        run, work = await self._opened(state, config)
        if not work.done():
            release_all = partial(run.driver.release, list(self._execution.spec.tasks))
            await self._work_at_desk(node, config, opened=release_all)
        return await work

    async def close(self) -> None:
        """Leave nothing running behind."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})

    async def _work_at_desk(
        self, node: str, config: RunnableConfig, *, opened: Callable[[], None]
    ) -> Sequence[Interrupt]:
        """Do the work that is put on the node's desk until it is dismissed; returns the questions that came up."""
        pin_call_ids(config)
        desk = self._desks[node] = asyncio.Queue()
        left_over, self._left_over = self._left_over, []
        for work in left_over:
            desk.put_nowait(work)
        opened()
        questions: list[Interrupt] = []
        workers: set[asyncio.Task[None]] = set()
        try:
            while (item := await desk.get()) is not None:
                worker = asyncio.create_task(self._do(item, node, questions))
                workers.add(worker)
                worker.add_done_callback(workers.discard)
            if workers:  # tasks of other nodes, which have left
                await asyncio.wait(workers)
        finally:
            del self._desks[node]
            for worker in workers:
                worker.cancel()
        return questions

    # --- ways to LangGraph -------------------------------------------------------------------------------------------

    async def _opened(
        self, state: RunGraphState, config: RunnableConfig
    ) -> tuple[OpenRun, asyncio.Task[dict[str, Any]]]:
        async with self._opening:
            if self._run is None or self._work is None:
                ways = Ways(
                    call_task=self._hand_over,
                    ask=self._ask,
                    answers=self._execution.keeps_answers(config),
                    held=frozenset(self._execution.spec.tasks),
                    gated=True,
                    on_finished=self._note_end,
                )
                self._run = await self._execution.open(state, config, ways)
                self._work = asyncio.create_task(self._run.carry_out())
                self._work.add_done_callback(self._dismiss_all)
            return self._run, self._work

    def _gather(self, run: OpenRun, node: str, state: RunGraphState) -> None:
        """Release the nodes of a superstep together."""
        if not self._active:
            self._awaited = self._superstep(run, state)
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._release, run)
        self._active.append(node)
        self._awaited.discard(node)
        if not self._awaited:
            self._release(run)

    def _superstep(self, run: OpenRun, state: RunGraphState) -> set[str]:
        """The nodes that LangGraph activates, unless somebody has changed the thread: then it is fewer."""
        done = state.get("results") or {}
        return {
            task_id
            for task_id, each in self._execution.spec.dag.nodes.items()
            if task_id not in run.outcomes and all(dependency in done for dependency in each.deps)
        }

    def _release(self, run: OpenRun) -> None:
        if self._active:
            active, self._active = self._active, []
            run.driver.release(active)

    async def _hand_over(self, job: TaskJob, run: RunJob, *, has_asked: bool) -> TaskOutcome:  # noqa: ARG002 - its node knows
        """Let the task's node run the body."""
        reply: asyncio.Future[TaskOutcome] = asyncio.get_running_loop().create_future()
        self._put(job.task_id, _Body(number_of_call(), job, run, reply))
        return await reply

    async def _ask(self, waiting: Sequence[str], question: dict[str, Any]) -> Answer:
        """Let the node of a waiting task ask; its answers are kept there."""
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._put(waiting[0], _Question(question, reply))
        return await reply

    async def _do(self, item: _Body | _Question, node: str, questions: list[Interrupt]) -> None:
        """Do a piece of work in the context of its node."""
        if item.reply.cancelled():
            return
        me = asyncio.current_task()
        assert me is not None
        item.reply.add_done_callback(lambda reply: me.cancel() if reply.cancelled() else None)
        try:
            result = await self._done(item, node)
        except GraphInterrupt as question:
            questions += question.args[0]
            _fail(item.reply, question)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever handed the work over
            _fail(item.reply, error)
        else:
            if not item.reply.done():
                item.reply.set_result(result)

    async def _done(self, item: _Body | _Question, node: str) -> Any:
        if isinstance(item, _Question):
            return await ask_here((), item.question)
        if item.job.task_id == node:
            return await item.run(item.job)
        number_call(item.number)
        return await self._calls(item.job, item.run)

    # --- ends --------------------------------------------------------------------------------------------------------

    def _note_end(self, _task_id: str) -> None:
        if self._run is not None:
            for node in [node for node in self._desks if self._is_served(self._run, node)]:
                self._desks[node].put_nowait(None)

    def _dismiss_all(self, _work: asyncio.Task[dict[str, Any]]) -> None:
        for desk in self._desks.values():
            desk.put_nowait(None)

    def _left(
        self, run: OpenRun, work: asyncio.Task[dict[str, Any]], node: str, questions: Sequence[Interrupt]
    ) -> dict[str, Any]:
        """What a node leaves: the outcomes of its tasks, or a question."""
        if not self._is_served(run, node):
            stands_still = not work.cancelled() and isinstance(work.exception(), GraphInterrupt)
            if stands_still:
                raise GraphInterrupt(tuple(questions))
            work.result()  # raises what the driver raised
        return {"results": results_update(run.outcomes, run.tasks.members(node))}

    def _is_served(self, run: OpenRun, node: str) -> bool:
        """Whether a node may leave: its task has ended, and what came from it, unless that waits for other nodes."""
        if node not in run.outcomes:
            return False
        members = run.tasks.members(node)
        wait_for_others: set[str] = set()
        for task_id in members:
            open_deps = [dep for dep in run.tasks.deps_of(task_id) if dep not in run.outcomes]
            if task_id in run.outcomes:
                continue
            if not any(dep in wait_for_others or dep not in members for dep in open_deps):
                return False
            wait_for_others.add(task_id)
        return True

    def _put(self, task_id: str, item: _Body | _Question) -> None:
        """Put work on the desk of the task's node; if that has left, of any other, or of the next that comes."""
        desk = self._desks.get(self._node_of(task_id)) or next(iter(self._desks.values()), None)
        if desk is None:
            self._left_over.append(item)
        else:
            desk.put_nowait(item)

    def _node_of(self, task_id: str) -> str:
        assert self._run is not None  # tasks are started by its driver
        return self._run.tasks.origin(task_id)


class _OwnSession(Session):
    """A session under ``invoke`` and ``stream``: in an event loop of its own, which LangGraph's threads call."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution, sync_task)
        self._loop = OwnLoop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the loop, in the context of the calling thread."""
        return self._loop.run(work)

    def stop(self) -> None:
        """Close the session and leave its loop."""
        self.run(self.close())
        self._loop.leave()


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
