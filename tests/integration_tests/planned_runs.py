"""Runs of prompts that are planned before they are paid: what ``bench_plan`` and the tests of plans stand on.

A provider on loopback answers real clients. How long a reply is depends on what is asked, and on chance.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from loopback_answers import Writer
from loopback_provider import LoopbackProvider, serving
from loopback_requests import Asked
from loopback_tills import MODELS, client

from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.graph import RunGraph, RunPlan

EARLIER = 3
"""Runs that a plan learns from."""

SIGMA = 0.15
"""Of the log-normal factor by which the length of each reply differs from what is usual, unless told otherwise."""

USUAL_TOKENS = {
    "Outline": 150,
    "Write": 400,
    "Criticise": 200,
    "Revise": 400,
    "Name": 12,
    "Translate": 400,
    "Summarise": 90,
    "Merge": 350,
}
"""Length of a reply by the first word of what is asked."""

CAP = 1_000
"""Most tokens of a reply."""

PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic"}

_WORDS = """
after all among and are as before between both but by called can carry each early every few first for from given had
has have house how in into is it its known large last later light little long made many market may more most much must
near never new no not number of often old on one only open or other out over own part people place point right river
road said same second set several she short show side since small some sound south still stone street such table than
that the their them then there these they thing this those through time to town turn two under until up upon use very
water way well were what when where which while who why with without word work world would year yet
""".split()  # noqa: SIM905 - a word a line would bury the code


def prose(chance: random.Random, size: int) -> str:
    """Common words, of so many bytes."""
    words: list[str] = []
    missing = size
    while missing > 0:
        words.append(chance.choice(_WORDS))
        missing -= len(words[-1]) + 1
    return " ".join(words)


@dataclass
class VaryingWriter(Writer):
    """Replies as long as is usual for what is asked, give or take.

    Attributes:
        season: What chance begins from: another one, other replies to the same requests.
        sigma: Of the factor of chance.
    """

    season: str = ""
    sigma: float = SIGMA

    def _whole_text(self, asked: Asked, digest: str) -> str:
        chance = random.Random(f"{self.season} {digest}")
        usual = USUAL_TOKENS[asked.read[-1].partition(" ")[0]]
        return prose(chance, round(usual * math.exp(chance.gauss(0, self.sigma)) * self.bytes_per_token))


@dataclass(frozen=True)
class Scene:
    """A graph of prompts, and what it is given.

    Attributes:
        build: Adds the tasks.
        parts: Paragraphs of the text of a run, by the number of the run.
        told: The ``for_each`` task whose number of items the plan is told; empty to let it find out.
    """

    build: Callable[[RunGraph], object]
    parts: Callable[[int], int]
    told: str = ""

    def inputs(self, number: int) -> dict[str, Any]:
        """Those of a run: each has a text of its own."""
        chance = random.Random(number)
        return {"text": "\n\n".join(prose(chance, chance.randint(200, 500)) for _ in range(self.parts(number)))}

    def items(self, number: int) -> dict[str, int]:
        """What the plan of a run is told of its lists."""
        return {self.told: self.parts(number)} if self.told else {}


def _chain(graph: RunGraph) -> None:
    graph.add_task("outline", prompt="Outline an essay on this: {text}")
    graph.add_task("draft", prompt="Write the essay. Outline: {outline} Source: {text}", deps=["outline"])
    graph.add_task("critique", prompt="Criticise this essay: {draft}", deps=["draft"])
    graph.add_task("essay", prompt="Revise the essay {draft} as said: {critique}", deps=["draft", "critique"])
    graph.add_task("title", prompt="Name this essay: {essay}", deps=["essay"])
    graph.add_task("translation", prompt="Translate {essay}, whose title is {title}", deps=["essay", "title"])


def _fan_out(graph: RunGraph) -> None:
    _parts(graph)
    graph.add_task("summaries", prompt="Summarise this: {part}", deps=["parts"], for_each=_EACH_PART)


def _map_reduce(graph: RunGraph) -> None:
    _fan_out(graph)
    graph.add_task("merged", prompt="Merge these summaries: {summaries}", deps=["summaries"])
    graph.add_task("title", prompt="Name this: {merged}", deps=["merged"])


def _parts(graph: RunGraph) -> None:
    graph.add_task("parts", lambda inputs: inputs["text"].split("\n\n"))


_EACH_PART = ForEach(task="parts", as_="part")

SCENES: Mapping[str, Scene] = {
    "chain": Scene(_chain, parts=lambda number: 2 + number % 4),
    "fan-out": Scene(_fan_out, parts=lambda number: 12),
    "map-reduce": Scene(_map_reduce, parts=lambda number: (9, 14, 11, 20, 16)[number % 5], told="summaries"),
}


@dataclass
class Rehearsal:
    """A scene, and a provider of its own.

    Attributes:
        scene: What is run.
        api: Whose model answers: ``chat``, ``responses`` or ``messages``.
        provider: Answers and bills.
        writer: How it answers.
        options: How the graph is compiled.
    """

    scene: Scene
    api: str
    provider: LoopbackProvider
    writer: VaryingWriter
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        model = f"{PROVIDERS[self.api]}:{MODELS[self.api]}"
        cap = "max_tokens" if self.api == "messages" else "max_completion_tokens"
        graph = RunGraph(RunPolicy(max_parallelism=4), model=model, name="planned")
        self.scene.build(graph)
        clients = {model: client(self.provider, self.api, **{cap: CAP})}
        self.compiled = graph.compile(models=clients, **self.options)

    def plan(self, number: int) -> RunPlan:
        """What the run with the inputs of that number would do and cost."""
        return self.compiled.plan(self.scene.inputs(number), items=self.scene.items(number))

    async def run(self, number: int, season: int = 0) -> Decimal:
        """Carry it out; gives what the provider bills for it, in USD."""
        self.writer.season = f"{self.api} {number} {season}"
        before = self.provider.bill
        await self.compiled.ainvoke({"inputs": self.scene.inputs(number)})
        return self.provider.bill - before


@contextmanager
def rehearsal(scene: str, api: str, folder: Path, *, sigma: float = SIGMA, **options: Any) -> Iterator[Rehearsal]:
    """A scene on a provider of its own, which keeps its log in ``folder``; options are those of ``compile``."""
    writer = VaryingWriter(sigma=sigma)
    with serving(folder / f"{scene} {api}.jsonl", writer=writer) as provider:
        yield Rehearsal(SCENES[scene], api, provider, writer, options)
