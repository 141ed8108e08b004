"""Our list prices beside tables that others keep: LiteLLM's, and PriceToken's as a third opinion.

Two tables that agree are not proof of the invoice, and where they differ either may be right: a difference says that
somebody should look at the provider's price page. A price of ours below another's is the dangerous direction, since a
budget could then be overrun; those come first in the rows that are printed.

A model counts as known to both when our catalogue finds a price for the name in the other table. Such a match may
be to a family or an alias, which is what a user who passes that name gets.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from harness import Figure, Row, Skipped, installed

from langchain_runtime.contracts.pricing import ModelInfo, RateCard
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.cost.price_table import find_price

AGREE = "List prices agree with a second table"
PRINTED = {True: 10, False: 60}
"""How many of the differing rates are printed, by ``quick``."""

FIRST_HAND = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "cohere_chat": "cohere",
    "deepseek": "deepseek",
    "gemini": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "xai": "x-ai",
    "zai": "zai",
}
"""Our name of a provider that sets its own prices, by LiteLLM's."""

RESOLD = {
    "azure": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "together_ai": "together",
    "vertex_ai-anthropic_models": "google",
}
"""The same for hosts of other people's models."""

CLAIMED = frozenset({"anthropic", "openai"})
"""Where a price below the second table's is a broken claim: the providers whose clients are tested here."""

MODES = frozenset({"chat", "responses"})
RATES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
"""LiteLLM's name of each rate; dearer ones for long inputs have a suffix."""

UNITS = {field: unit for unit, field in RATES.items()}
BY_REGION = frozenset({"aws", "azure"})
"""Where LiteLLM puts a region before the model (`bedrock/us-gov-west-1/...`, `azure/eu/...`): its own notation, which
is no model's name."""

LONG = re.compile(r"_above_(\d+)k_tokens")
REGION = re.compile(r"(us-gov|us|eu|apac|ap|au|ca|jp|sa)\.")
"""How Bedrock's cross-region names begin (AWS, "Supported cross-Region inference profiles", 2026)."""

NANO_PER_MILLION = 10**15
"""From USD per token to nano-USD per million tokens."""


@dataclass(frozen=True)
class Rate:
    """One rate of one model in two tables, in nano-USD per million tokens.

    Attributes:
        model: As the other table has it, after our name of the provider.
        matched: Whose price our catalogue gives for it.
        unit: One of ``RATES``.
        above: For calls with more input tokens than this.
        flat: Whether ours is the price of shorter calls, too.
        ours: What we charge.
        theirs: What the other table says.
    """

    model: str
    matched: str
    unit: str
    above: int
    flat: bool
    ours: int
    theirs: int

    @property
    def provider(self) -> str:
        return self.model.partition(":")[0]

    @property
    def base(self) -> bool:
        """Whether every call pays it: the price of input or output, without a cache and at any length."""
        return self.unit in {"input", "output"} and not self.above

    def same(self) -> bool:
        return self.ours == self.theirs

    @property
    def below(self) -> bool:
        return self.ours < self.theirs

    @property
    def factor(self) -> float:
        """How far apart the two are; infinite where one is nothing."""
        least, most = sorted((self.ours, self.theirs))
        return most / least if least else float("inf")

    @property
    def why(self) -> str:
        """What can be seen of the cause."""
        name, matched = self.model.partition(":")[2], self.matched.partition(":")[2]
        if self.above and self.flat:
            return "no price of ours for long inputs"
        if REGION.match(name) and not matched.startswith(name):
            return "a regional name, priced as other regions"
        return "the tables differ" if name == matched else "a name that our catalogue takes for another's"

    def __str__(self) -> str:
        where = f" above {self.above:,}" if self.above else ""
        return (
            f"  {self.model} {self.unit}{where}: ours {self.ours / 1e9:g}, theirs {self.theirs / 1e9:g} USD "
            f"per million ({'below' if self.below else 'above'} by {self.factor:.3g}; as {self.matched})"
        )


class Comparison:
    """What another table says of models that our catalogue knows."""

    def __init__(self) -> None:
        self._catalog = ModelCatalog()
        self._rates: dict[tuple[str, str, int], Rate] = {}

    def add(self, provider: str, name: str, unit: str, above: int, theirs: int) -> None:
        """One rate; where the other table has two entries for a model, its dearer one counts."""
        model = f"{provider}:{name}"
        info = self._find(provider, name)
        if info is None or info.rates is None:
            return
        known = self._rates.get((model, unit, above))
        if known is None or theirs > known.theirs:
            card = _card(info, info.rates, above)
            flat = card is info.rates
            self._rates[model, unit, above] = Rate(model, info.id, unit, above, flat, _charged(card, unit), theirs)

    def _find(self, provider: str, name: str) -> ModelInfo | None:
        # The catalogue looks for the nearest names before it refuses one, which takes a while.
        return self._catalog.get(f"{provider}:{name}") if find_price(name, provider) else None

    def rates(self, providers: Iterable[str]) -> list[Rate]:
        wanted = set(providers)
        return [rate for rate in self._rates.values() if rate.provider in wanted]


def _card(info: ModelInfo, rates: RateCard, above: int) -> RateCard:
    """The rates of a call with one more input token than ``above``."""
    reached = [tier.rates for tier in info.tiers if tier.above_input_tokens <= above]
    return reached[-1] if reached else rates


def _charged(card: RateCard, unit: str) -> int:
    rate: int | None = getattr(card, unit)
    return card.input if rate is None else rate  # cached tokens without a rate of their own are charged as input


def measure(quick: bool) -> Iterator[Row]:
    yield from beside_litellm(PRINTED[quick])
    yield from beside_pricetoken(PRINTED[quick])


def beside_litellm(printed: int) -> Iterator[Row]:
    whose = "LiteLLM's"
    if not installed("litellm"):
        yield Skipped(claim=f"list prices equal to {whose}", peer="litellm", must_hold=AGREE)
        return
    comparison = Comparison()
    for entry in litellm_rates():
        comparison.add(*entry)
    claimed = comparison.rates(CLAIMED)
    yield share(f"OpenAI's and Anthropic's prices not below {whose}", claimed, lambda rate: not rate.below, bound=100)
    for what, providers in (("first-hand prices", FIRST_HAND), ("prices of resold models", RESOLD)):
        base = [rate for rate in comparison.rates(providers.values()) if rate.base]
        yield share(f"{what} equal to {whose}", base, Rate.same)
        yield share(f"{what} not below {whose}", base, lambda rate: not rate.below)
    everything = comparison.rates({*FIRST_HAND.values(), *RESOLD.values()})
    cache = [rate for rate in everything if rate.unit in {"cache_read", "cache_write"} and not rate.above]
    yield share(f"cache prices equal to {whose}", cache, Rate.same)
    yield share(f"prices for long inputs equal to {whose}", [rate for rate in everything if rate.above], Rate.same)
    show(everything, whose, printed)


def beside_pricetoken(printed: int) -> Iterator[Row]:
    whose = "PriceToken's"
    if not installed("pricetoken"):
        yield Skipped(claim=f"list prices equal to {whose}", peer="pricetoken", must_hold=AGREE)
        return
    from pricetoken import STATIC_PRICING

    comparison = Comparison()
    for entry in STATIC_PRICING:
        provider = FIRST_HAND.get(entry.provider, entry.provider)
        comparison.add(provider, entry.model_id, "input", 0, nano(entry.input_per_m_tok, tokens=10**6))
        comparison.add(provider, entry.model_id, "output", 0, nano(entry.output_per_m_tok, tokens=10**6))
    rates = comparison.rates(FIRST_HAND.values())
    yield share(f"first-hand prices equal to {whose}", rates, Rate.same)
    yield share(f"first-hand prices not below {whose}", rates, lambda rate: not rate.below)
    show(rates, whose, printed)


def litellm_rates() -> Iterator[tuple[str, str, str, int, int]]:
    """Provider, model, unit, above how many input tokens, and the rate, of LiteLLM's chat models.

    Read from the package's file: importing the package takes seconds, and it may look for a newer table on the net.
    """
    package = importlib.util.find_spec("litellm")
    assert package is not None
    assert package.origin is not None
    table = Path(package.origin).with_name("model_prices_and_context_window_backup.json")
    for key, entry in json.loads(table.read_text(encoding="utf-8"), parse_float=Decimal).items():
        provider = {**FIRST_HAND, **RESOLD}.get(entry.get("litellm_provider"))
        name = key.partition("/")[2] or key
        if provider is None or entry.get("mode") not in MODES or (provider in BY_REGION and "/" in name):
            continue
        if entry.get(RATES["input"]) or entry.get(RATES["output"]):  # otherwise free or unknown, which is no price
            yield from ((provider, name, *rate) for rate in _rates_of(entry))


def _rates_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    for field, price in entry.items():
        long = LONG.search(field)
        unit = UNITS.get(LONG.sub("", field))
        if unit is not None and (price or not unit.startswith("cache")):  # a cache for nothing stands for no cache
            yield unit, int(long[1]) * 1_000 if long else 0, nano(price, tokens=1)


def nano(price: Any, *, tokens: int) -> int:
    """Nano-USD per million tokens, of a price in USD for so many tokens."""
    return int(Decimal(str(price)) * NANO_PER_MILLION / tokens)


def share(claim: str, rates: list[Rate], holds: Callable[[Rate], bool], bound: float | None = None) -> Figure:
    """The models of which it holds for every rate."""
    models: dict[str, bool] = {}
    for rate in rates:
        models[rate.model] = models.get(rate.model, True) and holds(rate)
    return Figure(
        claim=f"{claim}, of {len(models):,} models",
        ours=100 * sum(models.values()) / len(models),
        unit="% of models",
        bound=bound,
        at_least=True,
        must_hold=AGREE,
    )


def show(rates: list[Rate], whose: str, printed: int) -> None:
    """The rates that differ: first where ours is below, and there first what is furthest apart."""
    differing = sorted(
        (rate for rate in rates if not rate.same()), key=lambda rate: (not rate.below, -rate.factor, rate.model)
    )
    below = sum(rate.below for rate in differing)
    print(f"{len(differing)} of {len(rates):,} rates differ from {whose}, {below} of them are below:")
    for why, count in Counter(rate.why for rate in differing if rate.below).most_common():
        print(f"  {count} below: {why}")
    print(*differing[:printed], sep="\n")
    if len(differing) > printed:
        print(f"  ... and {len(differing) - printed} more")
