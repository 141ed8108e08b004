import pytest

from langchain_runtime.cli.model_choice import EXTRACTIVE, choose_model

BOTH = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x"}


def choose(explicit=None, of_file=None, environment=None, installed=("langchain_openai", "langchain_anthropic")):
    return choose_model(
        explicit=explicit,
        of_file=of_file,
        environment=environment or {},
        is_installed=lambda module: module in installed,
    )


@pytest.mark.parametrize(
    ("given", "model", "why"),
    [
        pytest.param({"explicit": "a:b", "of_file": "c:d", "environment": BOTH}, "a:b", "--model", id="explicit"),
        pytest.param({"of_file": "c:d", "environment": BOTH}, "c:d", "named by the run file", id="file"),
        pytest.param({"environment": BOTH}, "openai:", "OPENAI_API_KEY is set", id="openai-key"),
        pytest.param(
            {"environment": {"ANTHROPIC_API_KEY": "x"}}, "anthropic:", "ANTHROPIC_API_KEY is set", id="anthropic"
        ),
        pytest.param(
            {"environment": BOTH, "installed": ["langchain_anthropic"]}, "anthropic:", "ANTHROPIC", id="client"
        ),
        pytest.param(
            {"environment": BOTH, "installed": []}, EXTRACTIVE, "langchain-openai is not installed", id="none"
        ),
        pytest.param({"environment": {"OPENAI_API_KEY": ""}}, EXTRACTIVE, "no provider key", id="empty-key"),
        pytest.param({}, EXTRACTIVE, "offline", id="nothing"),
    ],
)
def test_the_first_that_says_something_decides_and_the_reason_is_given(given, model, why):
    choice = choose(**given)
    assert choice.model.startswith(model)
    assert why in str(choice)


@pytest.mark.parametrize("key", sorted(BOTH))
def test_the_model_chosen_by_a_key_has_a_price(key):
    from langchain_runtime.cost import ModelCatalog

    assert ModelCatalog().get(choose(environment={key: "x"}).model).rates is not None
