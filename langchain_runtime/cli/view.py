"""``lcr view``."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.completion import complete_run
from langchain_runtime.cli.failures import reported


def view(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Id of the run; the latest if left out.", autocompletion=complete_run),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port of the page; 0 takes a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Open a local page that follows a run while it runs, and shows it afterwards. Ctrl-C ends it."""
    with reported(debug=debug):
        import contextlib
        import webbrowser

        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.view_server import listen, serve
        from langchain_runtime.contracts.errors import RunNotFoundError

        place = Home.locate(home)
        index = place.index()
        records = index.all() if run is None else [index.get(run)]
        if not records:
            raise RunNotFoundError(f"there is no run in {place.path}", run_id="", hint="`lcr run FILE` starts one")
        socket = listen(port)
        address = f"http://127.0.0.1:{socket.getsockname()[1]}/"
        typer.echo(f"run {records[0].run_id} at {address}  (Ctrl-C ends the page, not the run)")
        if not no_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            serve(place, records[0], socket)
