"""Runs in processes that are killed and taken up again: what the crash tests and ``bench_crash`` stand on.

The upper half is such a process. It carries a run on from wherever the last one left it, as a program does that knows
the last one to be dead. The lower half starts processes, kills them, and reads from outside what they left behind.
Processes are forked by a server that has imported everything: to start one takes milliseconds.
"""

import asyncio
import hashlib
import inspect
import json
import multiprocessing
import os
import random
import re
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache, partial, wraps
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from langchain.agents import create_agent
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Balance, Reservation, ReservationState
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.cost import default_catalog
from langchain_runtime.cost.encodings import load_encoding
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import SqliteLedger

RUN_ID = "crash"
CONFIG: RunnableConfig = {"configurable": {"thread_id": RUN_ID, "run_id": RUN_ID, "continue_run": True}}
MODEL = "gpt-4o-mini"
LATENCY = 0.05
"""Seconds that the provider takes for a reply, the same for all: calls that start together end together."""

PATIENCE = 60
"""Seconds after which a process is taken to hang."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

# Forks inherit what takes long to read.
load_encoding("o200k_base")
default_catalog()


@cache
def start_server() -> None:
    """Start the server of forks so that it finds this module: before Python 3.13 it does not get our path."""
    given = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), given]))
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if given is not None:
            os.environ["PYTHONPATH"] = given


@dataclass(frozen=True)
class Site:
    """Where a run keeps its files, and who answers its prompts."""

    folder: Path
    base_url: str

    @property
    def ledger(self) -> Path:
        """Books and journal."""
        return self.folder / "ledger.db"

    @property
    def checkpoints(self) -> Path:
        """LangGraph's."""
        return self.folder / "checkpoints.db"

    @property
    def trail(self) -> Path:
        """What bodies write about themselves: a line ``process begin|end place`` each."""
        return self.folder / "trail"


@dataclass(frozen=True)
class Order:
    """What one process is to do.

    Attributes:
        site: Where.
        scene: Which graph: a name in ``SCENES``.
        number: How many processes have had the run before.
        answer: To the question at which the run stands still; None where there is none.
        halts: Places in bodies where the process stops for good; ``"output"`` is the return of the graph.
        sync: Whether it calls ``invoke``.
        mode: As for ``compile``.
        policy: Fields of the run's policy.
    """

    site: Site
    scene: str = "lanes"
    number: int = 0
    answer: Any = None
    halts: frozenset[str] = frozenset()
    sync: bool = False
    mode: Any = "dataflow"
    policy: Mapping[str, Any] = field(default_factory=dict)


# --- the process -----------------------------------------------------------------------------------------------------


class Stage:
    """What the bodies of a process share."""

    def __init__(self, order: Order, report: Connection) -> None:
        self._order = order
        self._report = report
        self._steps = 0
        self._counting = threading.Lock()
        self.model = ChatOpenAI(model=MODEL, base_url=order.site.base_url, api_key="none", max_tokens=60)

    def policy(self, **fields: Any) -> RunPolicy:
        """Of the run; the order may say otherwise."""
        return RunPolicy(**{**fields, **self._order.policy})

    def begin(self, place: str) -> None:
        """A body has begun; it goes no further where the process is to stop."""
        self._leave("begin", place)
        self.halt(place)

    def end(self, place: str) -> None:
        """A body is about to return."""
        self._leave("end", place)

    def halt(self, place: str) -> None:
        """Stop for good, if it is to be here. The thread, not the process: what others have begun goes on."""
        if place in self._order.halts:
            self._report.send(("halted", place))
            threading.Event().wait()

    def steps(self, thing: Any, *names: str) -> Any:
        """The object, of which each return of these methods is a step: the process may stop after any of them."""
        for name in names:
            method = getattr(thing, name)
            setattr(
                thing, name, self._async_step(method) if inspect.iscoroutinefunction(method) else self._step(method)
            )
        return thing

    def _step(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self._count_step()
            return result

        return call

    def _async_step(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await method(*args, **kwargs)
            self._count_step()
            return result

        return call

    def _count_step(self) -> None:
        with self._counting:
            self._steps += 1
            step = f"step-{self._steps}"
        self.halt(step)

    def _leave(self, what: str, place: str) -> None:
        trail = os.open(self._order.site.trail, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(trail, f"{self._order.number} {what} {place}\n".encode())
        os.close(trail)


SLOTS, ROUNDS = 4, 3
REST = 0.03
"""Seconds for which all lanes do nothing, so that they end in the same instant."""


def lanes() -> dict[str, tuple[str, list[str]]]:
    """Task -> kind and dependencies of a DAG whose branches end together, several times over."""
    tasks: dict[str, tuple[str, list[str]]] = {}
    before: list[str] = []
    for turn in range(ROUNDS):
        asked = [f"{'talk' if lane == 0 else 'prompt'}-{turn}-{lane}" for lane in range(SLOTS)]
        noted = [f"note-{turn}-{lane}" for lane in range(SLOTS)]
        rested = [f"rest-{turn}-{lane}" for lane in range(SLOTS)]
        tasks |= {task_id: (task_id.partition("-")[0], before) for task_id in asked}
        tasks |= {task_id: ("note", [asked[lane]]) for lane, task_id in enumerate(noted)}
        tasks |= dict.fromkeys(rested, ("rest", noted))
        before = rested
    return tasks | {"end": ("note", before)}


LANES = lanes()
STEPS = len(LANES) + 2 * ROUNDS
"""Bodies that end and different requests that are served: of a talk there are three."""


def question(task_id: str) -> str:
    """The prompt of a task, by which its requests are known."""
    return f"Task {task_id}: what follows from it?"


def digest(inputs: Mapping[str, Any]) -> str:
    """What a function makes of its inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def note(stage: Stage, task_id: str, inputs: Mapping[str, Any]) -> str:
    """A body with an effect."""
    stage.begin(task_id)
    noted = digest(inputs)
    stage.end(task_id)
    return noted


async def rest(stage: Stage, task_id: str, inputs: Mapping[str, Any]) -> str:
    """A body that ends when its siblings do."""
    stage.begin(task_id)
    await asyncio.sleep(REST)
    stage.end(task_id)
    return digest(inputs)


def talk(stage: Stage, task_id: str, inputs: Mapping[str, Any]) -> str:
    """A body that makes two calls, the second about the reply to the first."""
    stage.begin(task_id)
    model = with_budget(stage.model, None)
    first = model.invoke(f"{digest(inputs)} {question(task_id)}").text
    second = model.invoke(f"{first} {question(task_id)}").text
    stage.end(task_id)
    return second


BODIES: Mapping[str, Callable[[Stage, str, Mapping[str, Any]], Any]] = {"note": note, "rest": rest, "talk": talk}


def _lanes(stage: Stage) -> RunGraph:
    graph = RunGraph(stage.policy(max_parallelism=SLOTS, budget_limit=Cost.usd(1)), model=stage.model)
    for task_id, (kind, deps) in LANES.items():
        if kind == "prompt":
            graph.add_task(task_id, prompt=question(task_id), deps=deps)
        else:
            graph.add_task(task_id, partial(BODIES[kind], stage, task_id), deps=deps)
    return graph


def _few(stage: Stage) -> RunGraph:
    """One task of each kind; their writes are few enough to die after each of them."""
    graph = RunGraph(stage.policy(budget_limit=Cost.usd(1)), model=stage.model)
    graph.add_task("note", partial(note, stage, "note"))
    graph.add_task("prompt", prompt=question("prompt"), deps=["note"])
    return graph.add_task("talk", partial(talk, stage, "talk"), deps=["note"])


def _tool(stage: Stage) -> Callable[[str], str]:
    used = 0

    def look_up(word: str) -> str:
        """Look a word up."""
        nonlocal used
        used += 1
        stage.begin(f"use-{used}")
        return f"{word} is a word"

    return look_up


def _agent_prompt(stage: Stage) -> RunGraph:
    graph = RunGraph(stage.policy(budget_limit=Cost.usd(1)), model=stage.model)
    return graph.add_task("agent", prompt=question("agent"), tools=[_tool(stage)])


def _agent_body(stage: Stage) -> RunGraph:
    agent = create_agent(with_budget(stage.model, None), [_tool(stage)])
    graph = RunGraph(stage.policy(budget_limit=Cost.usd(1)), inputs=_messages())
    return graph.add_task("agent", agent)


def _agent_in_a_function(stage: Stage) -> RunGraph:
    agent = create_agent(with_budget(stage.model, None), [_tool(stage)])
    graph = RunGraph(stage.policy(budget_limit=Cost.usd(1)), inputs=_messages())
    return graph.add_task("agent", agent.invoke)


def _messages() -> dict[str, Any]:
    return {"messages": [["user", question("agent")]]}


PROMPTS = [f"p{number}" for number in range(9)]
BEFORE_GATE = 5


def _top_up(stage: Stage) -> RunGraph:
    """Prompts that cost the same each, and a body that costs nothing among them."""
    policy = stage.policy(max_parallelism=2, on_exceed="interrupt")
    graph = RunGraph(policy, model=stage.model)
    for number, task_id in enumerate(PROMPTS):
        deps = ["gate"] if number >= BEFORE_GATE else []
        prompt = f"{question(task_id)} {'{gate}' if deps else 'open'}"
        graph.add_task(task_id, prompt=prompt, deps=deps, priority=len(PROMPTS) - number)
    return graph.add_task("gate", partial(_gate, stage), deps=PROMPTS[:BEFORE_GATE])


def _gate(stage: Stage, _: Mapping[str, Any]) -> str:
    stage.begin("gate")
    stage.end("gate")
    return "open"


SCENES: Mapping[str, Callable[[Stage], RunGraph]] = {
    "lanes": _lanes,
    "few": _few,
    "agent of a prompt": _agent_prompt,
    "agent as a body": _agent_body,
    "agent in a function": _agent_in_a_function,
    "top-up": _top_up,
}


def carry_on(order: Order, report: Connection) -> None:
    """Carry the run on, and report ``("ended", outputs)``, ``("asked", question)`` or ``("failed", traceback)``."""
    stage = Stage(order, report)
    try:
        if order.sync:
            _invoke(order, stage, report)
        else:
            asyncio.run(_ainvoke(order, stage, report))
    except BaseException:
        report.send(("failed", traceback.format_exc()))
        raise


def _invoke(order: Order, stage: Stage, report: Connection) -> None:
    with SqliteSaver.from_conn_string(str(order.site.checkpoints)) as plain, closing(_ledger(order, stage)) as ledger:
        saver = stage.steps(plain, "put", "put_writes")
        graph = SCENES[order.scene](stage).compile(checkpointer=saver, ledger=ledger, mode=order.mode)
        output = graph.invoke(_given(order, graph.get_state(CONFIG).created_at), CONFIG)
        report.send(_news(output))
        stage.halt("output")


async def _ainvoke(order: Order, stage: Stage, report: Connection) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(order.site.checkpoints)) as plain:
        saver = stage.steps(plain, "aput", "aput_writes")
        with closing(_ledger(order, stage)) as ledger:
            graph = SCENES[order.scene](stage).compile(checkpointer=saver, ledger=ledger, mode=order.mode)
            output = await graph.ainvoke(_given(order, (await graph.aget_state(CONFIG)).created_at), CONFIG)
            report.send(_news(output))
            stage.halt("output")


def _ledger(order: Order, stage: Stage) -> SqliteLedger:
    ledger = SqliteLedger(order.site.ledger)
    ledger.abandon(RUN_ID)  # whoever had the run before is dead: nobody has to wait until its leases run out
    writes = ("open_scope", "reserve", "mark_sent", "settle", "release", "record_outcome", "append_events", "top_up")
    return stage.steps(ledger, *writes)


def _given(order: Order, begun: Any) -> Any:
    if order.answer is not None:
        return Command(resume=order.answer)
    return None if begun else {"inputs": {}}


def _news(output: Mapping[str, Any]) -> tuple[str, Any]:
    if asked := output.get("__interrupt__"):
        return "asked", asked[0].value
    return "ended", {task_id: result.output for task_id, result in output["results"].items()}


# --- seen from outside -----------------------------------------------------------------------------------------------


class Execution:
    """A process that has a run in its hands; killed at the end of the block, if not before."""

    def __init__(self, target: Callable[[Order, Connection], None], order: Order) -> None:
        start_server()
        self._news, report = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=target, args=(order, report), daemon=True)
        self._process.start()
        report.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._news.close()

    def wait_for(self, kind: str) -> Any:
        """What the process reports next, which must be of that kind."""
        found, news = self.report()
        assert found == kind, f"{found}: {news}"
        return news

    def report(self) -> tuple[str, Any]:
        """What the process reports next, and of what kind it is."""
        assert self._news.poll(PATIENCE), f"nothing was reported in {PATIENCE} s"
        found, news = self._news.recv()
        return found, news

    @property
    def has_news(self) -> bool:
        """Whether ``report`` would return at once."""
        return self._news.poll()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Look again and again until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, f"not reached in {PATIENCE} s"
            assert not self.has_news or self.wait_for("halted")
            time.sleep(0.003)

    def kill(self) -> None:
        """``kill -9``, of a process that is alive."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL, "it had ended before it was killed"


@dataclass(frozen=True)
class Moment:
    """When a process is killed: so many seconds after so many steps of the run."""

    steps: int
    later: float


def moments(chance: random.Random, count: int) -> list[Moment]:
    """Random ones, spread over all of the run."""
    steps = sorted(int(STEPS * (number + chance.random()) / count) for number in range(count))
    return [Moment(step, chance.uniform(0, 2 * LATENCY)) for step in steps]


@dataclass(frozen=True)
class Trail:
    """What bodies have written about themselves."""

    lines: tuple[tuple[int, str, str], ...]

    @classmethod
    def of(cls, site: Site) -> Self:
        """As it is now."""
        text = site.trail.read_text() if site.trail.exists() else ""
        words = (line.split() for line in text.splitlines())
        return cls(tuple((int(number), what, place) for number, what, place in words))

    def left(self) -> Counter[str]:
        """How often each place was left."""
        return Counter(place for _, what, place in self.lines if what == "end")

    def run_again(self) -> int:
        """How often a place was entered by a later process than one that had left it."""
        left_by: dict[str, int] = {}
        for number, what, place in self.lines:
            if what == "end":
                left_by.setdefault(place, number)
        return sum(what == "begin" and number > left_by.get(place, number) for number, what, place in self.lines)

    def begun(self, *, after: int = -1) -> Counter[str]:
        """How often each place was entered, by processes after that one."""
        return Counter(place for number, what, place in self.lines if what == "begin" and number > after)


def task_of(request: Mapping[str, Any]) -> str:
    """The task that a request belongs to."""
    return re.findall(r"Task ([\w-]+):", request["prompt"])[-1]


@dataclass(frozen=True)
class Books:
    """What the ledger holds of the run.

    Attributes:
        finished: Tasks that have completed, by the journal.
        reservations: All, oldest first.
        balance: The run's account; None before it was opened.
    """

    finished: frozenset[str]
    reservations: tuple[Reservation, ...]
    balance: Balance | None

    @classmethod
    def of(cls, site: Site) -> Self:
        """As they are now."""
        with closing(SqliteLedger(site.ledger)) as ledger:
            finished = {task for task, outcome in ledger.outcomes(RUN_ID).items() if outcome.state == "completed"}
            balances = ledger.balances(f"run:{RUN_ID}")
            return cls(frozenset(finished), tuple(ledger.reservations(RUN_ID)), balances[0] if balances else None)

    @property
    def spent(self) -> Decimal:
        """The amount on the run's account."""
        return Decimal(0) if self.balance is None else self.balance.spent.amount

    def count(self, state: ReservationState) -> Counter[str]:
        """Reservations in a state, by task."""
        return Counter(str(each.hold.task_id) for each in self.reservations if each.state is state)

    def ids(self, state: ReservationState) -> frozenset[str]:
        """The reservations in a state."""
        return frozenset(each.hold.id for each in self.reservations if each.state is state)

    def under_way(self) -> int:
        """Calls that were sent, and of which nobody knows what became."""
        return self.count(ReservationState.SENT).total()

    def charged(self, task_id: str) -> Decimal:
        """What a task has cost."""
        nano = sum(each.charged_nano or 0 for each in self.reservations if each.hold.task_id == task_id)
        return Decimal(nano).scaleb(-9)


@dataclass(frozen=True)
class Served:
    """What the provider has generated.

    Attributes:
        requests: How many, by task.
        different: How many different ones, by task.
        bills: USD, by task.
    """

    requests: Counter[str]
    different: Counter[str]
    bills: Mapping[str, Decimal]

    @classmethod
    def by(cls, provider: Any) -> Self:
        """As of now."""
        rows = provider.served
        bills: Counter[str] = Counter()
        for row in rows:
            bills[task_of(row)] += row["nano"]
        return cls(
            Counter(map(task_of, rows)),
            Counter(map(task_of, {row["prompt"]: row for row in rows}.values())),
            {task_id: Decimal(nano).scaleb(-9) for task_id, nano in bills.items()},
        )


LAST = frozenset({"end"})
"""Where a process stops that is still to be killed: none finishes before."""


def steps(site: Site, provider: Any) -> int:
    """How far a run of the lanes has come; see ``STEPS``."""
    bodies = {place for place in Trail.of(site).left() if place in LANES and LANES[place][0] != "prompt"}
    return len(bodies) + Served.by(provider).different.total()


def kill_at(
    when: Sequence[Moment], target: Callable[[Order, Connection], None], order: Order, provider: Any
) -> Iterator[None]:
    """Start processes one after another and kill each at its moment; yields when one is dead."""
    for number, moment in enumerate(when):
        with Execution(target, replace(order, number=number, halts=LAST)) as execution:
            execution.wait_until(lambda: steps(order.site, provider) >= moment.steps)  # noqa: B023 - called in this turn only
            time.sleep(moment.later)  # not a wait for something: the random moment itself
            execution.kill()
        yield


@dataclass(frozen=True)
class Remains:
    """What there was when a process was dead."""

    books: Books
    served: Served

    @classmethod
    def of(cls, site: Site, provider: Any) -> Self:
        """As it is now."""
        return cls(Books.of(site), Served.by(provider))


@dataclass(frozen=True)
class Story:
    """A run whose processes were killed, and that was finished in the end.

    Attributes:
        outputs: What it returned.
        kills: What each kill left behind.
        books: In the end.
        served: In the end.
        trail: In the end.
    """

    outputs: dict[str, Any]
    kills: tuple[Remains, ...]
    books: Books
    served: Served
    trail: Trail

    @property
    def bill(self) -> Decimal:
        """The provider's."""
        return sum(self.served.bills.values(), Decimal(0))

    def run_again(self) -> set[str]:
        """Finished tasks of which a body was entered, money reserved or a request served after that."""
        again: set[str] = set()
        now_held = Counter(each.hold.task_id for each in self.books.reservations)
        for number, left in enumerate(self.kills):
            then_held = Counter(each.hold.task_id for each in left.books.reservations)
            begun = self.trail.begun(after=number)
            again |= {
                task_id
                for task_id in left.books.finished
                if begun[task_id]
                or now_held[task_id] > then_held[task_id]
                or self.served.requests[task_id] > left.served.requests[task_id]
            }
        return again

    def bought_again(self) -> Counter[str]:
        """Replies that were settled more than once, by task: each different request is one reply."""
        return self.books.count(ReservationState.SETTLED) - self.served.different

    def asked_again(self) -> int:
        """Requests that were served for the second time or oftener."""
        return self.served.requests.total() - self.served.different.total()


def tell(order: Order, provider: Any, when: Sequence[Moment]) -> Story:
    """Kill the run at each of the moments, then let it finish."""
    deaths = kill_at(when, carry_on, order, provider)
    return finish(order, provider, [Remains.of(order.site, provider) for _ in deaths])


def finish(order: Order, provider: Any, kills: Sequence[Remains] = ()) -> Story:
    """Let one more process finish the run."""
    with Execution(carry_on, replace(order, number=len(kills), halts=frozenset())) as last:
        outputs = last.wait_for("ended")
    return Story(outputs, tuple(kills), Books.of(order.site), Served.by(provider), Trail.of(order.site))
