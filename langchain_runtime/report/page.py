"""The run report as HTML: one self-contained fragment or file, without a script and without anything to load."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_runtime.report.figures import RunFigures, share_of
from langchain_runtime.report.formats import UNKNOWN, count, duration, money, spent_of_limit
from langchain_runtime.report.markup import Markup, join, tag
from langchain_runtime.report.page_tables import (
    compactions_section,
    incidents_section,
    models_section,
    path_section,
    results_section,
    tasks_section,
)
from langchain_runtime.report.rows import states_in_words
from langchain_runtime.report.spend_line import spend_line, spend_note
from langchain_runtime.report.style import PAGE_STYLE, STYLE
from langchain_runtime.report.timeline import has_names, legend, timeline


def render_page(figures: RunFigures) -> str:
    """A whole HTML document."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"run {figures.id}"),
        tag("style", Markup(PAGE_STYLE)),
    )
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", render_fragment(figures)), lang="en") + "\n"


def render_fragment(figures: RunFigures, *, above: Markup | None = None) -> Markup:
    """The report as one element with its style, for notebooks.

    Args:
        figures: What it shows.
        above: A section to put between its totals and its timeline.
    """
    incidents = figures.incidents
    return tag(
        "div",
        tag("style", Markup(STYLE)),
        tag("h1", f"Run {figures.id}", tag("span", figures.state, class_=f"badge s-{figures.state}")),
        _tiles(figures),
        _budget(figures),
        above,
        _timeline(figures),
        _spending(figures),
        incidents_section("Errors", incidents.errors),
        incidents_section("Skipped", incidents.skips, what="because of"),
        incidents_section("Retries", incidents.retries),
        incidents_section("Warnings", incidents.warnings),
        models_section(figures),
        tasks_section(figures),
        compactions_section(figures),
        path_section(figures),
        results_section(figures),
        class_="lcr-report",
    )


def _tiles(figures: RunFigures) -> Markup:
    tokens = figures.usage.tokens
    paused = f", paused {duration(figures.paused)}" if figures.paused else ""
    at_a_time = UNKNOWN if figures.speedup is None else f"{figures.speedup:.1f} at a time"
    tiles = [
        (f"{len(figures.tasks):,}", "tasks", states_in_words(task.state for task in figures.tasks)),
        (duration(figures.duration), "time", f"first start to last end{paused}"),
        (at_a_time, "parallel", f"{duration(figures.work)} of tasks"),
        (money(figures.spent, complete=figures.complete), "spent", _of_limit(figures)),
        (
            count(tokens.total),
            "tokens",
            f"{count(tokens.input)} in ({count(tokens.cache_read)} cached), {count(tokens.output)} out",
        ),
    ]
    return tag(
        "div",
        *(
            tag("div", tag("span", title), tag("b", figure), tag("span", note), class_="tile")
            for figure, title, note in tiles
        ),
        class_="tiles",
    )


def _of_limit(figures: RunFigures) -> str:
    limit = "no limit" if figures.limit is None else f"of {money(figures.limit)}"
    return limit if figures.complete else f"{limit}; + means at least: some calls have no known price"


def _budget(figures: RunFigures) -> Markup | None:
    """A bar of the limit, cut at its end where more was spent; each part with its amount below."""
    if figures.limit is None or figures.share is None:
        return None
    forfeited = min(1.0, share_of(figures.forfeited, figures.limit) or 0.0)
    settled = max(0.0, min(1.0, figures.share) - forfeited)
    held = min(1.0 - settled - forfeited, share_of(figures.held, figures.limit) or 0.0)
    words = spent_of_limit(figures.spent, figures.limit, figures.share, complete=figures.complete)
    parts = [
        ("crit", settled, f"spent {words}"),
        ("bad", forfeited, f"of that forfeited {money(figures.forfeited)}"),
        ("held", held, f"held {money(figures.held)}"),
    ]
    bar = [
        tag("i", style=f"width:{100 * share:.2f}%;background:var(--{colour})") for colour, share, _ in parts if share
    ]
    return join(
        tag("div", *bar, class_="bar", role="img", aria_label=f"spent {words}"),
        _legend([(colour, text) for colour, _, text in parts]),
    )


def _legend(colours: Sequence[tuple[str, str]], notes: Sequence[str] = ()) -> Markup:
    return tag(
        "div",
        *(tag("span", tag("i", style=f"background:var(--{colour})"), words) for colour, words in colours),
        *(tag("span", note) for note in notes),
        class_="legend",
    )


def _timeline(figures: RunFigures) -> Markup | None:
    chart = timeline(figures)
    if chart is None:
        return None
    return tag("section", tag("h2", "Timeline"), chart, _legend(*legend(figures)))


def _spending(figures: RunFigures) -> Markup | None:
    chart = spend_line(figures)
    if chart is None:
        return None
    # Below the names of the timeline stands nothing, so that both charts share one time axis.
    names = tag("div", class_="names") if has_names(figures) else None
    return tag(
        "section",
        tag("h2", "Spending"),
        tag("div", names, tag("div", chart), class_="gantt"),
        _legend([], [spend_note(figures)]),
    )
