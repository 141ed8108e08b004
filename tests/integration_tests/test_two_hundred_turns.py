"""Two hundred turns at a window of 2,000 tokens, through a restart: every request fits, and nothing is out of reach."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import langchain_classic  # noqa: F401 - its import changes warning filters: not within a test, please
import pytest
from langchain_core.messages import HumanMessage
from langgraph.store.sqlite import SqliteStore

pytestmark = [
    pytest.mark.load,
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
    pytest.mark.filterwarnings("ignore:The class `ConversationChain` was deprecated"),
]


@pytest.fixture(scope="session")
def talks():
    return import_module("long_talks")


def facts_are_within_reach(talks, archive, tool, in_view):
    """Each early fact is found by its words, by the tool, and under its handle, letter by letter."""
    assert not any(talks.code(turn) in text for text in in_view for turn in range(talks.FACTS))
    for turn in range(talks.FACTS):
        words, said = f"locker {turn:03}", talks.question(turn)
        passage = archive.search(words)[0]
        assert talks.code(turn) in passage.text
        assert said in [message.content for message in archive.recall(passage.handle)]
        assert talks.code(turn) in tool.invoke({"query": words})
        assert talks.code(turn) in tool.invoke({"handle": passage.handle})


@pytest.mark.parametrize("face", ["history", "classic"])
def test_a_session_through_a_restart(talks, tmp_path, face):
    first = talks.talk(face, tmp_path, range(100))
    second = talks.talk(face, tmp_path, range(100, 200))
    assert (len(first.calls), len(second.calls)) == ((120, 120) if face == "history" else (100, 100))
    the_session_is_complete(talks, tmp_path)


def test_a_session_that_another_process_began(talks, tmp_path):
    program = [sys.executable, "-W", "ignore", talks.__file__, "history", str(tmp_path), "0", "100"]
    subprocess.run(program, check=True, timeout=100)
    talks.talk("history", tmp_path, range(100, 200))
    the_session_is_complete(talks, tmp_path)


def the_session_is_complete(talks, folder: Path):
    with SqliteStore.from_conn_string(str(folder / "store.db")) as store:
        session = talks.history(store)
        everything, view = session.full_messages, session.messages
        said = [message.content for message in everything if isinstance(message, HumanMessage)]
        assert said == [talks.question(turn) for turn in range(200)]
        kept = [message for handle in session.handles() for message in session.recall(handle)]
        assert all(message in view or message in kept for message in everything)
        facts_are_within_reach(talks, session, session.recall_tool(), [message.text for message in view])
        assert session.report.events < 60


def test_a_graph_through_a_restart(talks, tmp_path):
    talks.talk("graph", tmp_path, range(100))
    model = talks.talk("graph", tmp_path, range(100, 200))
    assert len(model.calls) == 120
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        runnable = talks.compactor(store)
        archive, tool = runnable.archive(talks.SESSION), runnable.recall_tool(talks.SESSION)
        facts_are_within_reach(talks, archive, tool, [message.text for message in model.calls[-1].messages])


def test_processes_that_append_at_once_lose_nothing(talks, tmp_path):
    path = str(tmp_path / "store.db")
    with SqliteStore.from_conn_string(path) as store:
        store.setup()
    code = (
        "import sys, long_talks\n"
        "from langgraph.store.sqlite import SqliteStore\n"
        "with SqliteStore.from_conn_string(sys.argv[1]) as store:\n"
        "    for number in range(50):\n"
        "        long_talks.history(store).add_user_message(f'{sys.argv[2]} says {number}')\n"
    )
    folder = str(Path(talks.__file__).parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", code, path, name], cwd=folder, env=os.environ | {"PYTHONPATH": folder})
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    with SqliteStore.from_conn_string(path) as store:
        texts = [message.text for message in talks.history(store).full_messages]
    for name in ("one", "two", "three"):
        assert [text for text in texts if text.startswith(name)] == [f"{name} says {number}" for number in range(50)]
