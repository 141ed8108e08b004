"""Collects documents to quote from: a folder of text files, or the documentation that ships with installed packages."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from langchain_runtime.contracts.errors import InvalidInputError

MAX_FILE_BYTES: Final = 2_000_000
"""Larger files are data rather than documents: about half a million tokens to read for every question."""

_SUFFIXES: Final = frozenset({".markdown", ".md", ".rst", ".txt"})
_PACKAGE_SUFFIXES: Final = frozenset({".markdown", ".md", ".rst"})
"""Inside of packages, ``.txt`` is for word lists and test data."""
_BARE_NAMES: Final = frozenset(
    {
        "AUTHORS",
        "CHANGELOG",
        "CHANGES",
        "CONTRIBUTING",
        "COPYING",
        "HISTORY",
        "INSTALL",
        "LICENSE",
        "NEWS",
        "NOTICE",
        "README",
    }
)
"""Documents although their name has no suffix."""
_FOREIGN_FOLDERS: Final = frozenset({"__pycache__", "_vendor", "node_modules", "site-packages", "vendor"})
_SNIFFED_BYTES: Final = 8_192
_LISTED: Final = 3


class Document(BaseModel):
    """A text to quote from.

    Attributes:
        id: Short, readable and unique in its corpus; it stands in brackets behind a quote.
        path: Where the text can be found again, absolute.
        text: As it stands in the file; for a package's README, in the package's metadata.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[^\s\[\]\"<>{}:]+$")  # what citations and prompts use as punctuation
    path: str
    text: str


class Corpus(BaseModel):
    """Documents in the order they are read, and a line for everything that was passed over: what and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: tuple[Document, ...]
    skipped: tuple[str, ...] = ()


class _NotADocumentError(Exception):
    """Why a file is passed over."""


class _Collector:
    """Gathers documents, with an id of its own for each text."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._id_by_text: dict[str, str] = {}
        self.skipped: list[str] = []

    def add(self, name: str, path: Path | str, text: str, *, suffix: str = "") -> None:
        """Add a text; ``suffix`` tells two documents of one name apart."""
        if not text.strip():
            self.skip(path, "empty")
        elif text in self._id_by_text:
            self.skip(path, f"same text as {self._id_by_text[text]}")
        else:
            id_ = self._free_id(name, suffix)
            self._documents[id_] = Document(id=id_, path=str(path), text=text)
            self._id_by_text[text] = id_

    def add_file(self, name: str, path: Path) -> None:
        """Add a file, or note why not."""
        try:
            text = _read(path)
        except _NotADocumentError as reason:
            self.skip(path, str(reason))
        else:
            self.add(str(PurePath(name).with_suffix("")), path, text, suffix=path.suffix)

    def skip(self, path: Path | str, reason: str) -> None:
        """Note what is passed over and why."""
        self.skipped.append(f"{path}: {reason}")

    def corpus(self, *, nothing: str) -> Corpus:
        """What was gathered.

        Raises:
            InvalidInputError: Nothing; ``nothing`` is the message.
        """
        if not self._documents:
            seen = "; ".join(self.skipped[:_LISTED]) or "nothing"
            kinds = ", ".join(sorted(_SUFFIXES))
            raise InvalidInputError(nothing, hint=f"documents are UTF-8 files ending in {kinds}; passed over: {seen}")
        return Corpus(documents=tuple(self._documents.values()), skipped=tuple(self.skipped))

    def _free_id(self, name: str, suffix: str) -> str:
        plain, full = (re.sub(r"[^\w./+-]+", "_", text) for text in (name, name + suffix))
        numbered = (f"{full}-{number}" for number in range(2, len(self._documents) + 3))
        return next(id_ for id_ in (plain, full, *numbered) if id_ not in self._documents)


def load_folder(path: str | Path) -> Corpus:
    """Read the documents below a folder, in the order of their paths.

    Read are ``.md``, ``.markdown``, ``.rst`` and ``.txt`` files and bare names like ``README``. A document's id is its
    path below the folder without the suffix. Passed over with a line: hidden, binary, undecodable, unreadable, empty,
    repeated and very large files; files of other kinds share one line.

    Raises:
        InvalidInputError: The folder is missing, cannot be read, or holds no document.
    """
    folder = Path(path).expanduser().absolute()
    _check_folder(folder)
    collector = _Collector()
    others: Counter[str] = Counter()
    for file in _files_below(folder, collector):
        if file.suffix.lower() in _SUFFIXES or file.name.upper() in _BARE_NAMES:
            collector.add_file(str(file.relative_to(folder)), file)
        elif _is_binary(file):
            collector.skip(file, "binary file")
        else:
            others[file.suffix or file.name] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(_LISTED))
        collector.skip(
            folder, f"{others.total()} files that are not documents ({kinds}{', ...' if len(others) > _LISTED else ''})"
        )
    return collector.corpus(nothing=f"there are no documents in {folder}")


def load_installed(packages: Sequence[str]) -> Corpus:
    """Read the documentation that ships with installed packages.

    That is the long description in each package's metadata (its README), with the package's name as its id, and the
    Markdown and reStructuredText files among the package's own files.

    Args:
        packages: Names of distributions, as ``pip`` takes them.

    Raises:
        InvalidInputError: No name was given, a package is not installed, or none ships documentation.
    """
    if not packages:
        raise InvalidInputError("no package was named", hint="name installed packages, e.g. langgraph pydantic")
    distributions = {_canonical(name): _distribution(name) for name in packages}
    collector = _Collector()
    for name, distribution in distributions.items():
        readme = _readme_path(distribution)
        description = distribution.metadata["Description"] or ""
        collector.add(name, readme, "" if description.strip() == "UNKNOWN" else description)
        for file in _documentation_files(distribution):
            below = str(file) if _canonical(file.parts[0]) == name else f"{name}/{file}"
            collector.add_file(below, Path(str(distribution.locate_file(file))))
    return collector.corpus(nothing=f"no documentation ships with {', '.join(distributions)}")


def _check_folder(folder: Path) -> None:
    try:
        with os.scandir(folder):
            return
    except FileNotFoundError:
        message, hint = f"there is no folder {folder}", "name a folder that holds documents, or use installed packages"
    except NotADirectoryError:
        message, hint = f"{folder} is a file", f"name the folder that it is in: {folder.parent}"
    except OSError as error:
        message, hint = f"{folder} cannot be read: {error.strerror}", "check its permissions"
    raise InvalidInputError(message, hint=hint)


def _files_below(folder: Path, collector: _Collector) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        collector.skip(error.filename, f"cannot be read: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=unreadable):
        for name in sorted(folders + files):
            if name.startswith("."):
                collector.skip(Path(root, name), "hidden")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _FOREIGN_FOLDERS)
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _read(path: Path) -> str:
    """The text of a file.

    Raises:
        _NotADocumentError: Why it is none.
    """
    try:
        if not path.is_file():  # a pipe would block, and a dangling link has nothing
            raise _NotADocumentError("not a regular file")
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise _NotADocumentError(f"too large: {size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        raise _NotADocumentError(f"cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise _NotADocumentError("binary file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotADocumentError(f"not UTF-8 text (byte {error.start:,})") from error


def _is_binary(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return b"\0" in stream.read(_SNIFFED_BYTES)
    except OSError:
        return False


def _canonical(name: str) -> str:
    """A distribution's name in its normal form (PyPA, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower().strip()


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name.strip())
    except (metadata.PackageNotFoundError, ValueError):
        installed = sorted({_canonical(found) for d in metadata.distributions() if (found := d.metadata["Name"])})
        nearest = difflib.get_close_matches(_canonical(name), installed, n=1)
        raise InvalidInputError(
            f"the package {name!r} is not installed",
            hint=f"did you mean {nearest[0]!r}?" if nearest else "install it, or name others: `pip list` shows them",
        ) from None


def _readme_path(distribution: metadata.Distribution) -> str:
    for file in distribution.files or ():
        if file.name in {"METADATA", "PKG-INFO"}:
            return str(distribution.locate_file(file))
    return f"{distribution.name} (metadata)"


def _documentation_files(distribution: metadata.Distribution) -> list[metadata.PackagePath]:
    return sorted(
        file
        for file in distribution.files or ()
        if file.suffix.lower() in _PACKAGE_SUFFIXES
        and not file.parts[0].endswith((".dist-info", ".egg-info"))  # licences and lists of authors
        and not any(part.startswith(".") or part in _FOREIGN_FOLDERS for part in file.parts)
    )
