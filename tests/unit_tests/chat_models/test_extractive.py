"""The offline model quotes its prompt word for word, says when it finds nothing, and keeps its caps."""

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_runtime.chat_models.extractive import NOTHING_FOUND, ExtractiveChatModel

PETS = """# Pets

Dogs bark at night and guard **houses** well; see [the guide](https://example.org/dogs).
Cats are small carnivorous mammals that are
kept as pets in many homes.

```python
dogs.bark(at="night")  # dogs bark at night in this code, too
```

| animal | sound at night   |
|--------|------------------|
| dogs   | dogs bark loudly |
"""
SPACE = "The Moon is 384 thousand kilometres away from the Earth. A rocket needs about three days to reach the Moon."


def ask(question, *, pets=PETS, space=SPACE):
    return f'<document id="pets">{pets}</document>\n<document id="space">{space}</document>\n\nQuestion: {question}'


def quotes_of(reply):
    return [tuple(line.rsplit(" ", 1)) for line in str(reply.text).splitlines()]


def test_quotes_the_sentence_that_answers_with_its_document():
    reply = ExtractiveChatModel(max_quotes=1).invoke(ask("How long does a rocket need to reach the Moon?"))
    assert reply.text == '"A rocket needs about three days to reach the Moon." [space]'


def test_quotes_stand_in_the_document_word_for_word_markup_included():
    reply = ExtractiveChatModel().invoke(ask("What do dogs do at night, and which mammals are kept in homes?"))
    document = " ".join(PETS.split())
    quotes = quotes_of(reply)
    assert len(quotes) == 2
    assert all(quote.strip('"') in document and source == "[pets]" for quote, source in quotes)


def test_code_and_tables_are_not_quoted():
    reply = ExtractiveChatModel(max_quotes=20).invoke(ask("Which sound do dogs make at night: bark(at), loudly?"))
    assert "bark(" not in reply.text
    assert "|" not in reply.text
    assert "Dogs bark at night" in reply.text


def test_says_that_it_found_nothing_below_the_floor():
    assert ExtractiveChatModel().invoke(ask("Who won the chess tournament of 1972?")).text == NOTHING_FOUND


def test_one_common_word_is_not_an_answer():
    assert ExtractiveChatModel().invoke(ask("Which small violins did Stradivari sell?")).text == NOTHING_FOUND


def test_a_prompt_without_any_sentence_finds_nothing():
    assert ExtractiveChatModel().invoke("Hello!").text == NOTHING_FOUND


@pytest.mark.parametrize("marker", ["Question:", "task:", "**Query**:", "Topic: "])
def test_the_question_is_what_stands_after_its_marker(marker):
    prompt = f"Answer briefly, what is far away?\n{SPACE}\n\n{marker} rocket days\n\nThank you."
    assert ExtractiveChatModel().invoke(prompt).text == "A rocket needs about three days to reach the Moon."


def test_a_last_line_with_a_question_mark_is_the_question():
    conversation = [
        SystemMessage("You know that system messages are instructions about the number of cats and dogs."),
        HumanMessage("My favourite number is forty-two because of a book."),
        AIMessage("That is a fine reason for a number."),
        HumanMessage("Which favourite number did I tell you?"),
    ]
    reply = ExtractiveChatModel(max_quotes=1).invoke(conversation)
    assert reply.text == "My favourite number is forty-two because of a book."


def test_without_a_question_the_most_central_sentence_comes_first():
    text = (
        "The ledger keeps every budget and every reservation. Bananas are yellow and grow in the south. "
        "A reservation holds money of a budget in the ledger. A budget limits what a reservation may hold."
    )
    assert "Bananas" not in ExtractiveChatModel(max_quotes=2).invoke(f"Summarise this:\n\n{text}").text


def test_quotes_of_quotes_keep_their_documents():
    passages = '"Dogs guard houses." [pets]\n"The Moon is far away from the Earth." [space]'
    prompt = f"Choose.\n<passages>\n{passages}\nNOTHING FOUND\n</passages>\nQuestion: What do dogs guard at night?"
    assert ExtractiveChatModel().invoke(prompt).text == '"Dogs guard houses." [pets]'


def test_empty_passages_are_not_answered_from_the_instructions():
    instruction = "Choose the passages that answer the question best."
    prompt = f"{instruction}\n<passages>\nNOTHING FOUND\n</passages>\nQuestion: Which passages answer it best?"
    assert ExtractiveChatModel().invoke(prompt).text == NOTHING_FOUND


def test_citations_outside_of_blocks_keep_their_documents():
    prompt = '"Dogs bark at night and guard houses well." [pets]\n\nQuestion: What do dogs guard?'
    assert ExtractiveChatModel().invoke(prompt).text == '"Dogs bark at night and guard houses well." [pets]'


def test_sentences_that_repeat_each_other_are_quoted_once():
    copy = "A rocket needs about three days to reach the Moon."
    reply = ExtractiveChatModel().invoke(ask("How many days does a rocket need to the Moon?", pets=copy))
    assert reply.text.count("three days") == 1


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Caching policies decide which replies are kept for later.", "Which policy keeps a reply?"),
        ("Der Übergangszeitraum für Größenänderungen beträgt zwölf Wochen.", "Wie lang ist der Übergangszeitraum?"),
        ("Спутник вращается вокруг Земли за девяносто минут.", "За сколько минут вращается спутник?"),  # noqa: RUF001 - Russian
        (
            "東京は日本の首都であり、世界で最も人口の多い都市の一つです。大阪は西日本の中心です。",
            "日本の首都はどこですか？",  # noqa: RUF001 - Japanese
        ),
    ],
    ids=["English", "German", "Russian", "Japanese"],
)
def test_answers_in_other_languages_and_scripts(text, question):
    reply = ExtractiveChatModel(max_quotes=1).invoke(f'<document id="d">{text}</document>\n\nQuestion: {question}')
    assert reply.text.endswith(" [d]")
    assert reply.text.removesuffix(" [d]").strip('"') in text


def test_the_same_prompt_gets_the_same_reply():
    prompt = ask("What barks at night and how far away is the Moon?")
    assert {ExtractiveChatModel().invoke(prompt).text for _ in range(3)} == {ExtractiveChatModel().invoke(prompt).text}


def test_streaming_adds_up_to_the_reply_and_its_usage():
    model, prompt = ExtractiveChatModel(), ask("What do dogs guard, and how far is the Moon?")
    chunks = list(model.stream(prompt))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    reply = model.invoke(prompt)
    assert len(chunks) > 10
    assert (whole.text, whole.usage_metadata) == (reply.text, reply.usage_metadata)
    assert whole.response_metadata == reply.response_metadata


async def test_async_streaming_equals_async_invoke():
    model, prompt = ExtractiveChatModel(), ask("What do dogs guard, and how far is the Moon?")
    text = "".join([chunk.text async for chunk in model.astream(prompt)])
    assert text == (await model.ainvoke(prompt)).text != ""


@pytest.mark.filterwarnings("ignore:The method .* is in beta")
async def test_callbacks_receive_every_word_once_whatever_way_it_is_streamed():
    class Words(BaseCallbackHandler):
        def __init__(self):
            self.text = ""

        def on_llm_new_token(self, token, **kwargs):
            self.text += token

    words, model, prompt = Words(), ExtractiveChatModel(), ask("What do dogs guard?")
    config = {"callbacks": [words]}
    reply = model.invoke(prompt).text
    ways = [
        lambda: list(model.stream(prompt, config=config)),
        lambda: list(model.stream_events(prompt, config=config, version="v3")),
        lambda: _collected(model.astream(prompt, config=config)),
        lambda: _collected_later(model.astream_events(prompt, config=config, version="v3")),
    ]
    for way in ways:
        words.text = ""
        if asyncio.iscoroutine(waiting := way()):
            await waiting
        assert words.text == reply


async def _collected(stream):
    return [chunk async for chunk in stream]


async def _collected_later(stream):
    return await _collected(await stream)


def test_reports_usage_and_its_name():
    reply = ExtractiveChatModel().invoke([HumanMessage("a" * 400), HumanMessage("Question: b?")])
    written = -(-len(NOTHING_FOUND) // 4)
    assert reply.usage_metadata == {
        "input_tokens": 100 + 3 + 3 + 3,
        "output_tokens": written,
        "total_tokens": 109 + written,
    }
    assert reply.response_metadata["model_name"] == reply.response_metadata["model_provider"] == "extractive"
    assert reply.response_metadata["finish_reason"] == "stop"


def test_traces_name_it_extractive():
    params = ExtractiveChatModel(max_tokens=7)._get_ls_params()
    assert (params["ls_provider"], params["ls_model_name"], params["ls_max_tokens"]) == ("extractive", "extractive", 7)


@pytest.mark.parametrize("cap", [1, 5, 14, 30, 60])
@pytest.mark.parametrize("by_call", [True, False], ids=["call", "field"])
def test_the_reply_keeps_max_tokens(cap, by_call):
    prompt = ask("What do dogs guard at night, and how far away is the Moon, and what needs three days?")
    model = ExtractiveChatModel(max_tokens=None if by_call else cap)
    full = ExtractiveChatModel().invoke(prompt)
    reply = model.invoke(prompt, **({"max_tokens": cap} if by_call else {}))
    assert 0 < reply.usage_metadata["output_tokens"] <= cap
    assert full.text.startswith(reply.text)
    assert reply.response_metadata["finish_reason"] == ("stop" if reply.text == full.text else "length")


def test_a_cap_leaves_out_whole_quotes():
    prompt = ask("What do dogs guard at night, and how far away is the Moon, and what needs three days?")
    full = ExtractiveChatModel().invoke(prompt).text.splitlines()
    two_lines = len("\n".join(full[:2]).encode()) // 4 + 2
    assert ExtractiveChatModel(max_tokens=two_lines).invoke(prompt).text.splitlines() == full[:2]


def test_a_cap_never_cuts_a_character_in_half():
    document = "Größenänderungsübergänge überfordern größtenteils ältere Übersetzungsmaschinen."
    reply = ExtractiveChatModel(max_tokens=3).invoke(
        f"{document}\n\nQuestion: Größenänderungsübergänge älterer Maschinen?"
    )
    assert document.startswith(reply.text)
    assert reply.text


@pytest.mark.parametrize("by_call", [True, False], ids=["call", "field"])
def test_the_reply_ends_before_a_stop_sequence(by_call):
    prompt = ask("How long does a rocket need to reach the Moon?")
    model = ExtractiveChatModel(max_quotes=1) if by_call else ExtractiveChatModel(max_quotes=1, stop=["three", "Moon"])
    reply = model.invoke(prompt, stop=["Moon", "three", ""] if by_call else None)
    assert reply.text == '"A rocket needs about '


def test_max_quotes_limits_the_reply():
    prompt = ask("What do dogs guard at night, and how far away is the Moon, and what needs three days?")
    assert len(ExtractiveChatModel(max_quotes=2).invoke(prompt).text.splitlines()) == 2


def test_counts_tokens_by_bytes():
    model = ExtractiveChatModel()
    assert model.get_num_tokens("") == 0
    assert model.get_num_tokens("ab cd") == 2
    assert model.get_num_tokens("日本") == 2
    assert model.get_num_tokens_from_messages([HumanMessage("ab cd"), AIMessage("x")]) == 2 + 1 + 3 + 3
