"""What is read as a document, what is passed over, and how documents are named."""

import os
import tempfile
from pathlib import Path

import pytest

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.pipelines import load_folder, load_installed
from langchain_runtime.pipelines.documents import MAX_FILE_BYTES


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def reasons(corpus, folder):
    lines = (line.removeprefix(f"{folder}").lstrip("/") for line in corpus.skipped)
    return dict(line.split(": ", 1) for line in lines)


def test_reads_text_files_in_the_order_of_their_paths(tmp_path):
    write(
        tmp_path, b_dot_md="B.", a__z_dot_rst="Z.", a__y_dot_txt="Y.", c_dot_markdown="C.", README="R.", d_dot_MD="D."
    )
    corpus = load_folder(tmp_path)
    assert [(d.id, d.text) for d in corpus.documents] == [
        ("README", "R."),
        ("b", "B."),
        ("c", "C."),
        ("d", "D."),
        ("a/y", "Y."),
        ("a/z", "Z."),
    ]
    assert all(Path(d.path).is_absolute() and Path(d.path).read_text() == d.text for d in corpus.documents)
    assert corpus.skipped == ()


def test_files_of_one_name_keep_their_suffix(tmp_path):
    write(tmp_path, a_dot_md="one", a_dot_txt="two", b__a_dot_md="three")
    assert [d.id for d in load_folder(tmp_path).documents] == ["a", "a.txt", "b/a"]


def test_ids_hold_nothing_that_citations_or_prompts_use_as_punctuation(tmp_path):
    names = ['a "b" [c] {d}: <e>.md', "a  'b' (c) |d|. =e=.md", "Grüße an 東京.md"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"text {number}")
    ids = {d.id for d in load_folder(tmp_path).documents}
    assert ids == {"a_b_c_d_e_", "a_b_c_d_._e_", "Grüße_an_東京"}


def test_ids_stay_unique_when_names_become_equal(tmp_path):
    for number, name in enumerate(["a b.md", "a!b.md", "a?b.md", "a b.txt"]):
        (tmp_path / name).write_text(f"text {number}")
    ids = [d.id for d in load_folder(tmp_path).documents]
    assert ids == ["a_b", "a_b.txt", "a_b.md", "a_b.md-2"]


def test_what_is_no_document_is_passed_over_with_a_line(tmp_path):
    write(
        tmp_path,
        good_dot_md="Good.",
        copy_dot_md="Good.",
        blank_dot_md=" \n\t\n",
        zero_dot_txt=b"text\0more",
        latin_dot_txt="größer".encode("latin-1"),
        huge_dot_txt=b"x" * (MAX_FILE_BYTES + 1),
        image_dot_png=b"\x89PNG\0\0",
        code_dot_py="print()",
        more_dot_py="print(1)",
        Makefile="all:",
        _dot_hidden_dot_md="hidden",
        _dot_git__config="hidden",
        node_modules__x__readme_dot_md="foreign",
    )
    (tmp_path / "dangling.md").symlink_to(tmp_path / "nowhere")
    corpus = load_folder(tmp_path)
    assert [d.id for d in corpus.documents] == ["copy"]
    assert reasons(corpus, tmp_path) == {
        ".git": "hidden",
        ".hidden.md": "hidden",
        "good.md": "same text as copy",
        "blank.md": "empty",
        "zero.txt": "binary file",
        "latin.txt": "not UTF-8 text (byte 2)",
        "huge.txt": "too large: 2,000,001 bytes, the limit is 2,000,000",
        "image.png": "binary file",
        "dangling.md": "not a regular file",
        "": "3 files that are not documents (2 .py, 1 Makefile)",
    }


def test_a_pipe_is_passed_over_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path, a_dot_md="Text.")
    assert [d.id for d in load_folder(tmp_path).documents] == ["a"]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe")
    assert load_folder(tmp_path).documents[0].text == "Grüße"


@pytest.fixture
def as_nobody():
    """Root may read everything: become somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that others may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in folder.iterdir():
            path.chmod(0o700)


def test_what_may_not_be_read_is_passed_over(open_folder, request):
    write(open_folder, a_dot_md="Text.", locked__b_dot_md="B.", c_dot_md="C.", d_dot_bin=b"\0")
    for name in ("locked", "c.md", "d.bin"):
        (open_folder / name).chmod(0)
    request.getfixturevalue("as_nobody")
    corpus = load_folder(open_folder)
    assert [d.id for d in corpus.documents] == ["a"]
    found = reasons(corpus, open_folder)
    assert found["c.md"] == found["locked"] == "cannot be read: Permission denied"


def test_a_folder_that_may_not_be_read_is_refused(open_folder, request):
    locked = open_folder / "locked"
    locked.mkdir(mode=0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(InvalidInputError, match="cannot be read: Permission denied"):
        load_folder(locked)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "there is no folder"), ("file.md", "is a file"), ("x" * 300, "cannot be read: File name too long")],
)
def test_a_path_that_is_no_folder_is_refused(tmp_path, name, message):
    write(tmp_path, file_dot_md="Text.")
    with pytest.raises(InvalidInputError, match=message) as raised:
        load_folder(tmp_path / name)
    assert raised.value.hint


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="there are no documents in") as raised:
        load_folder(tmp_path)
    assert ".md" in raised.value.hint


def test_a_folder_with_nothing_but_binary_files_is_refused_and_says_so(tmp_path):
    write(tmp_path, a_dot_bin=b"\0\1\2")
    with pytest.raises(InvalidInputError) as raised:
        load_folder(str(tmp_path))
    assert "a.bin: binary file" in raised.value.hint


def test_the_readme_of_an_installed_package_stands_word_for_word_in_its_metadata():
    corpus = load_installed(["LangGraph", "langgraph", "langchain_core"])
    assert [d.id for d in corpus.documents] == ["langgraph", "langchain-core"]
    for document in corpus.documents:
        assert document.text in Path(document.path).read_text(encoding="utf-8")


def test_markdown_inside_of_a_package_is_documentation():
    ids = [d.id for d in load_installed(["anthropic"]).documents]
    assert ids[0] == "anthropic"
    assert "anthropic/lib/foundry" in ids
    assert not any("_vendor" in id_ or "dist-info" in id_ for id_ in ids)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the import path where distributions can be written."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, description="", *, record=(), metadata=True):
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n{description}")
        listed = [f"{info.name}/METADATA"] if metadata else []
        if metadata or record:
            (info / "RECORD").write_text("".join(f"{line},,\n" for line in [*listed, *record]))
        return tmp_path

    return install


def test_files_of_a_package_that_lie_beside_it_are_named_after_it(site):
    folder = site("lcr-sample", "UNKNOWN", record=["docs/guide.md", "lcr_sample/notes.rst", "lcr_sample/words.txt"])
    write(folder, docs__guide_dot_md="Guide.", lcr_sample__notes_dot_rst="Notes.", lcr_sample__words_dot_txt="Words.")
    corpus = load_installed(["lcr-sample"])
    assert [(d.id, d.text) for d in corpus.documents] == [
        ("lcr-sample/docs/guide", "Guide."),
        ("lcr_sample/notes", "Notes."),
    ]
    assert [line.rpartition(": ")[2] for line in corpus.skipped] == ["empty"]


def test_a_package_without_a_list_of_files_still_has_its_readme(site):
    site("lcr-bare", "The readme of a package.", metadata=False)
    assert [(d.id, d.path, d.text) for d in load_installed(["lcr-bare"]).documents] == [
        ("lcr-bare", "lcr-bare (metadata)", "The readme of a package.")
    ]


def test_a_package_without_documentation_is_passed_over_beside_others_and_refused_alone(site):
    site("lcr-silent")
    corpus = load_installed(["langgraph", "lcr-silent"])
    assert [d.id for d in corpus.documents] == ["langgraph"]
    assert corpus.skipped[0].endswith("METADATA: empty")
    with pytest.raises(InvalidInputError, match="no documentation ships with lcr-silent"):
        load_installed(["lcr-silent"])


def test_a_package_that_is_not_installed_is_named_with_the_nearest_that_is():
    with pytest.raises(InvalidInputError, match="'langgrph' is not installed") as raised:
        load_installed(["langgraph", "langgrph"])
    assert raised.value.hint == "did you mean 'langgraph'?"


@pytest.mark.parametrize("name", ["zzqqxxyy", "", "../etc"])
def test_a_name_like_nothing_installed_is_refused(name):
    with pytest.raises(InvalidInputError, match="is not installed") as raised:
        load_installed([name])
    assert "pip list" in raised.value.hint


def test_no_package_is_refused():
    with pytest.raises(InvalidInputError, match="no package was named"):
        load_installed([])
