"""What an image costs in input tokens, by the rules that providers publish; None where nobody states a bound.

Sources: OpenAI, "Images and vision" (developers.openai.com/api/docs/guides/images-vision, September 2026); Anthropic,
"Vision" (platform.claude.com/docs/en/build-with-claude/vision, September 2026); Google, "Media resolution"
(ai.google.dev/gemini-api/docs/media-resolution, October 2026). Where OpenAI's page disagreed with itself over time, or
with what was billed, the dearest figure makes the bound and the one that was billed makes the estimate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

_FRAME: Final = 16
"""Room for the tokens around an image; users measured 3 to 4 on Claude."""


class ImageRule(Protocol):
    """How a family of models counts an image."""

    @property
    def needs_media_type(self) -> bool:
        """Whether only a block that says it is an image is sure to be read as one."""
        ...

    def most(self, detail: str) -> int:
        """Never below what an image of any size costs.

        Args:
            detail: As the request asks for it: ``low``, ``high``, ``original``, or anything else for the default.
        """
        ...

    def expected(self, detail: str, size: tuple[int, int] | None) -> int:
        """About what an image costs.

        Args:
            detail: As above.
            size: Width and height in pixels; None where they are unknown, for the most that it can be.
        """
        ...


@dataclass(frozen=True)
class Tiles:
    """The image fits 2,048 x 2,048 pixels, then a short side of 768, and costs a base and a price per 512-pixel tile.

    Attributes:
        base: Tokens of every image; all that one of ``detail: low`` costs.
        tile: Tokens of a tile.
    """

    base: int
    tile: int
    needs_media_type: bool = field(default=False, init=False)

    def most(self, detail: str) -> int:
        """Four tiles by two, unless the detail is low."""
        return _FRAME + self.base + (0 if detail == "low" else 8 * self.tile)

    def expected(self, detail: str, size: tuple[int, int] | None) -> int:
        """By the tiles that cover the image once it is scaled down."""
        if detail == "low":
            return self.base
        short, long = sorted(size or (768, 2_048))
        scale = min(1, 2_048 / long, 768 / short)
        return self.base + self.tile * math.ceil(int(short * scale) / 512) * math.ceil(int(long * scale) / 512)


@dataclass(frozen=True)
class Patches:
    """The image is covered by square patches, scaled down where there would be too many, at a price per patch.

    Attributes:
        limit: Most patches, by default.
        side: Of a patch in pixels.
        longest: Longest side in pixels after scaling; None where only patches are limited.
        price: Tokens billed for a patch.
        dearest: Most that any version of the rule says of ``price``.
        dearest_limit: Likewise of ``limit``, and of ``by_detail`` where that is silent.
        by_detail: Most patches for a detail, where every version agrees.
    """

    limit: int
    side: int = 32
    longest: int | None = None
    price: float = 1.2
    dearest: float | None = None
    dearest_limit: int | None = None
    by_detail: Mapping[str, int] = field(default_factory=dict)
    needs_media_type: bool = field(default=False, init=False)

    def most(self, detail: str) -> int:
        """The limit at the dearest price; one more, since OpenAI multiplies in single precision."""
        patches = self.by_detail.get(detail, self.dearest_limit or self.limit)
        return _FRAME + math.ceil(patches * (self.dearest or self.price)) + 1

    def expected(self, detail: str, size: tuple[int, int] | None) -> int:
        """By the patches that cover the image, at most the limit."""
        limit = self.by_detail.get(detail, self.limit)
        patches = limit
        if size is not None:
            scale = min(1, (self.longest or math.inf) / max(size), self.side * math.sqrt(limit / (size[0] * size[1])))
            patches = min(limit, math.prod(math.ceil(length * scale / self.side) for length in size))
        return math.ceil(patches * self.price)


@dataclass(frozen=True)
class Flat:
    """Every image costs the same, whatever its size; more where the request asks for a higher resolution.

    Attributes:
        usual: Tokens by default.
        highest: Tokens at the highest resolution, which the request can ask for outside the image.
    """

    usual: int
    highest: int
    needs_media_type: bool = field(default=True, init=False)

    def most(self, detail: str) -> int:  # noqa: ARG002 - the resolution is not stated there
        """The highest resolution."""
        return _FRAME + self.highest

    def expected(self, detail: str, size: tuple[int, int] | None) -> int:  # noqa: ARG002 - as above, and any size
        """The usual resolution."""
        return self.usual


UNKNOWN: Final = Patches(1_568, side=28, longest=1_568, price=1)
"""A guess for models without a rule: Claude's rule is also Qwen's and near Mistral's. No bound."""

_CLAUDE: Final = Patches(1_568, side=28, longest=1_568, price=1, dearest_limit=1_640)
"""Before Claude 4.7. The page's table of an earlier year, by width x height / 750, goes to 1,640 tokens."""

_SHARP_CLAUDE: Final = Patches(4_784, side=28, longest=2_576, price=1)
"""Claude 4.7 and later: the high-resolution tier."""

_FITTED: Final[Mapping[str, int]] = {"low": 256, "high": 2_500}
"""GPT-5.5 and later: ``low`` fits 512 x 512 pixels; by default the image stays as it is, up to the limit."""

_LISTED: Final = r"(?![\w.-]*(?:mini|nano))"
"""No small versions: the page lists none."""

# In order: the first that matches counts. OpenAI's small models are listed at 1.62, 1.72 and 2.46 tokens per patch and
# 1,536 or 6,144 patches, by the year; users measured 1.2 (GPT-5 mini), 1.5 (GPT-5 nano) and no saving by ``low``.
_RULES: Final[tuple[tuple[str, ImageRule], ...]] = (
    (r"gpt-4o-mini", Tiles(2_833, 5_667)),
    (r"(chat)?gpt-4o|gpt-4\.1(?!-mini|-nano)|gpt-4\.5|gpt-4-(turbo|vision|1106-vision)", Tiles(85, 170)),
    (r"gpt-4\.1-mini", Patches(1_536, longest=2_048, price=1.62, dearest_limit=6_144)),
    (r"gpt-4\.1-nano", Patches(1_536, longest=2_048, price=2.46, dearest_limit=6_144)),
    (r"o4-mini|codex-mini|gpt-5(\.1)?-codex", Patches(1_536, longest=2_048, price=1.72, dearest_limit=6_144)),
    (r"gpt-5(\.1)?-mini", Patches(1_536, longest=2_048, dearest=1.62, dearest_limit=6_144)),
    (r"gpt-5(\.1)?-nano", Patches(1_536, longest=2_048, price=1.5, dearest=2.46, dearest_limit=6_144)),
    (r"gpt-5(\.1)?(?![.\d])", Tiles(70, 140)),
    (r"o[13](?!-mini)\b", Tiles(75, 150)),
    (r"computer-use-preview", Tiles(65, 129)),
    (r"gpt-5\.[23]" + _LISTED, Patches(1_536, longest=2_048, dearest=1.72, dearest_limit=6_144)),
    (r"gpt-5\.4-nano", Patches(1_536, longest=2_048, dearest=2.46, dearest_limit=10_000)),
    (r"gpt-5\.4-mini", Patches(1_536, longest=2_048, dearest=1.62, dearest_limit=10_000)),
    (r"gpt-5\.4", Patches(2_500, longest=2_048, dearest_limit=10_000, by_detail={"high": 2_500})),
    (r"gpt-5\.5" + _LISTED, Patches(10_000, longest=6_000, by_detail=_FITTED)),
    (r"gpt-5\.6|gpt-6-astra", Patches(30_000, by_detail=_FITTED)),
    (r"claude-([a-z]+-)?(3(\.\d)?|4(\.[0-6])?)(?![.\d])", _CLAUDE),
    (r"claude-([a-z]+-)?(4\.[7-9]|5(\.\d)?)(?![.\d])", _SHARP_CLAUDE),
    (r"gemini-3(?!\d)", Flat(1_120, 2_240)),
)
_MATCHERS: Final = tuple((re.compile(rf"(?:^|[:/.])(?:{pattern})"), rule) for pattern, rule in _RULES)

_DASHED: Final = re.compile(r"-(\d)-(\d)(?!\d)")
"""A version with a dash for its dot: ``claude-opus-4-7``."""

_NO_EYES: Final = re.compile(r"audio|realtime|transcribe|tts|image")
"""Relatives of these models that are made for something else."""


def image_rule(model: str | None) -> ImageRule | None:
    """The rule of ``model`` (``provider:name`` or a bare name); None where no bound is published."""
    name = _DASHED.sub(r"-\1.\2", (model or "").lower())
    if _NO_EYES.search(name):
        return None
    return next((rule for matcher, rule in _MATCHERS if matcher.search(name)), None)
