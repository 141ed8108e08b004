"""A SQLite ledger whose file is locked, full, read-only, damaged or gone: nothing is sent and nothing leaks.

Everything that goes wrong here goes wrong for real: files, folders, permissions, limits of the system, processes.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetNotSetError, LedgerUnavailableError
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.ledgers import _sqlite_store as store
from langchain_runtime.testing import ScriptedChatModel

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and limits as POSIX has them")
PAGE = 4096
NOBODY = 65_534

# --- what can happen to a file: each of these undoes itself ----------------------------------------------------------


@contextmanager
def locked(path):
    """Another process writes and does not come to an end."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate()


@contextmanager
def as_nobody():
    """Permissions mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def read_only_file(path):
    path.chmod(0o444)
    with as_nobody():
        yield
    path.chmod(0o666)


@contextmanager
def read_only_folder(path):
    path.parent.chmod(0o555)
    with as_nobody():
        yield
    path.parent.chmod(0o777)


@contextmanager
def barred_folder(path):
    path.parent.chmod(0)
    with as_nobody():
        yield
    path.parent.chmod(0o777)


@contextmanager
def no_room(_path):
    """The system lets no file grow (EFBIG)."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def rewritten(change):
    """The bytes of the file are others."""

    @contextmanager
    def rewrite(path):
        good = path.read_bytes()
        path.write_bytes(change(good))
        yield
        for file in path.parent.glob(f"{path.name}-*"):
            file.unlink()
        path.write_bytes(good)

    return rewrite


@contextmanager
def gone(path):
    path.rename(f"{path}.moved")
    yield
    Path(f"{path}.moved").replace(path)


@contextmanager
def file_instead_of_its_folder(path):
    away = path.parent.with_name(f"{path.parent.name}-away")
    path.parent.rename(away)
    path.parent.touch()
    yield
    path.parent.unlink()
    away.rename(path.parent)


@contextmanager
def folder_instead(path):
    with gone(path):
        path.mkdir()
        yield
        path.rmdir()


def blocked(suffix):
    """A file that write-ahead logging needs cannot be made."""

    @contextmanager
    def block(path):
        Path(f"{path}{suffix}").mkdir()
        yield
        Path(f"{path}{suffix}").rmdir()

    return block


# What happens, what the error says, and whether it happens to an open connection.
OUTAGES = {
    "locked by another process": (locked, r"locked by another process \(waited 0.05 s\)", True),
    "read-only file": (read_only_file, "read-only", False),
    "read-only folder": (read_only_folder, "cannot be opened|read-only", False),
    "barred folder": (barred_folder, "cannot be opened", False),
    "barred folder, in use": (barred_folder, "cannot be reached", True),
    "no room": (no_room, "cannot be read or written", True),
    "header overwritten": (rewritten(lambda good: b"\xff" * 100 + good[100:]), "not a database", False),
    "pages overwritten": (
        rewritten(lambda good: good[:PAGE] + b"\xff" * PAGE * 4 + good[5 * PAGE :]),
        "damaged",
        False,
    ),
    "truncated": (rewritten(lambda good: good[: PAGE * 2]), "damaged", False),
    "truncated within a page": (rewritten(lambda good: good[: PAGE + 500]), "damaged", False),
    "nothing but zeros": (rewritten(lambda good: bytes(len(good))), "not a database", False),
    "another program's file": (rewritten(lambda _: b"Dear diary, " * 1_000), "not a database", False),
    "gone while in use": (gone, "was removed while", True),
    "a folder in its place": (folder_instead, "cannot be opened", False),
    "a folder in its place, in use": (folder_instead, "was replaced while|cannot be opened", True),
    "a file in place of its folder, in use": (file_instead_of_its_folder, "was removed while", True),
    "log cannot be made": (blocked("-wal"), "cannot be opened", False),
    "log's index cannot be made": (blocked("-shm"), "cannot be opened|read-only", False),
}
NEEDS_POSIX = {"read-only file", "read-only folder", "barred folder", "barred folder, in use", "no room"}


@pytest.fixture
def path():
    # Not tmp_path: a folder that others may enter, since these tests do not always run as root.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "ledger.db"


class Desk:
    """A model under a budget, whose books are in a file."""

    def __init__(self, path):
        self.ledger, self.answers = SqliteLedger(path, busy_timeout=0.05), 0
        self.provider = ScriptedChatModel(script=["one two three"], max_tokens=100)
        catalog = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})
        self.model = with_budget(self.provider, Budget.usd("1", scope="user"), ledger=self.ledger, catalog=catalog)

    def invoke(self):
        answer = self.model.invoke("hello").text
        self.answers += 1
        return answer

    def ainvoke(self):
        async def call():
            return (await self.model.ainvoke("hello")).text

        return asyncio.run(call())

    def stream(self):
        return "".join(chunk.text for chunk in self.model.stream("hello"))


@pytest.fixture
def desk(path):
    desk = Desk(path)
    yield desk
    desk.ledger.close()


def open_files(folder):
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(str(link.readlink()))
    return sorted(file for file in found if file.startswith(str(folder)))


@pytest.mark.parametrize("call", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("outage", [pytest.param(name, marks=posix if name in NEEDS_POSIX else ()) for name in OUTAGES])
def test_a_call_without_its_books_is_not_sent_and_the_next_one_is_as_soon_as_they_are_back(path, desk, outage, call):
    happens, says, in_use = OUTAGES[outage]
    assert getattr(desk, call)() == "one two three"
    spent = desk.ledger.balance("user").spent_nano
    if not in_use:
        desk.ledger.close()
    with happens(path):
        for _ in range(2):
            with pytest.raises(LedgerUnavailableError, match=says) as raised:
                getattr(desk, call)()
            assert raised.value.hint
            assert str(path) in str(raised.value)
    assert len(desk.provider.calls) == 1
    assert getattr(desk, call)() == "one two three"
    assert len(desk.provider.calls) == 2
    balance = desk.ledger.balance("user")
    assert (balance.spent_nano, balance.held_nano) == (2 * spent, 0)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("outage", [pytest.param(name, marks=posix if name in NEEDS_POSIX else ()) for name in OUTAGES])
def test_an_outage_leaves_no_open_file_no_thread_and_no_lock_behind(path, desk, outage):
    happens, _, in_use = OUTAGES[outage]
    desk.invoke()
    desk.ledger.close()
    threads = set(threading.enumerate())
    if in_use:
        desk.ledger.balance("user")
    with happens(path):
        for _ in range(3):
            with suppress(LedgerUnavailableError):
                desk.invoke()
            with suppress(LedgerUnavailableError):
                desk.ainvoke()
    asked = threading.Thread(target=lambda: desk.ledger.balance("user"))  # the lock is re-entrant: ask from elsewhere
    asked.start()
    asked.join(timeout=30)
    assert not asked.is_alive()
    desk.ledger.close()
    assert set(threading.enumerate()) <= threads  # those of earlier tests may end meanwhile
    assert open_files(path.parent) == []


def test_a_file_that_was_emptied_does_not_give_a_running_process_a_fresh_budget(path, desk):
    desk.invoke()
    desk.ledger.close()
    with rewritten(lambda _: b"")(path):
        with pytest.raises(BudgetNotSetError):
            desk.invoke()
        desk.ledger.close()
    assert len(desk.provider.calls) == 1
    assert desk.invoke() == "one two three"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_on_a_full_disk_nothing_is_sent_until_there_is_room(small_disk):
    desk = Desk(small_disk / "ledger.db")
    desk.invoke()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    with pytest.raises(LedgerUnavailableError, match="the disk is full") as raised:
        deque(iter(desk.invoke, None))  # until what room the log has of its own is used up
    assert "free some space" in raised.value.hint
    sent = len(desk.provider.calls)
    assert sent == desk.answers
    filler.unlink()
    assert desk.invoke() == "one two three"
    assert len(desk.provider.calls) == sent + 1
    balance = desk.ledger.balance("user")
    assert balance.spent_nano + balance.held_nano >= sent
    desk.ledger.close()


def test_where_no_log_can_be_shared_the_ledger_is_refused(path, monkeypatch):
    """SQLite itself, on locks that some network file systems need: it goes on without a log then, and says nothing."""

    def connect(file, **options):
        return sqlite3.Connection(f"file:{file}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(store.sqlite3, "connect", connect)
    with pytest.raises(LedgerUnavailableError, match="write-ahead log") as raised:
        SqliteLedger(path).balances()
    assert "local disk" in raised.value.hint
