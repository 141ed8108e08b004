"""Ladders of models, for ``on_exceed="downgrade"``."""

import pytest

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import ModelLadder
from langchain_runtime.cost import FixedLadder
from langchain_runtime.cost.model_ladder import as_ladder


def test_each_model_falls_back_on_the_next_one_of_the_list():
    ladder = FixedLadder(["p:large", "p:middle", "p:small"])
    assert ladder.below("p:large") == "p:middle"
    assert ladder.below("p:middle") == "p:small"


def test_below_the_last_model_and_below_a_stranger_there_is_nothing():
    ladder = FixedLadder(["p:large", "p:small"])
    assert ladder.below("p:small") is None
    assert ladder.below("p:other") is None


@pytest.mark.parametrize("models", [[], ["p:large"], ["p:large", "p:small", "p:large"]])
def test_a_ladder_without_steps_or_with_a_circle_is_refused(models):
    with pytest.raises(InvalidInputError, match="two or more different models"):
        FixedLadder(models)


def test_a_list_of_names_is_a_ladder_and_any_ladder_is_taken_as_it_is():
    ladder = as_ladder(["p:large", "p:small"])
    assert isinstance(ladder, ModelLadder)
    assert as_ladder(ladder) is ladder
    assert repr(ladder) == "FixedLadder(['p:large', 'p:small'])"
    with pytest.raises(InvalidInputError, match="a list of models"):
        as_ladder("p:large")
