"""How ``%%budget`` gets around the code of its cell without taking it away from IPython.

A cell magic gets its cell as a text and has to run it by itself, which IPython cannot do for code that awaits at the
top level while its event loop runs. So the first line becomes a call, in place, and the statements below it become the
body of a ``with`` around that call: the cell stays IPython's own, with ``await``, line numbers, magics and the value
of its last expression.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from IPython.core.inputtransformer2 import cell_magic
from IPython.core.interactiveshell import InteractiveShell

_FIRST_LINE: Final = re.compile(r"%%budget(?![\w?])(.*)")
OPENER: Final = "get_ipython().magics_manager.registry['BudgetMagics'].open_cell"
"""Found through the shell, since ``%reset`` deletes every name that a cell could know it by."""

_OPENER_AST: Final = ast.dump(ast.parse(OPENER, mode="eval").body)


def first_line_to_call(lines: list[str]) -> list[str]:
    """Replace the line ``%%budget ...`` at the top of a cell; changes no other cell."""
    found = _FIRST_LINE.match(lines[0]) if lines else None
    if found is None:
        return lines
    magic_below: Any = cell_magic  # runs its cell as a whole
    return [f"{OPENER}({found[1].strip()!r})\n", *magic_below(lines[1:])]


class BodyIntoWith(ast.NodeTransformer):
    """Puts what follows the call of ``first_line_to_call`` into a ``with`` around it.

    Args:
        shell: Whose setting says which values a cell shows.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Rewrite a ``%%budget`` cell; leave others as they are."""
        opener = _opener(node.body)
        if opener is None:
            return node
        body = [self._shown(statement, last=statement is node.body[-1]) for statement in node.body[1:]]
        around = ast.With(items=[ast.withitem(context_expr=opener)], body=body or [ast.Pass()])
        node.body = [ast.copy_location(around, opener)]
        return ast.fix_missing_locations(node)

    def _shown(self, statement: ast.stmt, *, last: bool) -> ast.stmt:
        """IPython shows values of statements at the top level alone; below a ``with`` it has to be asked to."""
        wish = self._shell.ast_node_interactivity
        if not isinstance(statement, ast.Expr) or wish == "none" or not (last or wish == "all"):
            return statement
        show: ast.expr = ast.parse("__import__('sys').displayhook", mode="eval").body
        call = ast.Call(func=show, args=[statement.value], keywords=[])
        return ast.copy_location(ast.Expr(call), statement)


def _opener(body: Sequence[ast.stmt]) -> ast.Call | None:
    call = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return call if isinstance(call, ast.Call) and ast.dump(call.func) == _OPENER_AST else None


def install(shell: InteractiveShell) -> Callable[[], None]:
    """Teach ``shell`` the syntax; returns what makes it forget it."""
    texts, trees = shell.input_transformer_manager.line_transforms, shell.ast_transformers
    into_with = BodyIntoWith(shell)
    texts.insert(0, first_line_to_call)  # before IPython's own rule for cell magics
    trees.append(into_with)

    def remove() -> None:
        texts.remove(first_line_to_call)
        trees.remove(into_with)

    return remove
