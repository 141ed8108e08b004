"""What ``langchain_runtime.pipelines`` offers, loaded at first use."""

import pytest

from langchain_runtime import pipelines


def test_every_public_name_can_be_loaded_and_is_listed():
    assert all(getattr(pipelines, name).__name__ == name for name in pipelines.__all__)
    assert set(pipelines.__all__) <= set(dir(pipelines))


def test_a_name_it_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'brief_grpah'"):
        _ = pipelines.brief_grpah
