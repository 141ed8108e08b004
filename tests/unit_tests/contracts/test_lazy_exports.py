import sys

import pytest

from langchain_runtime.contracts.lazy_exports import lazy_exports


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "__init__.py").write_text(
        "from langchain_runtime.contracts.lazy_exports import lazy_exports\n"
        "__getattr__, __dir__ = lazy_exports(__name__, {'book': 'stories', 'lost': 'gone'})\n"
    )
    (tmp_path / "shelf" / "stories.py").write_text("book = ['once upon a time']\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "shelf"
    for name in [name for name in sys.modules if name.partition(".")[0] == "shelf"]:
        del sys.modules[name]


def test_a_name_is_imported_when_it_is_used(package):
    shelf = __import__(package)
    assert "shelf.stories" not in sys.modules
    assert shelf.book is shelf.stories.book


def test_every_name_is_listed_before_it_is_used(package):
    shelf = __import__(package)
    assert dir(shelf) == sorted(dir(shelf))
    assert {"book", "lost", "__name__"} <= set(dir(shelf))
    assert "shelf.stories" not in sys.modules


def test_a_name_that_nobody_offers_is_no_attribute(package):
    with pytest.raises(AttributeError, match="module 'shelf' has no attribute 'page'"):
        _ = __import__(package).page


def test_a_module_that_is_missing_says_so(package):
    with pytest.raises(ModuleNotFoundError, match=r"shelf\.gone"):
        _ = __import__(package).lost


def test_the_two_functions_serve_any_package():
    get, names = lazy_exports("xml", {"parse": "etree.ElementTree"})
    assert callable(get("parse"))
    assert "parse" in names()
