"""The page of ``lcr view``: the report and the DAG of a run, swapped in place whenever its journal has grown."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from typing import Final

from langchain_runtime.report.dag_picture import dag_picture
from langchain_runtime.report.figures import RunFigures
from langchain_runtime.report.markup import Markup, join, tag
from langchain_runtime.report.page import render_fragment
from langchain_runtime.report.style import PAGE_STYLE

_SCRIPT: Final = """
const place = document.getElementById("run");
const link = document.getElementById("link");
const name = (each) => each.querySelector("summary").textContent;
const news = new EventSource("news");
news.onopen = () => { link.textContent = "live"; };
news.onerror = () => { link.textContent = "not connected"; };
news.onmessage = (message) => {
  const open = new Set([...place.querySelectorAll("details[open]")].map(name));
  const aside = [...place.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  place.innerHTML = JSON.parse(message.data);
  place.querySelectorAll("details").forEach((each) => { each.open = open.has(name(each)); });
  place.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = aside[number] || 0; });
};
"""

_LINK_STYLE: Final = (
    "#link{position:fixed;right:12px;bottom:8px;font:12px system-ui,sans-serif;opacity:.7;padding:1px 8px;"
    "border-radius:8px;background:Canvas;color:CanvasText}"
)

_SCRIPT_HASH: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    f"frame-ancestors 'none'; script-src 'sha256-{_SCRIPT_HASH}'"
)
"""Nothing is loaded, and the page's own script is the only one that runs, whatever a model has written."""


def live_fragment(figures: RunFigures, *, last_event: datetime | None) -> Markup:
    """What changes: the DAG above the report."""
    picture = dag_picture(figures)
    heard = "no event yet" if last_event is None else f"last event {last_event:%Y-%m-%d %H:%M:%S} UTC"
    above = tag("section", tag("h2", "Tasks"), picture, tag("p", heard, class_="dim")) if picture is not None else None
    return render_fragment(figures, above=above)


def live_page(run_id: str, fragment: Markup) -> str:
    """The whole page; it shows the run as it is now even where scripts are off."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"run {run_id}"),
        tag("style", Markup(PAGE_STYLE + _LINK_STYLE)),
    )
    body = join(
        tag("div", fragment, id="run"),
        tag("div", "connecting", id="link"),
        tag("script", Markup(_SCRIPT)),
    )
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en") + "\n"
