import pytest

import langchain_runtime.testing as package

pytest_plugins = ["pytester"]


def test_the_package_exports_what_it_names_and_nothing_else():
    assert {"FakeClock", "LedgerConformance"} <= set(package.__all__) <= set(dir(package))
    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        package.Nonsense  # noqa: B018 - the access is the test


def test_a_ledger_that_forgets_forfeits_fails_the_suite(pytester):
    pytester.makepyfile(
        """
        from langchain_runtime.ledgers import InMemoryLedger
        from langchain_runtime.testing import LedgerConformance

        class Forgetful(InMemoryLedger):
            def balance(self, name):
                return super().balance(name).model_copy(update={"forfeited_nano": 0})

        class TestForgetful(LedgerConformance):
            def make_ledger(self, tmp_path, clock):
                return Forgetful(clock=clock)
        """
    )
    result = pytester.runpytest_inprocess("-o", "asyncio_default_fixture_loop_scope=function", "-k", "forfeit")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_a_sent_call_is_forfeited_at_its_worst_case*"])
