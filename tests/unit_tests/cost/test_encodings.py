import gzip
import subprocess
import sys
import threading
import warnings

import pytest

from langchain_runtime.cost import encodings
from langchain_runtime.cost.encodings import TokenizerUnavailableWarning, encoding_name, load_encoding


@pytest.fixture
def fresh(monkeypatch):
    """As in a new process: nothing was looked for yet."""
    encodings._load.cache_clear()
    yield monkeypatch
    encodings._load.cache_clear()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (None, "o200k_base"),
        ("openai:gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("openai:gpt-3.5-turbo", "cl100k_base"),
        ("openai:gpt-4o-mini", "o200k_base"),
        ("openai:gpt-4.1", "o200k_base"),
        ("openai:gpt-4.5-preview", "o200k_base"),
        ("openai:gpt-5-mini", "o200k_base"),
        ("anthropic:claude-sonnet-4-5", "o200k_base"),
    ],
)
def test_a_model_counts_by_its_familys_encoding(model, name):
    assert encoding_name(model) == name


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_installed_ranks_are_tiktokens_own(name):
    encoding = load_encoding(name)
    text = "Hello, world! 日本語 🙂 <|endoftext|>"
    assert encoding.name == name
    assert encoding.decode(encoding.encode_ordinary(text)) == text
    assert "<|endoftext|>" in encoding.special_tokens_set


def test_installed_ranks_are_read_without_importing_their_package():
    code = (
        "import sys\nfrom langchain_runtime.cost.encodings import load_encoding\n"
        "assert load_encoding('cl100k_base') is not None\nassert 'bpe_openai' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_encoding_is_loaded_once_by_many_threads(fresh):
    loads, started = [], threading.Barrier(8)
    fresh.setattr(encodings, "_offline", lambda name: loads.append(name) or object())

    def load():
        started.wait(10)
        load_encoding("o200k_base")

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert loads == ["o200k_base"]


@pytest.mark.parametrize("folders", [None, []], ids=["not installed", "no folder"])
def test_without_installed_ranks_tiktokens_own_loader_is_asked(fresh, folders):
    spec = None if folders is None else type("Spec", (), {"submodule_search_locations": folders})
    fresh.setattr(encodings, "find_spec", lambda _name: spec)
    asked = []
    fresh.setattr(
        "tiktoken.load.load_tiktoken_bpe",
        lambda url, **_check: asked.append(url) or {bytes([i]): i for i in range(256)},
    )
    fresh.setattr(encodings, "_encoding", lambda _name, load: load("the ranks' address"))
    load_encoding("o200k_base")
    assert asked == ["the ranks' address"]


def test_an_installed_package_without_the_ranks_is_as_good_as_none(fresh, tmp_path):
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    fresh.setattr(encodings, "find_spec", lambda _name: spec)
    assert encodings._offline("o200k_base") is None


def test_ranks_are_read_from_where_the_package_lies(fresh, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cl100k_base.tiktoken.gz").write_bytes(gzip.compress(b"YQ== 0\n\nYg== 1\n"))
    assert encodings._read_ranks(tmp_path / "data" / "cl100k_base.tiktoken.gz") == {b"a": 0, b"b": 1}


def test_a_failed_download_warns_once_and_says_why(fresh):
    fresh.setattr(encodings, "_offline", lambda _name: None)

    def fail(*_args):
        raise OSError("no route to host")

    fresh.setattr(encodings, "_encoding", fail)
    with pytest.warns(TokenizerUnavailableWarning, match=r"no route to host.*\[offline\]"):
        assert load_encoding("o200k_base") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_encoding("o200k_base") is None


def test_a_download_that_hangs_is_given_up_and_leaves_tiktoken_usable(fresh):
    over = threading.Event()
    fresh.setattr(encodings, "_offline", lambda _name: None)
    fresh.setattr(encodings, "_encoding", lambda *_args: over.wait(30))
    fresh.setattr(encodings, "_DOWNLOAD_SECONDS", 0.01)
    import tiktoken.registry

    try:
        with pytest.warns(TokenizerUnavailableWarning, match="no answer within"):
            assert load_encoding("o200k_base") is None
        assert tiktoken.registry._lock.acquire(blocking=False)
        tiktoken.registry._lock.release()
    finally:
        over.set()
