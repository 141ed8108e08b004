"""Ladders are checked before anything runs, wherever they come from."""

import jsonschema
import pytest

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.contracts.run_file import RunFile, run_file_schema
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.testing import ScriptedChatModel

CATALOG = ModelCatalog(
    {
        "models": {
            "test:large": {"input": "1000", "output": "1000"},
            "test:small": {"input": "100", "output": "100"},
            "test:free": {"context_window": 9_000},
        }
    }
)
MODELS = {
    name: ScriptedChatModel(provider="test", model=name[5:]) for name in ("test:large", "test:small", "test:free")
}


def graph(ladder=(), *, on_exceed="downgrade", **fields):
    policy = RunPolicy(budget_limit=Cost.usd(1), on_exceed=on_exceed, ladder=ladder, **fields)
    return RunGraph(policy, model="test:large").add_task("t", prompt="Say ok.")


def test_to_move_prompts_down_a_ladder_there_must_be_one():
    with pytest.raises(InvalidInputError, match="would move task 't' to a cheaper model") as caught:
        graph().compile(catalog=CATALOG)
    assert "ladder" in caught.value.hint
    tenant = Budget.usd(1, scope="tenant", on_exceed="downgrade")
    with pytest.raises(InvalidInputError, match="would move task 't'"):
        graph(on_exceed="cap").compile(catalog=CATALOG, budgets=[tenant])


def test_a_graph_without_prompts_leaves_ladders_to_the_models_of_its_bodies():
    policy = RunPolicy(on_exceed="downgrade")
    output = RunGraph(policy).add_task("t", lambda inputs: 1).compile().invoke({"inputs": {}})
    assert output["results"]["t"].output == 1


@pytest.mark.parametrize(
    ("ladder", "error", "message"),
    [
        (["test:large"], InvalidInputError, "two or more different models"),
        (["test:large", "test:small", "test:large"], InvalidInputError, "two or more different models"),
        ("test:large", InvalidInputError, "a list of models"),
        (["large", "small"], UnknownModelError, "'large' is not a model"),
    ],
)
def test_a_ladder_that_is_none_is_refused(ladder, error, message):
    with pytest.raises(error, match=message):
        graph().compile(catalog=CATALOG, ladder=ladder)


def test_a_ladder_that_leads_in_a_circle_is_refused():
    class Circle:
        def below(self, model):
            return "test:small" if model == "test:large" else "test:large"

    with pytest.raises(InvalidInputError, match="in a circle: test:large -> test:small -> test:large"):
        graph().compile(catalog=CATALOG, ladder=Circle())


@pytest.mark.parametrize(
    ("ladder", "error"),
    [
        (("test:large", "openai:gpt-nope"), UnknownModelError),
        (("openai:gpt-nope", "test:large"), UnknownModelError),
        (("test:large", "test:free"), UnpricedModelError),
    ],
    ids=["unknown", "unknown and out of reach", "unpriced"],
)
def test_every_model_of_a_ladder_must_have_a_price_under_a_budget(ladder, error):
    ran = []
    described = graph(ladder).add_task("first", lambda inputs: ran.append(1))
    compiled = described.compile(catalog=CATALOG, models=MODELS)
    with pytest.raises(error):
        compiled.invoke({"inputs": {}})
    with pytest.raises(error):
        compiled.plan()
    assert ran == []


def test_a_cheaper_model_that_cannot_be_opened_is_refused_before_anything_runs():
    ran = []
    described = graph(("test:large", "test:small")).add_task("first", lambda inputs: ran.append(1))
    compiled = described.compile(catalog=CATALOG, models={"test:large": MODELS["test:large"]})
    with pytest.raises(UnknownModelError, match="test:small"):
        compiled.invoke({"inputs": {}})
    assert ran == []


def test_only_models_that_tasks_can_come_to_are_opened():
    described = graph(("openai:gpt-5.4", "test:large", "test:small"))
    described.add_task("own", prompt="Say ok.", model="test:free")
    described.add_task("format", prompt="Say ok.", response_format={"title": "a", "type": "object"})
    compiled = described.compile(catalog=CATALOG)
    assert compiled.model_names == ["test:large", "test:small", "test:free"]


def test_a_plan_is_one_of_the_tasks_own_models_and_says_where_a_ladder_is_of_no_use():
    small = {"test:large": "test:small"}
    plan = graph(("test:large", "test:small")).compile(catalog=CATALOG).plan()
    assert [task.model for task in plan.tasks] == ["test:large"]
    capped = graph(on_exceed="cap").compile(catalog=CATALOG).plan()
    assert plan == capped.model_copy(update={"warnings": plan.warnings, "over_budget": plan.over_budget})
    assert not any("ladder" in warning for warning in plan.warnings)
    plan = graph(("test:small", "openai:gpt-4o-mini")).compile(catalog=CATALOG, price_as=small).plan()
    assert any("nothing below the models of the prompts" in warning for warning in plan.warnings)


def test_a_run_file_names_its_ladder_in_its_policy():
    data = {
        "version": 1,
        "model": "test:large",
        "policy": {
            "budget_limit": {"amount": "0.02", "currency": "USD"},
            "on_exceed": "downgrade",
            "ladder": ["test:large", "test:small"],
        },
        "tasks": [{"id": "t", "prompt": "Say ok.", "max_output_tokens": 10}],
    }
    run_file = RunFile.parse(data)
    compiled = RunGraph.from_run_file(run_file).compile(catalog=CATALOG, models=MODELS)
    output = compiled.invoke({"inputs": {}})
    assert output["results"]["t"].model == "test:small"
    assert RunFile.parse(run_file.model_dump(mode="json", by_alias=True, exclude_unset=True)) == run_file


def test_the_schema_knows_ladders_and_misspelt_ones_are_recognised():
    ladder = run_file_schema()["$defs"]["RunPolicy"]["properties"]["ladder"]
    jsonschema.validate(["test:large", "test:small"], ladder)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("test:large", ladder)
    with pytest.raises(InvalidInputError, match=r"policy\.lader: unknown key 'lader'") as caught:
        RunFile.parse({"version": 1, "policy": {"lader": []}, "tasks": [{"id": "t", "prompt": "x"}]})
    assert caught.value.hint == "did you mean 'ladder'?"
