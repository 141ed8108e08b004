import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from langchain_runtime.cli.home import Home
from langchain_runtime.cli.run_index import RunIndex, RunRecord
from langchain_runtime.cli.run_lock import driving, is_driven
from langchain_runtime.contracts.errors import InvalidInputError, RunNotFoundError


def record(run_id: str, **changes) -> RunRecord:
    fields = {
        "run_id": run_id,
        "name": "x",
        "kind": "run",
        "state": "running",
        "run_file": {},
        "inputs": {},
        "model": "m",
    }
    return RunRecord(**(fields | changes))


def test_the_option_wins_over_the_variable_over_the_users_data_folder(tmp_path):
    variable = {"LCR_HOME": str(tmp_path / "variable")}
    assert Home.locate(tmp_path / "option", variable).path == tmp_path / "option"
    assert Home.locate(None, variable).path == tmp_path / "variable"
    assert Home.locate(None, {}).path.name == "langchain_runtime"


def test_locating_and_reading_a_home_writes_nothing(tmp_path):
    home = Home(tmp_path / "home")
    assert home.index().all() == []
    with pytest.raises(RunNotFoundError):
        home.index().get("nobody")
    assert not home.path.exists()


def test_a_home_that_cannot_be_made_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError) as caught:
        Home(tmp_path / "file" / "home").create()
    assert "--home" in str(caught.value.hint)


def test_a_home_without_write_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, as which containers run, may write everywhere
    with pytest.raises(InvalidInputError, match="cannot be written to"):
        Home(tmp_path).create()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_home_is_for_its_user_alone(tmp_path):
    home = Home(tmp_path / "new" / "home")
    home.create()
    assert home.path.stat().st_mode & 0o077 == 0


async def test_persistence_opens_runs_and_ledger_in_two_files(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    async with home.persistence() as kept:
        assert await kept.checkpointer.aget_tuple({"configurable": {"thread_id": "x"}}) is None
        await kept.store.aput(("a",), "k", {"v": 1})
        assert await kept.ledger.abalances() == []
    assert home.runs_db.exists()
    assert home.ledger_db.exists()


def test_the_index_gives_back_what_it_was_told(tmp_path):
    index = RunIndex(tmp_path / "runs.db")
    told = record("r1", run_file={"tasks": [1]}, inputs={"a": "b"}, options={"allow_code": True})
    index.add(told)
    assert index.get("r1") == told


def test_the_index_lists_the_newest_run_first(tmp_path):
    index = RunIndex(tmp_path / "runs.db")
    for day in (1, 3, 2):
        index.add(record(f"r{day}", created_at=datetime(2026, 1, day, tzinfo=UTC)))
    assert [entry.run_id for entry in index.all()] == ["r3", "r2", "r1"]


def test_an_update_changes_state_file_and_model_only(tmp_path):
    index = RunIndex(tmp_path / "runs.db")
    before = record("r1", created_at=datetime(2026, 1, 1, tzinfo=UTC), updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    index.add(before)
    index.update("r1", state="completed", run_file={"name": "y"}, model="n")
    after = index.get("r1")
    assert (after.state, after.run_file, after.model) == ("completed", {"name": "y"}, "n")
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


@pytest.mark.parametrize("run_id", ["../evil", "a/b", "x/../../evil", "", ".hidden", "a\x00b", "-x"])
def test_a_run_id_with_a_path_in_it_never_reaches_the_disk(tmp_path, run_id):
    index = RunIndex(tmp_path / "runs.db")
    with pytest.raises(InvalidInputError):
        index.get(run_id)
    with pytest.raises(InvalidInputError):
        index.add(record(run_id))
    assert list(tmp_path.iterdir()) == []


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path):
    lock = tmp_path / "r1.lock"
    assert not is_driven(lock)
    with driving(lock, "r1"):
        assert is_driven(lock)
        with pytest.raises(InvalidInputError, match="driven by another process"), driving(lock, "r1"):
            pass
    assert not is_driven(lock)


@pytest.mark.crash
def test_a_killed_driver_leaves_no_lock(tmp_path):
    lock = tmp_path / "r1.lock"
    code = (
        "import sys, time; from pathlib import Path; from langchain_runtime.cli.run_lock import driving\n"
        "with driving(Path(sys.argv[1]), 'r1'):\n    print('held', flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver:
        assert driver.stdout.readline() == "held\n"
        assert is_driven(lock)
        driver.kill()
    assert not is_driven(lock)


def test_a_lock_file_lies_in_the_home(tmp_path):
    assert Home(tmp_path).lock_file("r1").parent == Path(tmp_path / "locks")


@pytest.mark.parametrize(("option", "added"), [(None, ""), (Path("my runs"), " --home 'my runs'")])
def test_a_home_knows_what_finds_it_again(option, added):
    assert Home.locate(option, {"LCR_HOME": "x"}).option == added
