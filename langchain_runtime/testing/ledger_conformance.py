"""What every ledger must do, as a test suite: derive a class, make your ledger, run pytest.

    class TestMyLedger(LedgerConformance):
        def make_ledger(self, tmp_path, clock):
            return MyLedger(tmp_path / "books", clock=clock)

Time is the ``clock``'s, so nothing sleeps. Amounts are nano-USD, small for legibility.
"""

from __future__ import annotations

import pytest

_PARTS = ("driver", "admission_rules", "amount_rules", "ending_rules", "journal_rules", "period_rules", "shadow_rules")
# Before they are imported, so that a failed rule shows its values, as in any test file.
pytest.register_assert_rewrite(*(f"langchain_runtime.testing._ledger_{part}" for part in _PARTS))

from langchain_runtime.testing._ledger_admission_rules import ReserveRules, ScopeRules  # noqa: E402 - see above
from langchain_runtime.testing._ledger_amount_rules import AmountRules  # noqa: E402 - see above
from langchain_runtime.testing._ledger_driver import FakeClock  # noqa: E402 - see above
from langchain_runtime.testing._ledger_ending_rules import LeaseRules, SettleRules  # noqa: E402 - see above
from langchain_runtime.testing._ledger_journal_rules import ForgetRules, JournalRules, TwinRules  # noqa: E402 - see above
from langchain_runtime.testing._ledger_period_rules import PeriodRules  # noqa: E402 - see above
from langchain_runtime.testing._ledger_shadow_rules import ShadowRules  # noqa: E402 - see above

__all__ = ["FakeClock", "LedgerConformance"]


class LedgerConformance(
    ScopeRules,
    ReserveRules,
    AmountRules,
    ShadowRules,
    SettleRules,
    LeaseRules,
    PeriodRules,
    JournalRules,
    ForgetRules,
    TwinRules,
):
    """Every rule of the ``Ledger`` contract; override ``make_ledger``."""
