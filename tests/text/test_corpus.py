"""Laws of corpora: limits, checksums, and the way to Arrow and back."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import CorpusError
from flowsearch.text import Batch, Corpus, Split, Vocabulary, from_arrow, load, read, restrict, save, summary, to_arrow
from flowsearch.text.vocabulary import SPECIALS, UNK

DOCUMENTS = st.lists(st.lists(st.sampled_from([*"abcdefg", "_UNK", "<unk>"]), min_size=1, max_size=9), min_size=1)


def corpus_of(train: list[list[str]], valid: list[list[str]], **knobs: Any) -> Corpus:
    vocabulary = Vocabulary.count(train)
    labels = tuple("xy"[len(words) % 2] for words in valid)
    splits = {"train": Split.encode(vocabulary, train), "valid": Split.encode(vocabulary, valid, labels)}
    return Corpus("toy", vocabulary, {**splits, "test": splits["valid"]}, **knobs)


SYNTHETIC = load({"synthetic": {"train": 30, "valid": 3, "test": 3}})
TOY = corpus_of([["a", "b"], ["b", "b", "c"]], [["c"], ["d", "a"]], notes=("odd",), facts={"entropy": 0.1})


@given(DOCUMENTS, DOCUMENTS, st.none() | st.integers(5, 9), st.integers(1, 3), st.none() | st.integers(1, 6))
def test_restricting_equals_counting_and_encoding_anew(
    train: list[list[str]], valid: list[list[str]], size: int | None, least: int, longest: int | None
) -> None:
    restricted = restrict(corpus_of(train, valid), vocabulary_size=size, min_count=least, max_words=longest)
    vocabulary = Vocabulary.count([words[:longest] for words in train], size=size, min_count=least)
    assert restricted.vocabulary == vocabulary
    for name, documents in (("train", train), ("valid", valid)):
        known = {word for words in train for word in words}
        expected = [
            vocabulary.encode(word if word in known else "<unk>" for word in words[:longest]) for words in documents
        ]
        assert [tokens[1:-1].tolist() for tokens in restricted.splits[name]] == [ids.tolist() for ids in expected]


def test_limits_do_not_change_what_they_need_not() -> None:
    assert restrict(TOY) is TOY
    assert restrict(TOY, max_words=3, vocabulary_size=100).checksum == TOY.checksum


@pytest.mark.parametrize("limit", [{"vocabulary_size": 100}, {"min_count": 2}, {"max_words": 3}])
def test_a_known_likelihood_is_not_falsified(limit: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=f"data.{next(iter(limit))}: .*; expected .* for synthetic"):
        restrict(SYNTHETIC, **limit)
    assert restrict(SYNTHETIC, max_words=1000, vocabulary_size=1000) is SYNTHETIC


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"synthetic": {"trian": 3}}, r"'trian' is not a knob; did you mean 'train'\?"),
        ({"synthetic": {"train": 0}}, r"data.corpus.synthetic.train: 0; Input should be greater than 0"),
        ({"synthetic": {"kind": "moon"}}, r"data.corpus.synthetic.kind: 'moon'; Input should be 'codes'"),
        ({"sinthetic": {}}, r"'sinthetic' is not a component; did you mean 'synthetic'\?"),
        ({"wordnet": {"root": "/"}}, r"'root' is not a knob"),
        ({"folder": {}}, r"data.corpus.folder.name"),
        ({}, "expected a name or one"),
    ],
)
def test_a_wrong_choice_says_where_and_what_was_expected(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load(choice)


@pytest.mark.parametrize("limit", [{"max_words": 0}, {"min_count": 0}, {"vocabulary_size": 4}])
def test_limits_that_mean_nothing_are_refused(limit: dict[str, int]) -> None:
    with pytest.raises(CorpusError, match=f"data.{next(iter(limit))}: "):
        restrict(TOY, **limit)


def test_a_component_can_be_chosen_with_no_knobs_or_by_folder(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy" / f"{split}.txt").write_text(f"{split}\n")
    by_name, by_component = load("toy", root=tmp_path), load({"folder": {"name": "toy"}}, root=str(tmp_path))
    assert by_name.checksum == by_component.checksum


def test_a_summary_says_what_a_corpus_holds() -> None:
    told = summary(TOY)
    assert told["vocabulary"] == 4 + 3
    train = {"documents": 2, "tokens_per_document": 3.5, "longest": 3, "unknown": 0.0}
    assert told["splits"]["train"] == train | {"checksum": TOY.splits["train"].checksum}
    assert told["splits"]["valid"]["unknown"] == pytest.approx(1 / 3)
    assert (told["checksum"], told["notes"], told["facts"]) == (TOY.checksum, ["odd"], {"entropy": 0.1})


CHANGES = {
    "a token": lambda s: replace(s, tokens=np.where(s.tokens == 4, 5, s.tokens).astype(np.int32)),
    "a border": lambda s: replace(s, offsets=s.offsets + np.array([0, *[1] * (len(s) - 1), 0])),
    "a label": lambda s: replace(s, labels=tuple("z" * len(s))),
    "a likelihood": lambda s: replace(s, log_probability=np.zeros(len(s))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_checksum_sees_everything_but_the_name(change: str, split: str) -> None:
    corpus = corpus_of([["a", "b"], ["a", "b", "c"]], [["a", "c"], ["b", "a"]])
    changed = replace(corpus, splits={**corpus.splits, split: CHANGES[change](corpus.splits[split])})
    assert changed.checksum != corpus.checksum
    assert replace(corpus, name="other").checksum == corpus.checksum
    assert replace(corpus, vocabulary=Vocabulary((*SPECIALS, "b", "a", "c"))).checksum != corpus.checksum


@pytest.mark.parametrize(
    "broken",
    [
        {"offsets": np.array([0, 3])},
        {"offsets": np.array([1, 4])},
        {"offsets": np.array([0, 1, 4])},
        {"labels": ("x", "y")},
        {"log_probability": np.zeros(3)},
        {"offsets": np.array([], np.int64)},
    ],
)
def test_arrays_that_contradict_each_other_are_refused(broken: dict[str, Any]) -> None:
    good: dict[str, Any] = {"tokens": np.array([1, 4, 4, 2], np.int32), "offsets": np.array([0, 4])}
    assert len(Split(**good)) == 1
    with pytest.raises(CorpusError):
        Split(**(good | broken))


def same(one: Corpus, other: Corpus) -> bool:
    about = [(c.name, c.vocabulary, c.notes, dict(c.facts), list(c.splits), c.checksum) for c in (one, other)]
    return about[0] == about[1]


@pytest.mark.parametrize("corpus", [TOY, SYNTHETIC], ids=["text", "synthetic"])
def test_a_corpus_survives_arrow_and_its_file(corpus: Corpus, tmp_path: Path) -> None:
    save(corpus, tmp_path / "corpus.arrow")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.arrow"]
    assert same(from_arrow(to_arrow(corpus)), corpus)
    mapped = read(tmp_path / "corpus.arrow")
    assert same(mapped, corpus)
    split = mapped.splits["train"]
    assert not split.tokens.flags.writeable
    assert not split.tokens.flags.owndata
    batch = Batch.gather(split, np.array([0, 1]))
    batch.tokens[:] = UNK  # a batch is a copy, so that what was mapped stays as it is
    assert split[0].tolist() == corpus.splits["train"][0].tolist()


def test_from_arrow_copies_nothing() -> None:
    table = to_arrow(SYNTHETIC)
    home = table["tokens"].chunk(0).values.buffers()[1]
    address = from_arrow(table).splits["train"].tokens.__array_interface__["data"][0]
    assert home.address <= address < home.address + home.size


def test_damage_is_never_silent(tmp_path: Path) -> None:
    path = tmp_path / "corpus.arrow"
    save(TOY, path)
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with suppress(CorpusError):  # either outcome is fine, a wrong corpus is not
            assert same(read(path), TOY)
    for content in (b"", good[:100], b"text\n"):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=r"corpus\.arrow"):
            read(path)
    with pytest.raises(CorpusError, match=r"missing\.arrow"):
        read(tmp_path / "missing.arrow")
    with pytest.raises(CorpusError, match="not a table of a corpus"):
        from_arrow(pa.table({"split": ["train"]}))


def test_corpora_need_neither_torch_nor_pyarrow() -> None:
    code = "import sys, flowsearch.text; print(sorted({'torch', 'pyarrow', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
