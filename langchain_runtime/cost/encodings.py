"""tiktoken's encodings without the network where possible.

tiktoken downloads its rank files on first use. The extra ``[offline]`` (bpe-openai) carries the same files: they are
read first, then tiktoken's own cache, then the download gets a few seconds.
"""

from __future__ import annotations

import base64
import gzip
import re
import threading
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tiktoken

_DOWNLOAD_SECONDS: Final = 5.0

_CL100K: Final = re.compile(r"^(gpt-4(?!o|\.|-?5)|gpt-3\.5|text-embedding)")
"""OpenAI models before GPT-4o; later ones use o200k_base (tiktoken/model.py), our guess for all others."""


class TokenizerUnavailableWarning(UserWarning):
    """tiktoken's rank files are neither installed nor cached nor downloadable: tokens are estimated by size."""


_lock = threading.Lock()


def encoding_name(model: str | None) -> str:
    """The encoding that counts for ``model``."""
    name = (model or "").rpartition(":")[2]
    return "cl100k_base" if _CL100K.match(name) else "o200k_base"


def load_encoding(name: str) -> tiktoken.Encoding | None:
    """The encoding, or None with one warning when it cannot be had; looked for once per process."""
    with _lock:  # the first one loads, the others wait for it
        return _load(name)


@cache
def _load(name: str) -> tiktoken.Encoding | None:
    encoding = _offline(name)
    if encoding is not None:
        return encoding
    found = _downloaded(name)
    if not isinstance(found, Exception):
        return found
    warnings.warn(
        f"tiktoken's {name} is not installed and could not be downloaded ({found}); tokens are estimated from bytes. "
        'Install "langchain-runtime-layer[offline]" for exact counts.',
        TokenizerUnavailableWarning,
        stacklevel=4,
    )
    return None


def _offline(name: str) -> tiktoken.Encoding | None:
    # Found without being imported: the package reads all its encodings when it is.
    package = find_spec("bpe_openai")
    folders = (package.submodule_search_locations or ()) if package is not None else ()
    files = (Path(folder) / "data" / f"{name}.tiktoken.gz" for folder in folders)
    ranks = next((file for file in files if file.is_file()), None)
    return None if ranks is None else _encoding(name, lambda _url, **_check: _read_ranks(ranks))


def _read_ranks(path: Path) -> dict[bytes, int]:
    """A rank file: one token a line, base64, with its rank."""
    lines = gzip.decompress(path.read_bytes()).splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def _encoding(name: str, load: Callable[..., dict[bytes, int]]) -> tiktoken.Encoding:
    """Build tiktoken's own encoding with ranks from elsewhere: pattern and special tokens stay tiktoken's."""
    import tiktoken  # noqa: PLC0415 - only where tokens are counted
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    constructor = getattr(openai_public, name)
    rebound = type(constructor)(constructor.__code__, {**constructor.__globals__, "load_tiktoken_bpe": load})
    return tiktoken.Encoding(**rebound())


def _downloaded(name: str) -> tiktoken.Encoding | Exception:
    """The encoding from tiktoken's cache or its download, or why there is none.

    Not by ``tiktoken.get_encoding``: it holds a lock of the whole process for as long as the download hangs.
    """
    from tiktoken.load import load_tiktoken_bpe  # noqa: PLC0415 - only where tokens are counted

    found: list[tiktoken.Encoding | Exception] = []

    def fetch() -> None:
        try:
            found.append(_encoding(name, load_tiktoken_bpe))
        except Exception as error:  # noqa: BLE001 - whatever the network says, counting goes on without it
            found.append(error)

    thread = threading.Thread(target=fetch, name="tiktoken-download", daemon=True)
    thread.start()
    thread.join(_DOWNLOAD_SECONDS)
    return found[0] if found else TimeoutError(f"no answer within {_DOWNLOAD_SECONDS:.0f} s")
