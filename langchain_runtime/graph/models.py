"""From ``"provider:name"`` to a chat model."""

from __future__ import annotations

import importlib

from langchain_core.language_models import BaseChatModel

from langchain_runtime.chat_models import ExtractiveChatModel
from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError

EXTRACTIVE = "extractive"


def check_model_name(name: str) -> None:
    """Check that ``name`` has the form of a model's name.

    Raises:
        UnknownModelError: It has no provider.
    """
    provider, separator, model = name.partition(":")
    if name != EXTRACTIVE and not (provider and separator and model):
        raise UnknownModelError(
            f"{name!r} is not a model",
            model=name,
            hint='write "provider:name", e.g. "openai:gpt-5-mini", or "extractive"',
        )


def open_model(name: str) -> BaseChatModel:
    """Make the chat model that ``name`` stands for.

    Args:
        name: ``"provider:name"`` as LangChain's ``init_chat_model`` takes it, or ``"extractive"``.

    Raises:
        UnknownModelError: The name has no provider, or LangChain knows none of that name.
        InvalidInputError: A package or a key that the provider needs is missing; the hint names it.
    """
    check_model_name(name)
    if name == EXTRACTIVE:
        return ExtractiveChatModel()
    provider = name.partition(":")[0]
    try:
        init_chat_model = importlib.import_module("langchain.chat_models").init_chat_model
    except ImportError as error:
        raise InvalidInputError(
            f"model {name!r} needs LangChain's init_chat_model",
            hint='pip install "langchain-runtime-layer[agents]", or pass a chat model object',
        ) from error
    try:
        chat_model: BaseChatModel = init_chat_model(name)
    except ImportError as error:
        raise InvalidInputError(f"model {name!r} needs a package that is not installed", hint=str(error)) from error
    except ValueError as error:
        first_line = str(error).partition("\n")[0]
        raise UnknownModelError(
            f"model {name!r} is not known to LangChain: {first_line}",
            model=name,
            hint='write "provider:name" with a provider that init_chat_model knows, e.g. "openai:gpt-5-mini"',
        ) from error
    except Exception as error:  # provider clients raise their own types, mostly for a missing key
        raise InvalidInputError(
            f"model {name!r} could not be opened: {error}", hint=f"set the API key that {provider} needs"
        ) from error
    return chat_model
