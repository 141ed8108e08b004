"""Images in messages: which blocks are one, what else they say, and how large the image is."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

_KINDS: Final = frozenset({"image", "image_url", "input_image"})

_NESTING: Final = ("content", "output")
"""Keys under which a tool's result holds blocks of its own."""

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200},", re.IGNORECASE)

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of segments that hold the size (ITU T.81, table B.1)."""

_WEBP_HEAD: Final = 30
"""Bytes up to the end of the size in the longest form."""

_HEAD: Final = 65_536
"""Characters of base64 that are looked at for the size: metadata before it is seldom longer."""


class Image(NamedTuple):
    """An image that a message carries.

    Attributes:
        kind: The type of its block.
        source: The image as base64 or as a data URL, its address, or the name of a file that the provider has.
        encoded: Whether ``source`` is the image itself.
        media_type: As stated, ``image/png``; None where nothing is.
        detail: As the request asks for it; empty where it does not.
    """

    kind: str
    source: str
    encoded: bool
    media_type: str | None
    detail: str

    @property
    def is_image(self) -> bool:
        """Whether nothing says that it is something else, as a PDF in an image's place."""
        return self.media_type is None or self.media_type.lower().startswith("image/")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None where they are not near the start of the data, or there are no data."""
        if not self.encoded:
            return None
        start = self.source.index(",") + 1 if _DATA_URL.match(self.source) else 0
        return _size(self.source[start : start + _HEAD])


def image_of(block: Mapping[str, Any]) -> Image | None:
    """The image that ``block`` is: OpenAI's, Anthropic's or LangChain's own form, old and new; None for other blocks.

    A detail counts only where LangChain's integrations pass it on.
    """
    kind = block.get("type")
    if kind not in _KINDS:
        return None
    nested = block.get("source" if kind == "image" else "image_url")
    held = nested if isinstance(nested, Mapping) else block
    data = (held.get("base64") or held.get("data")) if kind == "image" else None
    source = data or held.get("url") or held.get("image_url") or held.get("file_id") or held.get("id")
    text = source if isinstance(source, str) else ""
    stated = held.get("media_type") or held.get("mime_type")
    url = _DATA_URL.match(text)
    if url is not None:
        stated = url[1] or stated
    detail = held.get("detail") if kind != "image" else None
    return Image(
        kind,
        text,
        encoded=bool(data) or url is not None,
        media_type=stated if isinstance(stated, str) else None,
        detail=detail if isinstance(detail, str) else "",
    )


def without_images(content: Sequence[str | dict[str, Any]]) -> tuple[Sequence[Any], tuple[Image, ...]]:
    """The blocks of ``content`` without its images, those in tools' results included, and the images."""
    images: list[Image] = []
    kept = [block for block in (_stripped(block, images) for block in content) if block is not None]
    return (kept, tuple(images)) if images else (content, ())


def _stripped(block: Any, images: list[Image]) -> Any:
    if not isinstance(block, Mapping):
        return block
    image = image_of(block)
    if image is not None:
        images.append(image)
        return None
    before = len(images)
    inner: dict[str, Any] = {}
    for name in _NESTING:
        if isinstance(block.get(name), list):
            inner[name] = [left for left in (_stripped(part, images) for part in block[name]) if left is not None]
    return {**block, **inner} if len(images) > before else block


def _size(data: str) -> tuple[int, int] | None:
    try:
        head = base64.b64decode(data)
    except binascii.Error:
        return None
    if head.startswith(b"\x89PNG"):
        size = _numbers(head, 16, 4, "big")
    elif head.startswith(b"GIF8"):
        size = _numbers(head, 6, 2, "little")
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg(head)
    elif head[8:12] == b"WEBP":
        size = _webp(head)
    else:
        size = None
    return size if size is not None and min(size) > 0 else None


def _numbers(head: bytes, at: int, width: int, order: Literal["big", "little"]) -> tuple[int, int] | None:
    first, second = head[at : at + width], head[at + width : at + 2 * width]
    return (int.from_bytes(first, order), int.from_bytes(second, order)) if len(second) == width else None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """The frame's size: segments are walked by their lengths, since metadata may hold a preview with one of its own."""
    at = 2
    while head[at : at + 1] == b"\xff" and at + 4 <= len(head):
        if head[at + 1] in _FRAMES:
            size = _numbers(head, at + 5, 2, "big")
            return None if size is None else (size[1], size[0])
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    """The canvas of the extended format, or the only frame, with or without loss (RFC 9649)."""
    if len(head) < _WEBP_HEAD:
        return None
    form, last = head[12:16], 0x3FFF  # sides of a frame have 14 bits
    if form == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if form == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & last) + 1, (bits >> 14 & last) + 1
    return int.from_bytes(head[26:28], "little") & last, int.from_bytes(head[28:30], "little") & last
