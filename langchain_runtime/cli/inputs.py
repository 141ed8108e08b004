"""What people type: ``-i key=value``, ``--items task=40``, ``--model old=new`` and ``--budget "0.50 EUR"``."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost


def parse_inputs(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``key=value`` pairs; everything after the first ``=`` is the value.

    Raises:
        InvalidInputError: A pair has no key, or a key occurs twice.
    """
    inputs: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise InvalidInputError(f"{pair!r} is not key=value", hint='write -i topic="solar power"')
        if key.strip() in inputs:
            raise InvalidInputError(f"input {key.strip()!r} is given twice", hint="give each input once")
        inputs[key.strip()] = value
    return inputs


def parse_counts(pairs: Iterable[str]) -> dict[str, int]:
    """Read ``task=number`` pairs.

    Raises:
        InvalidInputError: A pair has no task or no number, or a task occurs twice.
    """
    counts = {}
    for task, number in parse_inputs(pairs).items():
        try:
            counts[task] = int(number)
        except ValueError:
            raise InvalidInputError(f"{number!r} is not a number of items", hint=f"write --items {task}=40") from None
    return counts


def parse_models(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``old=new`` pairs of a model or task and the model to put in its place.

    Raises:
        InvalidInputError: A pair has no model on one side, or the same one is replaced twice.
    """
    models: dict[str, str] = {}
    for pair in pairs:
        old, _, new = (part.strip() for part in pair.partition("="))
        if not old or not new:
            raise InvalidInputError(
                f"{pair!r} is not old=new", hint="write --model openai:gpt-5.4=openai:gpt-5.4-mini, or TASK=MODEL"
            )
        if old in models:
            raise InvalidInputError(f"{old!r} is replaced twice", hint="give one model for it")
        models[old] = new
    return models


def parse_budget(text: str) -> Cost:
    """Read an amount with an optional currency: ``0.50``, ``0.50 EUR``, ``EUR 0.50``.

    Raises:
        InvalidInputError: It is not a positive, finite amount in a known currency.
    """
    words = sorted(text.split(), key=_is_number, reverse=True)
    if len(words) not in {1, 2} or not _is_number(words[0]):
        raise InvalidInputError(f"{text!r} is not an amount", hint='write --budget 0.50 (USD) or --budget "0.50 EUR"')
    budget = Cost(words[0], words[1].upper() if words[1:] else "USD")
    if budget.nano <= 0:
        raise InvalidInputError(
            f"a budget must be positive, got {budget}", hint="leave --budget out to run without a limit"
        )
    return budget


def _is_number(word: str) -> bool:
    try:
        Decimal(word)
    except InvalidOperation:
        return False
    return True
