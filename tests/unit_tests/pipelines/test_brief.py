"""A brief asks every document every question, and prints only what the documents really say."""

import json
import re
from pathlib import Path

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import RunPolicy, RunState
from langchain_runtime.contracts.run_file import RunFile
from langchain_runtime.graph import RunGraph
from langchain_runtime.pipelines import Corpus, Document, brief_file, brief_graph, load_folder
from langchain_runtime.pipelines.brief import check_answer, write_brief

FILES = {
    "dogs.md": "# Dogs\n\nDogs **bark** at night and guard houses\nwell. A dog sleeps for about twelve hours a day.\n",
    "guide/moon.rst": "Moon\n====\n\nThe Moon is {384} thousand kilometres away from the Earth.\n",
    "Grüße & mehr.txt": "Im Übergangszeitraum gelten andere Preise. A rocket needs three days to reach the Moon.\n",
}
QUESTIONS = ["How far away from the Earth is the Moon?", "What do dogs guard at {night}?"]


@pytest.fixture
def corpus(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_folder(tmp_path)


def corpus_of(*texts):
    numbered = enumerate(texts, start=1)
    return Corpus(documents=tuple(Document(id=f"d{n}", path=f"/docs/d{n}.md", text=text) for n, text in numbered))


def run(graph, **compile_options):
    return graph.compile(**compile_options).invoke({"inputs": {}})


def test_prints_quotes_with_their_documents_and_where_these_are(corpus, tmp_path):
    result = run(brief_graph(corpus, QUESTIONS))
    assert result["run"].state == RunState.COMPLETED
    brief = result["results"]["brief"]
    assert brief.output.splitlines() == [
        "How far away from the Earth is the Moon?",
        "",
        '"The Moon is {384} thousand kilometres away from the Earth." [guide/moon]',
        "",
        "What do dogs guard at {night}?",
        "",
        '"Dogs **bark** at night and guard houses well." [dogs]',
        "",
        "Sources",
        f"guide/moon: {tmp_path}/guide/moon.rst",
        f"dogs: {tmp_path}/dogs.md",
    ]
    assert [answer["question"] for answer in brief.outputs["answers"]] == QUESTIONS
    assert brief.outputs["answers"][1]["quotes"] == [
        {"quote": "Dogs **bark** at night and guard houses well.", "document": "dogs"}
    ]
    assert brief.outputs["sources"] == {"guide/moon": f"{tmp_path}/guide/moon.rst", "dogs": f"{tmp_path}/dogs.md"}


def test_every_quote_is_found_in_the_file_behind_its_source(corpus):
    text = run(brief_graph(corpus, [*QUESTIONS, "How many days does a rocket need, and how long does a dog sleep?"]))[
        "results"
    ]["brief"].output
    body, _, sources = text.partition("\nSources\n")
    paths = dict(line.split(": ", 1) for line in sources.splitlines())
    quotes = re.findall(r'^"(.+)" \[(.+)\]$', body, re.MULTILINE)
    assert len(quotes) == 4
    for quote, document in quotes:
        assert quote in " ".join(Path(paths[document]).read_text(encoding="utf-8").split())


def test_every_document_is_asked_every_question(corpus):
    file = brief_file(corpus, QUESTIONS)
    assert [task.id for task in file.tasks] == [
        *("map.q1.Gr-e_mehr.1", "map.q1.dogs.1", "map.q1.guide-moon.1", "answer.q1", "check.q1"),
        *("map.q2.Gr-e_mehr.1", "map.q2.dogs.1", "map.q2.guide-moon.1", "answer.q2", "check.q2"),
        "brief",
    ]


def test_says_when_nothing_was_found(corpus):
    text = run(brief_graph(corpus, ["Who won the chess tournament of 1972?"]))["results"]["brief"].output
    assert text == "Who won the chess tournament of 1972?\n\nNothing in the documents answers this.\n\nSources\nnone"


def test_what_a_model_makes_up_is_left_out_and_counted(corpus):
    liar = FakeListChatModel(
        responses=['"The Moon is made of cheese, all of it." [guide/moon]\n"Dogs bark at night." [dogs]']
    )
    graph = brief_graph(corpus, ["What is the Moon made of?"], model="fake:liar")
    brief = run(graph, models={"fake:liar": liar})["results"]["brief"]
    assert '"Dogs **bark** at night" [dogs]' in brief.output
    assert "cheese" not in brief.output
    assert "(1 left out: not found word for word in the document named)" in brief.output
    assert brief.outputs["answers"][0]["dropped"] == [
        {"quote": "The Moon is made of cheese, all of it.", "document": "guide/moon"}
    ]


def test_a_quote_must_stand_in_the_document_that_it_names():
    inputs = {
        "text_1": "Dogs bark at night.",
        "text_2": "Cats do not.",
        "sources": {"dogs": {"path": "/d", "texts": ["text_1"]}},
    }
    answer = '"Dogs bark at night." [dogs]\n"Cats do not." [dogs]\n"Dogs bark at night." [cats]'
    checked = check_answer({**inputs, "answer": answer})
    assert checked["quotes"] == [{"quote": "Dogs bark at night.", "document": "dogs"}]
    assert checked["dropped"] == [
        {"quote": "Cats do not.", "document": "dogs"},
        {"quote": "Dogs bark at night.", "document": "cats"},
    ]


def test_the_text_lists_a_document_once_in_the_order_it_is_cited():
    def checked(*documents):
        return {"quotes": [{"quote": "Q", "document": d} for d in documents], "dropped": []}

    sources = {name: {"path": f"/{name}", "texts": []} for name in "abc"}
    inputs = {"question_1": "One?", "question_2": "Two?", "checked_1": checked("c", "a"), "checked_2": checked("c")}
    text = write_brief({**inputs, "sources": sources}).output
    assert text.endswith('Two?\n\n"Q" [c]\n\nSources\nc: /c\na: /a')


def test_a_long_document_is_asked_in_parts_and_cited_as_one():
    filler = "Nothing of interest is said in this paragraph of words.\n\n"
    corpus = corpus_of(filler * 150 + "The answer to everything is forty-two.\n\n" + filler * 150)
    result = run(brief_graph(corpus, ["What is the answer to everything?"]))
    assert sum(task.startswith("map.q1.d1.") for task in result["results"]) > 2
    assert '"The answer to everything is forty-two." [d1]' in result["results"]["brief"].output


def test_very_many_documents_are_chosen_from_in_rounds():
    corpus = corpus_of(*(f"Box number {n} holds a green apple for the winter." for n in range(1, 92)))
    file = brief_file(corpus, ["Which box holds a green apple?"])
    rounds = [task for task in file.tasks if task.id.startswith(("choose", "answer"))]
    assert [(task.id, len(task.deps)) for task in rounds] == [
        ("choose.q1.1.1", 40),
        ("choose.q1.1.2", 40),
        ("choose.q1.1.3", 11),
        ("answer.q1", 3),
    ]
    answers = run(brief_graph(corpus, ["Which box number 77 holds a green apple?"]))["results"]["brief"].outputs[
        "answers"
    ]
    assert answers[0]["quotes"][0]["document"] == "d77"


def test_documents_whose_names_no_task_may_have_get_one():
    names = ["東京", "大阪", "a/b", "a-b", "..", "x" * 300]
    documents = tuple(Document(id=name, path="/p", text=f"Text of {name}.") for name in names)
    ids = [task.id for task in brief_file(Corpus(documents=documents), ["What?"]).tasks if task.id.startswith("map")]
    assert ids == [f"map.q1.{slug}.1" for slug in ["1", "2", "a-b", "a-b-4", "5", "x" * 80]]


def test_the_brief_survives_storage_as_a_run_file(corpus):
    policy = RunPolicy(max_parallelism=2)
    file = brief_file(corpus, QUESTIONS, model="extractive", policy=policy, max_output_tokens=300)
    stored = RunFile.parse(json.loads(file.model_dump_json()))
    assert stored == file
    assert stored.policy == policy
    assert {task.max_output_tokens for task in stored.tasks if task.prompt} == {300}
    assert run(RunGraph.from_run_file(stored, allow_code=True))["results"]["brief"].output.endswith("dogs.md")


def test_a_repeated_question_is_asked_once(corpus):
    file = brief_file(corpus, ["What barks?", " What   barks? ", "Who?"])
    assert {name: value for name, value in file.inputs.items() if name.startswith("question")} == {
        "question_1": "What barks?",
        "question_2": "Who?",
    }


@pytest.mark.parametrize(
    ("questions", "message"), [([], "there is no question"), (["Who?", " \n"], "a question is blank")]
)
def test_a_brief_without_a_question_is_refused(corpus, questions, message):
    with pytest.raises(InvalidInputError, match=message):
        brief_graph(corpus, questions)
