import json
import tracemalloc
from pathlib import Path

import pytest

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.graph import RunGraph, run_file_reader
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


@pytest.mark.parametrize(
    "text", ["2026-11-22", "12:30:45", "yes", "NO", "on", "007", "0x1F", "1_000", "+5", ".5", ".nan", "-.inf", "="]
)
def test_what_json_does_not_have_stays_the_text_that_its_author_typed(file, text):
    run_file = read_run_file(file(f"inputs: {{x: {text}}}\ntasks: [{{id: a, prompt: '{{x}}'}}]"))
    assert run_file.inputs == {"x": text}


@pytest.mark.parametrize("text", ["1", "-7", "0", "1.5", "1e3", "-0.25E-2", "true", "false", "null", '"text"'])
def test_what_json_has_means_the_same_in_yaml(file, text):
    run_file = read_run_file(file(f"inputs: {{x: {text}}}\ntasks: [{{id: a, prompt: hi}}]"))
    assert run_file.inputs == {"x": json.loads(text)}
    assert type(run_file.inputs["x"]) is type(json.loads(text))


@pytest.mark.parametrize("text", ["True", "TRUE", "~", "Null", ""])
def test_the_other_spellings_of_yaml_for_true_and_nothing_are_read(file, text):
    run_file = read_run_file(file(f"inputs:\n  x: {text}\ntasks: [{{id: a, prompt: hi}}]"))
    assert run_file.inputs == {"x": True if text in {"True", "TRUE"} else None}


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
        pytest.param("x: !!python/object/apply:os.system ['true']", "line 1: tags are not supported", id="tag"),
        pytest.param("!!python/object/new:os.system ['true']", "line 1: tags are not supported", id="tag-of-all"),
        pytest.param("a: 1\nx: !!timestamp 9999-99-99", "line 2: tags are not supported", id="tag-of-a-date"),
        pytest.param("x: !!int abc", "line 1: tags are not supported", id="tag-of-a-number"),
        pytest.param("x: !!set {a}", "line 1: tags are not supported", id="tag-of-a-set"),
        pytest.param("x: !local 1", "line 1: tags are not supported", id="tag-of-ones-own"),
        pytest.param("1: a", "line 1: key 1 is no text", id="number-as-key"),
        pytest.param("a: 1\n~: a", "line 2: key ~ is no text", id="nothing-as-key"),
        pytest.param("? [a, b]\n: c", "line 1: key that is a list or mapping is no text", id="list-as-key"),
        pytest.param("%YAML 3.0\n---\na: 1", "version 1.* is required", id="other-yaml"),
        pytest.param("x: 1" + "0" * 5_000, "a whole number has too many digits", id="endless-number"),
        pytest.param("inputs: {x: 18446744073709551616}", "a whole number of 65 bits does not fit 64", id="65-bits"),
        pytest.param("inputs: {x: 1e999}", "inf is no JSON number", id="too-large"),
        pytest.param('inputs: {x: "\\uD800"}', "holds half a character", id="half-a-character"),
        pytest.param('inputs: {"\\uD800": x}', "holds half a character", id="half-a-key"),
        pytest.param("a: 1\n---\nb: 2", "line 2, column 1", id="two-documents"),
        pytest.param("", "not nothing", id="empty"),
        pytest.param("- a", "not list", id="list"),
        pytest.param("hello", "not str", id="text"),
        pytest.param("tasks: *nobody", "undefined alias", id="unknown-alias"),
        pytest.param("tasks: &a [*a]", "an alias inside of what it stands for", id="recursive-alias"),
        pytest.param("[" * (MAX_BYTES - 1), "nested too deeply", id="deep"),
        pytest.param("- " * 100_000, "nested too deeply", id="deep-in-blocks"),
        pytest.param("? " * 100_000, "nested too deeply", id="deep-in-keys"),
        pytest.param("x: " + "[" * 101 + "]" * 101, "more than 100 levels", id="fairly-deep"),
        pytest.param("x: \x00", "special characters are not allowed", id="control"),
        pytest.param("tasks: []\n\x00", "special characters are not allowed", id="control-at-the-end"),
        pytest.param(b"\xff\xfe\x00", "not UTF-8 text (byte 0)", id="binary"),
        pytest.param("a: 1".encode("utf-16"), "not UTF-8 text (byte 0)", id="utf-16"),
        pytest.param(" " * (MAX_BYTES + 1), "larger than 4 MiB", id="huge"),
        pytest.param("*" + "a" * 100_000, "undefined alias", id="endless-alias"),
        pytest.param("tasks: []", "tasks", id="no-tasks"),
        pytest.param("version: 2\ntasks: [{id: a, prompt: hi}]", "version", id="other-version"),
    ],
)
def test_a_bad_document_is_refused_with_its_place(file, text, says):
    error = refusal(file(text))
    assert says in str(error)
    assert error.hint
    assert len(str(error)) < 1_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"name": "a", "name": "b"}', "key 'name' occurs twice", id="repeated"),
        pytest.param('{"name": }', "line 1, column 10", id="syntax"),
        pytest.param('{"inputs": {"x": NaN}}', "NaN is not a JSON number", id="nan"),
        pytest.param('{"inputs": {"x": 1e999}}', "inf is no JSON number", id="too-large"),
        pytest.param('{"inputs": {"x": -9223372036854775809}}', "does not fit 64", id="64-bits"),
        pytest.param('{"x": 1' + "0" * 5_000 + "}", "a whole number has too many digits", id="endless-number"),
        pytest.param('{"inputs": {"x": "\\ud800"}}', "holds half a character", id="half-a-character"),
        pytest.param('{"x": ' + "[" * 101 + "]" * 101 + "}", "more than 100 levels", id="fairly-deep"),
        pytest.param('{"x": "\0"}', "line 1, column 8", id="control"),
        pytest.param("", "line 1, column 1", id="empty"),
        pytest.param("[]", "not list", id="list"),
        pytest.param("null", "not nothing", id="nothing"),
        pytest.param("[" * 200_000, "nested too deeply", id="deep"),
    ],
)
def test_a_bad_json_document_is_refused_with_its_place(file, text, says):
    error = refusal(file(text, "run.json"))
    assert says in str(error)
    assert error.hint


def test_the_repeated_key_among_many_is_found(file):
    pairs = ",".join(f'"k{number}":1' for number in range(100_000))
    assert "key 'k99999' occurs twice" in str(refusal(file(f'{{{pairs},"k99999":2}}', "run.json")))


def test_a_bomb_of_aliases_is_refused_before_it_explodes(file):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    error = refusal(file("\n".join(["a0: &a0 [lol]", *levels])))
    assert f"more than {run_file_reader.MAX_NODES} values" in str(error)


def test_a_bomb_of_one_long_text_is_refused_before_it_explodes(file):
    text = f"a: &long {'x' * 100_000}\nb: [{'*long,' * 50}]"
    assert f"more than {MAX_BYTES} characters once aliases are written out" in str(refusal(file(text)))


def test_a_document_of_too_many_values_is_not_read_to_its_end(file, monkeypatch):
    monkeypatch.setattr(run_file_reader, "MAX_NODES", 1_000)
    error = refusal(file("- a\n" * 1_000 + "- *nobody\n"))
    assert "line 1000: more than 1000 values" in str(error)


def test_a_file_of_a_hundred_megabytes_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "run.yaml"
    with path.open("wb") as large:
        large.truncate(100 * 1024**2)
    tracemalloc.start()
    refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MAX_BYTES


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


def test_a_path_with_a_nul_is_refused():
    assert "null byte" in str(refusal(Path("run\0.yaml")))


def test_a_folder_is_refused(tmp_path):
    assert "directory" in str(refusal(tmp_path))


# --- ids of tasks, from a file and from code -------------------------------------------------------------------------

BAD_IDS = {
    **{sign: f"a{sign}b" for sign in "|:/\\#*? \n\0"},
    "dots": "..",
    "inner-dots": "a..b",
    "hidden": ".a",
    "option": "-a",
    "empty": "",
    "129-characters": "x" * 129,
    "megabyte": "x" * 1_000_000,
    "letter-beyond-ascii": "\u00e9",
    "digit-beyond-ascii": "a\u0661",
    "number": 7,
    "nothing": None,
    "list": ["a"],
    **{name: name for name in ("driver", "prepare", "finish", "pause", "__start__", "__end__", "__interrupt__", "__x")},
}


@pytest.mark.parametrize("task_id", BAD_IDS.values(), ids=map(repr, BAD_IDS))
def test_an_id_that_could_not_be_a_nodes_name_is_refused_with_a_hint_from_code(task_id):
    with pytest.raises(InvalidInputError, match="is not a valid task id") as caught:
        RunGraph().add_task(task_id, lambda inputs: 1)
    assert "1 to 128 letters" in caught.value.hint
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("task_id", BAD_IDS.values(), ids=map(repr, BAD_IDS))
def test_an_id_that_could_not_be_a_nodes_name_is_refused_with_a_hint_from_a_file(file, task_id):
    with pytest.raises(InvalidInputError, match="is not a valid task id") as caught:
        RunGraph.from_file(file(json.dumps({"tasks": [{"id": task_id, "prompt": "hi"}]}), "run.json"))
    assert "1 to 128 letters" in caught.value.hint
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("task_id", ["x" * 128, "_", "_start", "0", "Driver", "a.b-c_d"])
def test_other_ids_are_taken_from_code_and_file(file, task_id):
    RunGraph().add_task(task_id, lambda inputs: 1)
    path = file(json.dumps({"tasks": [{"id": task_id, "prompt": "hi"}]}), "run.json")
    assert [task.id for task in read_run_file(path).tasks] == [task_id]
