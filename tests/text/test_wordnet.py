"""WordNet as a corpus: a small copy of its format, and the real one where it is installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from flowsearch.errors import CorpusError
from flowsearch.text import Corpus, load, names, wordnet
from flowsearch.text.wordnet import FOLDERS, tokenize

MODULE = import_module("flowsearch.text.wordnet")  # the room exports a function of the same name
ENTRY = "{number:08d} 03 n 01 word 0 000 | {gloss}  \n"
GLOSSES = {
    "noun": ['a cat; "the cat sat"', "a dog", "A Cat", '"nothing but an example"'],
    "verb": ["expel air", "hold (one's) breath"],
    "adj": ["wide-eyed", "a dog"],
    "adv": ['in a manner; "so"; "thus'],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(MODULE, "FOLDERS", ())
    for part, glosses in GLOSSES.items():
        entries = [ENTRY.format(number=number, gloss=gloss) for number, gloss in enumerate(glosses)]
        (tmp_path / f"data.{part}").write_text("  1 The licence | of it all\n" + "".join(entries))
    return tmp_path


def documents(corpus: Corpus) -> dict[str, str]:
    found = {}
    for split in corpus.splits.values():
        assert split.labels is not None
        for tokens, label in zip(split, split.labels, strict=True):
            found[" ".join(corpus.vocabulary.decode(tokens[1:-1]))] = label
    return found


def test_every_distinct_gloss_is_one_document(home: Path) -> None:
    corpus = load({"wordnet": {"train": 4, "valid": 1}}, root=home)
    assert [len(split) for split in corpus.splits.values()] == [4, 1, 1]
    whole = wordnet(home, train=4, valid=1, test=1)
    assert whole.checksum == corpus.checksum
    expected = {"a cat", "a dog", "expel air", "hold ( one's ) breath", "wide-eyed", "in a manner"}
    in_train = {text for text in documents(corpus) if "<unk>" not in text}
    assert in_train <= expected
    assert len(documents(corpus)) >= 5
    assert documents(corpus).get("a dog", "noun") == "noun"


def test_a_gloss_keeps_its_words_and_loses_its_examples() -> None:
    assert tokenize('At 3.5 "x"; it\'s fine, "unclosed') == ["at", "3.5", ";", "it's", "fine"]


def test_more_documents_than_there_are_is_an_error(home: Path) -> None:
    with pytest.raises(CorpusError, match=r"6 \+ 1 \+ 1 documents; expected at most 6 in all"):
        wordnet(home, train=6, valid=1)


def test_absence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "FOLDERS", (tmp_path,))
    with pytest.raises(CorpusError, match=r"run: apt-get install wordnet-base$"):
        load("wordnet", root=None)
    assert "wordnet" in names(None)


def test_the_real_one_splits_without_a_document_twice() -> None:
    if not any((folder / "data.noun").is_file() for folder in FOLDERS):
        pytest.skip("WordNet is not installed (apt-get install wordnet-base)")
    corpus = load("wordnet")
    train, valid, test = corpus.splits.values()
    assert (len(train), len(valid)) == (100_000, 8_800)
    assert 7_500 < len(test) < 8_900
    assert 11 < train.tokens_per_document < 13
    assert set(train.labels or ()) == {"noun", "verb", "adj", "adv"}
    assert len({tokens.tobytes() for tokens in train}) == len(train)
