import json

import pytest

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.graph import run_file_reader
from langchain_runtime.graph.run_file_reader import MAX_BYTES, read_run_file


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes, name: str = "run.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        read_run_file(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_yaml_and_json_give_the_same_run_file(file):
    yaml_text = 'name: x\ntasks:\n  - {id: a, prompt: "hi"}\n  - {id: b, prompt: "{a}", deps: [a]}\n'
    data = {"name": "x", "tasks": [{"id": "a", "prompt": "hi"}, {"id": "b", "prompt": "{a}", "deps": ["a"]}]}
    assert read_run_file(file(yaml_text)) == read_run_file(file(json.dumps(data), "run.json"))


def test_a_byte_order_mark_is_no_part_of_the_text(file):
    assert read_run_file(file(b"\xef\xbb\xbfname: x\ntasks: [{id: a, prompt: hi}]")).name == "x"


def test_dates_stay_the_text_that_their_author_typed(file):
    run_file = read_run_file(file("inputs: {day: 2026-11-22}\ntasks: [{id: a, prompt: '{day}'}]"))
    assert run_file.inputs == {"day": "2026-11-22"}


def test_anchors_and_merge_keys_work(file):
    text = "tasks:\n  - &a {id: a, prompt: hi, priority: 3}\n  - {<<: *a, id: b}\n  - {<<: *a, id: c, priority: 1}\n"
    tasks = read_run_file(file(text)).tasks
    assert [(task.id, task.prompt, task.priority) for task in tasks] == [("a", "hi", 3), ("b", "hi", 3), ("c", "hi", 1)]


def test_a_mapping_that_overrides_what_it_merges_can_be_merged_itself(file):
    text = "tasks:\n- {<<: &two {<<: &one {id: a, prompt: hi}, prompt: ho}, id: b}\n- {<<: *two, id: c}\n- {<<: *one}\n"
    assert [task.prompt for task in read_run_file(file(text)).tasks] == ["ho", "ho", "hi"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("name: a\nname: b\ntasks: [{id: a, prompt: hi}]", "line 2: key 'name' occurs twice", id="top"),
        pytest.param("tasks:\n  - id: a\n    prompt: x\n    id: b", "line 4: key 'id' occurs twice", id="nested"),
        pytest.param("tasks: [{id: a, prompt: hi}", "line 1, column", id="syntax"),
        pytest.param("a: b: c", "line 1, column", id="nested-mapping"),
        pytest.param("x: !!python/object/apply:os.system ['true']", "line 1, column 4", id="tag"),
        pytest.param("a: 1\n---\nb: 2", "line 2, column 1", id="two-documents"),
        pytest.param("", "not nothing", id="empty"),
        pytest.param("- a", "not list", id="list"),
        pytest.param("hello", "not str", id="text"),
        pytest.param("tasks: *nobody", "undefined alias", id="unknown-alias"),
        pytest.param("tasks: &a [*a]", "an alias inside of what it stands for", id="recursive-alias"),
        pytest.param("[" * 20_000, "nested too deeply", id="deep"),
        pytest.param("x: \x00", "special characters are not allowed", id="control"),
        pytest.param(b"\xff\xfe\x00", "not UTF-8 text (byte 0)", id="binary"),
        pytest.param(" " * (MAX_BYTES + 1), "larger than 4 MiB", id="huge"),
        pytest.param("tasks: []", "tasks", id="no-tasks"),
        pytest.param("version: 2\ntasks: [{id: a, prompt: hi}]", "version", id="other-version"),
    ],
)
def test_a_bad_document_is_refused_with_its_place(file, text, says):
    assert says in str(refusal(file(text)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"name": "a", "name": "b"}', "key 'name' occurs twice", id="repeated"),
        pytest.param('{"name": }', "line 1, column 10", id="syntax"),
        pytest.param('{"inputs": {"x": NaN}}', "NaN is not a JSON number", id="nan"),
        pytest.param("[" * 200_000, "nested too deeply", id="deep"),
    ],
)
def test_a_bad_json_document_is_refused_with_its_place(file, text, says):
    assert says in str(refusal(file(text, "run.json")))


def test_a_bomb_of_aliases_is_refused_before_it_explodes(file):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    error = refusal(file("\n".join(["a0: &a0 [lol]", *levels])))
    assert f"more than {run_file_reader.MAX_NODES} values" in str(error)


def test_a_large_honest_file_is_read(file):
    count = 5_000
    text = "tasks:\n" + "".join(f"- {{id: t{n}, prompt: hi}}\n" for n in range(count))
    assert len(read_run_file(file(text)).tasks) == count


def test_an_unknown_key_is_refused_with_the_nearest_valid_name(file):
    error = refusal(file("tasks: [{id: a, promt: hi}]"))
    assert "unknown key 'promt'" in str(error)
    assert error.hint == "did you mean 'prompt'?"


def test_a_missing_file_is_refused(tmp_path):
    assert "No such file" in str(refusal(tmp_path / "nowhere.yaml"))


def test_a_folder_is_refused(tmp_path):
    assert "directory" in str(refusal(tmp_path))
