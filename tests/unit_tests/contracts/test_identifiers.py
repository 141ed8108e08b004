import pytest
from pydantic import TypeAdapter

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.identifiers import RESERVED_TASK_IDS, RunID, TaskID, check_run_id, check_task_id

GOOD = ["a", "0", "_", "notes_monday", "2026.11-22", "A.b", "x" * 128]
BAD = [
    *("", ".", "..", "a..b", ".hidden", "-flag", "x/../../../evil", "a/b", "a\\b", "a b", "a\n", "a\0", "a:b", "é"),
    "x" * 129,
    "a#0",
    7,
    None,
    b"a",
]


@pytest.mark.parametrize("value", GOOD)
def test_letters_digits_and_a_few_signs_make_an_id(value):
    assert check_run_id(value) == check_task_id(value) == value


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_whatever_could_leave_a_folder_or_break_a_key_is_refused_Z24(value):
    with pytest.raises(InvalidInputError, match="not a valid run id") as caught:
        check_run_id(value)
    assert "1 to 128" in caught.value.hint
    with pytest.raises(InvalidInputError, match="not a valid task id"):
        check_task_id(value)


@pytest.mark.parametrize("value", sorted(RESERVED_TASK_IDS))
def test_names_of_our_own_nodes_are_no_task_ids_and_the_hint_lists_them(value):
    with pytest.raises(InvalidInputError) as caught:
        check_task_id(value)
    assert value in caught.value.hint
    assert check_run_id(value) == value


@pytest.mark.parametrize("value", ["map#0", "map#12#3", *GOOD])
def test_children_of_a_task_have_ids_in_records(value):
    assert TypeAdapter(TaskID).validate_python(value) == value


@pytest.mark.parametrize("value", ["map#", "#0", "map#x", "map#0.1", "map#\u0661", "a..b#0", 7])
def test_other_signs_after_the_separator_are_refused(value):
    with pytest.raises(InvalidInputError, match="not a valid task id"):
        TypeAdapter(TaskID).validate_python(value)


def test_run_ids_in_records_are_checked_too():
    with pytest.raises(InvalidInputError, match="run id"):
        TypeAdapter(RunID).validate_python("../x")
