import pytest

import langchain_runtime.ledgers as package
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger, open_ledger


def test_memory_is_a_new_ledger_each_time():
    first, second = open_ledger("memory://"), open_ledger("memory://")
    assert isinstance(first, InMemoryLedger)
    assert first is not second


def test_three_slashes_are_relative_and_four_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_ledger("sqlite:///a%20b.db"), open_ledger(f"sqlite:///{tmp_path}/c.db")
    assert isinstance(relative, SqliteLedger)
    assert isinstance(absolute, SqliteLedger)
    assert (relative.path, absolute.path) == (tmp_path / "a b.db", tmp_path / "c.db")
    assert list(tmp_path.iterdir()) == []  # nothing is connected yet


@pytest.mark.parametrize("url", ["postgresql://host/db", "redis://host"])
def test_ledgers_that_do_not_exist_yet_are_refused_by_name(url):
    with pytest.raises(InvalidInputError, match="not available in this version"):
        open_ledger(url)


@pytest.mark.parametrize(
    "url", ["", "ledger.db", "memory://x", "sqlite://", "sqlite:///", "sqlite://a.db", "mysql://x"]
)
def test_other_urls_are_refused_with_an_example(url):
    with pytest.raises(InvalidInputError) as raised:
        open_ledger(url)
    assert "sqlite:///" in raised.value.hint


def test_a_path_that_names_no_file_is_refused():
    for path in ("", ":memory:"):
        with pytest.raises(InvalidInputError):
            SqliteLedger(path)


def test_the_package_exports_what_it_names_and_nothing_else():
    assert package.__all__ == ["InMemoryLedger", "SqliteLedger", "default_ledger", "open_ledger"]
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'PostgresLedger'"):
        package.PostgresLedger  # noqa: B018 - the access is the test
