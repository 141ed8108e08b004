"""What is left of an agent's model call, for plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelCall:
    """The handler that middleware was given: both drivers of a plan find it under their name."""

    make: Callable[[Any], Any]
    amake: Callable[[Any], Any]

    @classmethod
    def by(cls, handler: Callable[[Any], Any]) -> ModelCall:
        """The call that ``handler`` makes, sync or async."""
        return cls(handler, handler)
