"""Between LangChain and the domains: who pays, what a request can cost, what a reply did cost, and the guard of a call.

Nothing here is an interface for users but ``budget_scope``, ``Account``, ``current_account`` and ``paying``.
"""

from __future__ import annotations

from langchain_runtime.adapters.account import Account, budget_scope, current_account, paying

__all__ = ["Account", "budget_scope", "current_account", "paying"]
