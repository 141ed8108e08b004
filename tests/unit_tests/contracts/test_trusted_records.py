"""Records that skip validation are the same records."""

import copy
import pickle

import pytest
from pydantic import ValidationError

from langchain_runtime.contracts.budget import Hold, Settlement
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.usage import TokenUsage


@pytest.mark.parametrize(
    "record",
    [
        TokenUsage(input=3, cache_read=1),
        Settlement(reservation_id="r", nano=5),
        Hold(id="h", scopes=("s",), nano=1, holder="x"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_trusted_record_equals_the_validated_one_and_travels_like_it(record):
    made = trusted(type(record), dict(record))
    assert made == record
    assert made.model_dump() == record.model_dump()
    assert made.model_dump_json() == record.model_dump_json()
    assert pickle.loads(pickle.dumps(made)) == record
    assert copy.deepcopy(made) == record
    assert made.model_copy() == record
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, next(iter(type(record).model_fields)), 1)


def test_copies_with_changes_leave_the_others_as_they_are():
    first, second = (trusted(TokenUsage, dict(TokenUsage(input=1))) for _ in range(2))
    first.model_copy(update={"stranger": 5})
    assert second.model_fields_set == set(TokenUsage.model_fields)
    assert first == second
