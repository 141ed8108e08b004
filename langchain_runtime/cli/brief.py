"""``lcr brief``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.cli.home import Home
    from langchain_runtime.cli.launch import Launch
    from langchain_runtime.contracts.run import Run
    from langchain_runtime.pipelines.documents import Corpus
    from langchain_runtime.report import RunReport


def brief(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="FOLDER", help="Folder of documents; with --installed, package names.")
    ] = None,
    *,
    installed: Annotated[
        bool, typer.Option("--installed", help="Read the documentation of installed packages.")
    ] = False,
    questions: Annotated[list[str] | None, typer.Option("--question", "-q", help="What to answer; repeatable.")] = None,
    budget: options.Budget = None,
    model: options.Model = None,
    resume: options.Resume = None,
    price_as: options.PriceAs = None,
    as_json: options.AsJson = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Answer questions from documents: cited, each quote checked against its document, within a budget."""
    with reported(debug=debug):
        from langchain_runtime.cli.drive import drive
        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.launch import refuse_with_resume, resumed_launch
        from langchain_runtime.cli.run import print_json

        place = Home.locate(home)
        if resume is not None:
            refuse_with_resume(**{"FOLDER": sources, "--question": questions, "--price-as": price_as})
            launch = resumed_launch(place, resume, budget=budget, model=model)
        else:
            corpus = _corpus(sources or [], installed=installed)
            launch = _new_brief(place, corpus, questions or [], budget=budget, model=model, price_as=price_as)
        drive(launch, print_json if as_json else print_brief)


def print_brief(report: RunReport, run: Run) -> None:
    """The brief, then what it cost."""
    from langchain_runtime.report.formats import printable

    written = run.tasks["brief"].outputs
    if written is not None:
        typer.echo(f"\n{printable(str(written.output))}\n")
    typer.echo(report.to_text())


def _corpus(sources: list[str], *, installed: bool) -> Corpus:
    from langchain_runtime.contracts.errors import InvalidInputError
    from langchain_runtime.pipelines import load_folder, load_installed

    if not installed and len(sources) != 1:
        raise InvalidInputError(
            f"a brief reads one folder, got {len(sources)}",
            hint='lcr brief FOLDER -q "...", or lcr brief --installed PACKAGE ... -q "..."',
        )
    corpus = load_installed(sources) if installed else load_folder(sources[0])
    for line in corpus.skipped:
        typer.echo(f"skipped {line}", err=True)
    return corpus


def _new_brief(
    home: Home, corpus: Corpus, questions: list[str], *, budget: str | None, model: str | None, price_as: str | None
) -> Launch:
    from langchain_runtime.cli.launch import new_launch
    from langchain_runtime.cli.model_choice import EXTRACTIVE
    from langchain_runtime.pipelines import brief_file

    # The model is chosen by the launch: what the file says by default is nobody's wish.
    file = brief_file(corpus, questions, model=EXTRACTIVE).model_copy(update={"model": None})
    options = {"allow_code": True, "price_as": price_as}
    return new_launch(home, file, inputs={}, budget=budget, model=model, options=options, name="brief", kind="brief")
