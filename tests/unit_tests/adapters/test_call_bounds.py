import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from langchain_runtime.adapters.request_bounds import DEFAULT_CAP, FLOOR, REASONING_FLOOR, TermsMemo, bound_call
from langchain_runtime.contracts.errors import EstimationError, InvalidInputError, UnpricedModelError
from langchain_runtime.cost import CostCalculator, ModelCatalog, TokenEstimator
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

CATALOG = ModelCatalog(
    {
        "models": {
            "scripted-1": {"input": "1", "output": "5"},
            "small": {"input": "1", "output": "5", "max_output_tokens": 500},
            "thinker": {"input": "1", "output": "5", "reasoning": True},
            "franc": {"input": "1", "output": "5", "currency": "CHF"},
        }
    }
)
MESSAGES = [HumanMessage("hello")]
READ = 100 + 16 + 5


class Slow(ScriptedChatModel):
    """Tries three times in one call."""

    max_retries: int = 2


class Carrier(ScriptedChatModel):
    model_kwargs: dict = {}


class FieldOnly(FakeListChatModel):
    responses: list[str] = ["ok"]
    num_predict: int | None = None


def bound(model=None, kwargs=None, messages=MESSAGES, **options):
    return bound_call(
        model or ScriptedChatModel(),
        messages,
        kwargs or {},
        estimator=TokenEstimator(),
        calculator=CostCalculator(CATALOG),
        catalog=CATALOG,
        **options,
    )


def test_the_worst_case_is_input_and_cap_at_their_prices():
    worst = bound(kwargs={"max_tokens": 100})
    assert (worst.input_tokens, worst.output_cap, worst.tokens) == (READ, 100, READ + 100)
    assert worst.nano == READ * 1_000 + 100 * 5_000
    assert worst.model == "scripted:scripted-1"
    assert worst.currency == "USD"


@pytest.mark.parametrize(
    ("model", "cap"),
    [(ScriptedChatModel(), DEFAULT_CAP), (ScriptedChatModel(model="small"), 500), (ScriptedChatModel(max_tokens=9), 9)],
)
def test_without_a_cap_the_smallest_sensible_one_is_taken(model, cap):
    assert bound(model).output_cap == cap


def test_choices_and_attempts_multiply():
    one = bound(kwargs={"max_tokens": 100})
    assert bound(kwargs={"max_tokens": 100, "n": 3}).nano == one.nano + 200 * 5_000
    assert bound(Slow(), {"max_tokens": 100}).nano == 3 * one.nano
    assert bound(Slow(), {"max_tokens": 100}).tokens == 3 * one.tokens


def test_prices_keep_their_currency():
    assert bound(ScriptedChatModel(model="franc")).currency == "CHF"


def test_our_cap_replaces_every_other_in_the_call():
    worst = bound(kwargs={"max_tokens": 100, "max_completion_tokens": 90, "temperature": 1})
    assert worst.call_kwargs() == {"max_tokens": 90, "temperature": 1}
    assert worst.field_updates() == {}


def test_classes_that_read_a_field_get_it_set_there():
    worst = bound(FieldOnly(), priced=False)
    assert worst.call_kwargs() == {}
    assert worst.field_updates() == {"num_predict": DEFAULT_CAP}


def test_where_nothing_is_limited_the_request_stays_as_it_is():
    worst = bound(kwargs={"temperature": 1}, priced=False, bounded=False)
    assert worst.call_kwargs() == {"temperature": 1}
    assert worst.field_updates() == {}
    assert not worst.cut_by_us


def test_it_is_our_cut_only_where_our_cap_is_lower():
    assert bound().cut_by_us
    assert not bound(kwargs={"max_tokens": 50}).cut_by_us
    assert bound(kwargs={"max_tokens": 50}).capped(40).cut_by_us


@given(cap=st.integers(1, 20_000), free=st.integers(0, 110_000_000), floor=st.integers(1, 5_000))
def test_shrinking_finds_the_largest_cap_that_fits(cap, free, floor):
    worst = bound(kwargs={"max_tokens": cap})
    smaller = worst.shrink(free, None, floor)
    largest = min(cap, (free - READ * 1_000) // 5_000)
    if largest < min(floor, cap):
        assert smaller is None
    else:
        assert smaller.output_cap == largest
        assert smaller.nano <= free


@given(free=st.integers(0, 3_000))
def test_shrinking_obeys_a_token_limit_too(free):
    smaller = bound().shrink(None, free, 1)
    assert (smaller is None) == (free <= READ)
    assert smaller is None or smaller.tokens == free


def test_shrinking_stops_at_the_floor():
    free = READ * 1_000 + (FLOOR - 1) * 5_000
    assert bound().shrink(free, None) is None
    assert bound().shrink(free + 5_000, None).output_cap == FLOOR
    thinker = bound(ScriptedChatModel(model="thinker"))
    assert thinker.shrink(READ * 1_000 + (REASONING_FLOOR - 1) * 5_000, None) is None
    assert bound(kwargs={"max_tokens": 10}).shrink(READ * 1_000 + 10 * 5_000, None).output_cap == 10


def test_a_class_without_a_cap_cannot_be_bounded():
    with pytest.raises(InvalidInputError, match="has no output cap"):
        bound(FakeListChatModel(responses=["ok"]), priced=False)
    worst = bound(FakeListChatModel(responses=["ok"]), priced=False, bounded=False)
    assert worst.shrink(0, 0) is None
    assert worst.call_kwargs() == {}


def test_a_price_is_needed_only_where_money_is_limited():
    with pytest.raises(UnpricedModelError):
        bound(ScriptedChatModel(model="unheard-of"))
    worst = bound(ScriptedChatModel(model="unheard-of", max_tokens=7), priced=False)
    assert (worst.nano, worst.tokens) == (0, READ + 7)


@pytest.mark.parametrize("name", ["scripted:unheard-of", "unheard-of", "scripted"])
def test_a_model_can_be_priced_as_another(name):
    worst = bound(ScriptedChatModel(model="unheard-of", max_tokens=7), price_as={name: "small"})
    assert worst.model == "small"
    assert worst.nano == READ * 1_000 + 7 * 5_000


def test_price_as_leaves_other_models_alone():
    assert bound(price_as={"another": "small"}).model == "scripted:scripted-1"


def test_hidden_input_fails_closed_only_under_a_limit():
    kwargs = {"tools": [{"type": "web_search"}]}
    with pytest.raises(EstimationError, match="web_search"):
        bound(kwargs=kwargs)
    assert bound(kwargs=kwargs, bounded=False).input_tokens > 0


def test_an_image_fails_closed_only_under_a_limit():
    image = [HumanMessage([{"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}])]
    with pytest.raises(EstimationError):
        bound(messages=image)
    assert bound(messages=image, bounded=False).input_tokens > 0


class Reporter(Carrier):
    """Streams report usage where they are asked to."""

    stream_usage: bool = False
    extra_body: dict | None = None


OFF, ON = {"stream_options": {"include_usage": False, "x": 1}}, {"stream_options": {"include_usage": True, "x": 1}}


def test_whatever_would_switch_usage_off_is_switched_on():
    within = bound(Reporter(model_kwargs={"seed": 1, **OFF}, extra_body=OFF, max_tokens=9))
    assert within.field_updates() == {"model_kwargs": {"seed": 1, **ON}, "extra_body": ON}
    assert bound(Reporter(), {"extra_body": {"y": 2, **OFF}}).call_kwargs()["extra_body"] == {"y": 2, **ON}
    free = bound(Reporter(extra_body=OFF), {"extra_body": OFF}, bounded=False, priced=False)
    assert (free.field_updates(), free.call_kwargs()) == ({"extra_body": ON}, {"extra_body": ON})


@pytest.mark.parametrize("body", [{}, ON, {"stream_options": {"x": 1}}, {"stream_options": None}])
def test_bodies_that_leave_usage_alone_are_left_alone(body):
    bare = bound(Reporter(model_kwargs=body, extra_body=body or None), {"extra_body": body})
    assert bare.field_updates() == {}
    assert bare.call_kwargs()["extra_body"] == body


def test_classes_that_do_not_report_on_demand_keep_their_bodies():
    assert bound(Carrier(model_kwargs=OFF)).field_updates() == {}


# --- remembered terms -------------------------------------------------------------------------------------------------


class Terms:
    """Asks one memo again and again."""

    def __init__(self):
        self.memo = TermsMemo()
        self.catalog = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})
        self.model = Carrier(max_tokens=50)

    def __call__(self, kwargs=None, **options):
        return self.memo.terms(
            self.model,
            kwargs or {},
            calculator=CostCalculator(self.catalog),
            catalog=self.catalog,
            price_as=None,
            **{"priced": True, "bounded": True, **options},
        )


def test_terms_are_found_out_once_for_calls_without_arguments():
    terms = Terms()
    assert terms() is terms()


def test_a_call_with_arguments_has_terms_of_its_own():
    terms = Terms()
    plain = terms()
    assert terms({"max_tokens": 9}).first_cap == 9
    assert terms() is plain


def test_a_field_that_is_set_anew_is_seen():
    terms = Terms()
    assert terms().first_cap == 50
    terms.model.max_tokens = 20
    assert terms().first_cap == 20


def test_a_change_inside_a_field_is_seen():
    terms = Terms()
    terms()
    terms.model.model_kwargs["n"] = 3
    assert terms().choices == 3
    terms.model.model_kwargs["n"] = 4
    assert terms().choices == 4
    terms.model.model_kwargs["max_output_tokens"] = 10**6
    with pytest.raises(InvalidInputError, match="would override the cap"):
        terms()


def test_a_change_of_prices_is_seen():
    terms = Terms()
    before = terms()
    terms.catalog = ModelCatalog({"models": {"scripted-1": {"input": "2", "output": "5"}}})
    assert terms().info.rates.input == 2 * before.info.rates.input


def test_terms_for_a_budget_that_only_warns_are_not_those_of_one_that_limits():
    terms = Terms()
    terms.model = Carrier(model="unknown", max_tokens=50)
    assert terms(priced=False).calculator is None
    with pytest.raises(UnpricedModelError):
        terms()


def test_copies_and_pickles_remember_nothing():
    terms = Terms()
    first = terms()
    for travel in (copy.deepcopy, lambda memo: pickle.loads(pickle.dumps(memo))):
        other = Terms()
        other.model, other.catalog, other.memo = terms.model, terms.catalog, travel(terms.memo)
        assert other() is not first
