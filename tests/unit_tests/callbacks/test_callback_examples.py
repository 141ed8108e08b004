"""The examples in the docstrings run as they stand."""

import doctest

import pytest

from langchain_runtime.callbacks import budget, usage


@pytest.mark.parametrize(("module", "examples"), [(usage, 11), (budget, 8)])
def test_the_examples_of_a_module_run(module, examples):
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    assert doctest.testmod(module, optionflags=flags) == (0, examples)
