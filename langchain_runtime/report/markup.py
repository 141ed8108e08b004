"""HTML and SVG that cannot be broken out of: everything that is not markup already is escaped."""

from __future__ import annotations

import html

from langchain_runtime.report.formats import printable


class Markup(str):
    """Text that is markup; made by ``tag`` and ``join`` only."""

    __slots__ = ()


def tag(name: str, /, *children: str | Markup | None, **attributes: str | float | None) -> Markup:
    """One element. Children that are not ``Markup`` and all attributes are escaped; None is left out.

    Underscores in attribute names become hyphens (``text_anchor``); a trailing one is dropped (``class_``). An element
    without children closes itself: the result is well-formed XML as well as HTML5.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(_plain(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = join(*children)
    # In HTML only void and foreign elements may close themselves.
    if not inner and name not in _NEVER_SELF_CLOSING:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{inner}</{name}>")


_NEVER_SELF_CLOSING = frozenset({"div", "span", "p", "td", "th", "pre", "section", "i", "b", "svg", "title", "tbody"})


def join(*parts: str | Markup | None) -> Markup:
    """Parts one after another, escaped where they are not markup; None is left out."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts if part is not None))


def escape(text: str) -> str:
    """``text`` as it may stand between tags, without characters that XML forbids."""
    return html.escape(printable(text), quote=False)


def _plain(value: str | float) -> str:
    # Four decimals of a percentage are a thousandth of a pixel; more only make the file larger.
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
