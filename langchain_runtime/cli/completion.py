"""What a shell offers after Tab: runs of the home folder, models of the price list. A shell that asks gets no error."""

from __future__ import annotations


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Ids of runs, newest first, with their names and states."""
    from langchain_runtime.cli.home import Home

    try:
        records = Home.locate(None).index().all()
    except Exception:  # noqa: BLE001 - there is nobody to tell
        return []
    return [
        (record.run_id, f"{record.name}, {record.state}") for record in records if record.run_id.startswith(incomplete)
    ]


def complete_model(incomplete: str) -> list[str]:
    """Names of models; of one provider once the provider is typed, else the providers."""
    from langchain_runtime.cli.model_choice import EXTRACTIVE
    from langchain_runtime.cost import default_catalog

    names = sorted({EXTRACTIVE, *default_catalog().names()})
    if ":" not in incomplete:
        names = sorted({EXTRACTIVE, *(f"{name.partition(':')[0]}:" for name in names if ":" in name)})
    return [name for name in names if name.startswith(incomplete)]
