"""``%load_ext langchain_runtime``: the magics ``%%budget 0.50`` and ``%budget`` for IPython and Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What IPython calls for ``%load_ext langchain_runtime``."""
    from langchain_runtime.notebook.magic import load  # noqa: PLC0415 - IPython is there only when this is called

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What IPython calls for ``%unload_ext langchain_runtime``."""
    from langchain_runtime.notebook.magic import unload  # noqa: PLC0415 - as above

    unload(shell)
