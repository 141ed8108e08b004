"""Which model the tasks use that name none, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

EXTRACTIVE: Final = "extractive"
"""The offline model: quotes its sources, does not reason."""

_BY_KEY: Final = (
    ("OPENAI_API_KEY", "langchain_openai", "openai:gpt-5.4-mini"),
    ("ANTHROPIC_API_KEY", "langchain_anthropic", "anthropic:claude-haiku-4-5"),
)
"""Environment variable, its client and a small model of the provider that reasons well enough for a brief."""


@dataclass(frozen=True)
class ModelChoice:
    """A model and the reason for it, for people.

    Attributes:
        model: ``provider:name`` or ``extractive``.
        why: Half a sentence.
    """

    model: str
    why: str

    def __str__(self) -> str:
        return f"model {self.model} ({self.why})"


def choose_model(
    *,
    explicit: str | None,
    of_file: str | None,
    environment: Mapping[str, str],
    is_installed: Callable[[str], bool] = lambda module: find_spec(module) is not None,
) -> ModelChoice:
    """Pick the default model: ``--model``, else the file's, else by a provider key, else the offline one.

    Args:
        explicit: What ``--model`` said.
        of_file: What the run file says.
        environment: Variables to look for keys in.
        is_installed: Whether a provider's client can be imported.
    """
    if explicit:
        return ModelChoice(explicit, "--model")
    if of_file:
        return ModelChoice(of_file, "named by the run file")
    without_client = ""
    for key, client, model in _BY_KEY:
        if environment.get(key):
            if is_installed(client):
                return ModelChoice(model, f"{key} is set")
            without_client += f"{key} is set but {client.replace('_', '-')} is not installed; "
    return ModelChoice(EXTRACTIVE, f"{without_client or 'no provider key in the environment; '}offline, quotes sources")
