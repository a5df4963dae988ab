"""Folders of text: what is read, what is noted, what is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import CorpusError
from flowsearch.text import load, names, summary
from flowsearch.text.corpus import Corpus

GOOD = {"train": b"a b c\nb c\nc\n", "valid": b"a c\nb\n", "test": b"c b a\n"}


def write(root: Path, files: dict[str, bytes], name: str = "toy") -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    for split, content in files.items():
        (root / name / f"{split}.txt").write_bytes(content)
    return root


def words(corpus: Corpus, split: str) -> list[list[str]]:
    return [corpus.vocabulary.decode(tokens[1:-1]) for tokens in corpus.splits[split]]


def test_a_folder_is_read_as_it_stands(tmp_path: Path) -> None:
    corpus = load("toy", root=write(tmp_path, GOOD))
    assert words(corpus, "train") == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert words(corpus, "valid") == [["a", "c"], ["b"]]
    assert corpus.vocabulary.words[4:] == ("c", "b", "a")
    assert corpus.notes == ()
    assert corpus.splits["train"].labels is None


@given(st.lists(st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_every_line_that_is_not_blank_is_one_document(lines: list[str]) -> None:
    plain = [line.replace("\t", " ").replace("\ufeff", "") for line in lines] + ["last"]
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), GOOD | {"train": "\n".join(plain).encode()})
        corpus = load("toy", root=root)
    documents = [line.split() for line in plain if line.split()]
    markers = {"<pad>", "<s>", "</s>"}
    assert words(corpus, "train") == [["<unk>" if w in markers else w for w in document] for document in documents]
    assert (f"train: {len(plain) - len(documents)} blank lines skipped" in corpus.notes) == (
        len(plain) > len(documents)
    )


@given(st.binary(max_size=60))
def test_any_bytes_are_a_corpus_or_a_corpus_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), GOOD | {"valid": content})
        try:
            read, message = sum(map(len, words(load("toy", root=root), "valid"))), "valid.txt"
        except CorpusError as error:
            read, message = None, str(error)
    assert "valid.txt" in message
    assert "\n" not in message
    assert read is None or read == len(content.decode("utf-8-sig").split())


@pytest.mark.parametrize(
    ("train", "documents"),
    [
        (b"a b\r\nc\r\n", [["a", "b"], ["c"]]),
        (b"a b\nc", [["a", "b"], ["c"]]),
        ("a\u2028b\nc\u0085d\n".encode(), [["a", "b"], ["c", "d"]]),
        (b"\xef\xbb\xbfa b\n", [["a", "b"]]),
        (b"a\n", [["a"]]),
        (b"\n\n  \na\n\t\n", [["a"]]),
        (b"a\tb\tc\nd\te\n", [["a", "b", "c"], ["d", "e"]]),
    ],
    ids=["CRLF", "no final newline", "U+2028 and U+0085", "byte-order mark", "one word", "blank lines", "TABs"],
)
def test_line_ends(tmp_path: Path, train: bytes, documents: list[list[str]]) -> None:
    assert words(load("toy", root=write(tmp_path, GOOD | {"train": train})), "train") == documents


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fine\ncafé\n".encode("latin-1"), "valid.txt, line 2: byte 0xe9; expected UTF-8 text"),
        (b"fine\nfine\nno\0pe\n", "valid.txt, line 3: a NUL byte; expected UTF-8 text"),
        ("fine\n".encode("utf-16"), "valid.txt, line 1: a NUL byte; expected UTF-8 text"),
        (b"", "valid.txt: no document in 0 lines"),
        (b"\n \r\n\t\n", "valid.txt: no document in 3 lines"),
    ],
    ids=["latin-1", "NUL", "UTF-16", "empty", "blanks only"],
)
def test_bad_bytes_are_named_with_their_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        load("toy", root=write(tmp_path, GOOD | {"valid": content}))
    assert message in str(caught.value)


def test_labels_are_read_where_every_line_of_train_has_one(tmp_path: Path) -> None:
    labelled = {"train": b"1\ta b\n\n0\tc\r\n", "valid": b"0\ta\n1\t \n", "test": b" 1 \tc\n"}
    corpus = load("toy", root=write(tmp_path, labelled))
    assert corpus.splits["train"].labels == ("1", "0")
    assert words(corpus, "train") == [["a", "b"], ["c"]]
    assert corpus.splits["valid"].labels == ("0",)
    assert "valid: 1 blank lines skipped" in corpus.notes
    assert corpus.splits["test"].labels == ("1",)


def test_a_line_without_its_label_is_an_error(tmp_path: Path) -> None:
    files = {"train": b"1\ta\n0\tb\n", "valid": b"1\ta\n\nno label\n", "test": b"1\ta\n"}
    with pytest.raises(CorpusError, match=r"valid\.txt, line 3: 0 TABs; expected label<TAB>text"):
        load("toy", root=write(tmp_path, files))


def test_labels_without_any_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="labels only"):
        load("toy", root=write(tmp_path, GOOD | {"train": b"1\t\n0\t \n"}))


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"valid": GOOD["train"]}, "valid: the same documents as train"),
        ({"valid": b"x\nc\n"}, "valid: 50% of its documents are also in train"),
        ({"test": GOOD["valid"]}, "test: the same documents as valid"),
        ({"train": b"<unk> <unk>\n"}, "train: every word is <unk>"),
        ({"test": b"<s> a </s>\n"}, "test: 1 documents hold <pad>, <s> or </s>, read as <unk>"),
    ],
)
def test_what_is_odd_is_noted(tmp_path: Path, files: dict[str, bytes], note: str) -> None:
    corpus = load("toy", root=write(tmp_path, GOOD | files))
    assert corpus.notes == (note,)


def test_a_document_of_a_hundred_thousand_words_is_fine_and_can_be_cut(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD | {"train": b"a " * 100_000 + b"\nb\n"})
    assert load("toy", root=root).splits["train"].lengths.tolist() == [100_001, 2]
    cut = load("toy", root=root, max_words=10)
    assert cut.splits["train"].lengths.tolist() == [11, 2]
    assert "train: 1 of 2 documents cut to 10 words" in cut.notes


@pytest.mark.parametrize("name", ["", "..", "../toy", "/etc", "a/b", ".hidden", "a\n", "x" * 65, "é"])
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match="expected at most 64 letters"):
        load(name, root=write(tmp_path, GOOD))


def test_links_that_lead_out_of_the_root_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "outside", GOOD)
    root = write(tmp_path / "root", GOOD)
    (root / "link").symlink_to(tmp_path / "outside" / "toy")
    (root / "toy" / "test.txt").unlink()
    (root / "toy" / "test.txt").symlink_to(tmp_path / "outside" / "toy" / "test.txt")
    for name in ("link", "toy"):
        with pytest.raises(CorpusError, match="expected a place inside"):
            load(name, root=root)


def test_what_is_missing_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    with pytest.raises(CorpusError, match=r"no 'tuy' in .*; did you mean 'toy'\?"):
        load("tuy", root=root)
    with pytest.raises(CorpusError, match=r"data.corpus: no 'toy' while data.root is null"):
        load("toy", root=None)
    with pytest.raises(CorpusError, match="is not a folder"):
        load("toy", root=tmp_path / "nowhere")
    (root / "toy" / "valid.txt").rename(root / "toy" / "validation.txt")
    with pytest.raises(CorpusError, match=r"no such file; did you mean 'validation.txt'\?"):
        load("toy", root=root)
    (root / "toy" / "valid.txt").mkdir()
    with pytest.raises(CorpusError, match="cannot be read"):
        load("toy", root=root)


def test_names_are_the_reserved_ones_and_the_folders_with_a_train_file(tmp_path: Path) -> None:
    root = write(write(tmp_path, GOOD), GOOD, "another")
    (root / "empty").mkdir()
    assert names(root) == ["synthetic", "wordnet", "another", "toy"]
    assert names(root / "nowhere") == names(None) == ["synthetic", "wordnet"]


REAL = {
    "yahoo": ({"train": (15_000, 80.1016), "valid": (1_500, 80.1773), "test": (1_500, 78.9093)}, 18_294, 200),
    "yahoo_small": ({"train": (4_000, 39.6797), "valid": (500, 40.3880), "test": (500, 39.8720)}, 6_087, 60),
    "yelp": ({"train": (100_000, 10.5223), "valid": (10_000, 10.5612), "test": (10_000, 10.4860)}, 9_118, 15),
    "ptb": ({"train": (42_068, 22.0973), "valid": (3_370, 21.8872), "test": (3_761, 21.9170)}, 9_998, 82),
}


@pytest.mark.parametrize("name", REAL)
def test_real_text_has_the_published_sizes(real_text: Path, name: str) -> None:
    if name not in names(real_text):
        pytest.skip(f"no {name} in {real_text}")
    splits, distinct, longest = REAL[name]
    found = summary(load(name, root=real_text))
    for split, (documents, tokens) in splits.items():
        assert found["splits"][split]["documents"] == documents
        assert found["splits"][split]["tokens_per_document"] == pytest.approx(tokens, abs=1e-4)
    assert found["vocabulary"] == distinct + 4  # of the 9,999 words of ptb one is <unk>, which is not a new word
    assert found["splits"]["train"]["longest"] == longest
    assert found["notes"] == []
