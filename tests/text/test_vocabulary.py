"""Laws of vocabularies."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import CorpusError
from flowsearch.text.vocabulary import SPECIALS, UNK, Vocabulary

UNKNOWN = SPECIALS[UNK]
WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
DOCUMENTS = st.lists(st.lists(WORDS | st.sampled_from([*SPECIALS, "_UNK", "a", "b"]), max_size=8), max_size=8)


@given(DOCUMENTS)
def test_decoding_undoes_encoding(documents: list[list[str]]) -> None:
    vocabulary = Vocabulary.count(documents)
    for words in documents:
        readable = [UNKNOWN if word in SPECIALS else word for word in words]
        assert vocabulary.decode(vocabulary.encode(words)) == readable


@given(DOCUMENTS, st.integers(5, 12), st.integers(1, 3))
def test_the_most_frequent_words_are_kept_in_order(documents: list[list[str]], size: int, least: int) -> None:
    vocabulary = Vocabulary.count(documents, size=size, min_count=least)
    counts = Counter(word for words in documents for word in words if word not in SPECIALS)
    first_seen = list(counts)
    ranked = sorted((w for w in counts if counts[w] >= least), key=lambda w: (-counts[w], first_seen.index(w)))
    assert vocabulary.words == (*SPECIALS, *ranked[: size - 4])
    assert len(vocabulary) <= size


@given(DOCUMENTS)
def test_text_never_becomes_a_marker(documents: list[list[str]]) -> None:
    vocabulary = Vocabulary.count(documents)
    for words in documents:
        assert (vocabulary.encode(words) >= UNK).all()


def test_unknown_words_become_unk_and_the_literal_word_stays_a_word() -> None:
    vocabulary = Vocabulary.count([["_UNK", "a", "<unk>"]])
    assert vocabulary.encode(["_UNK", "a", "<unk>", "never"]).tolist() == [4, 5, UNK, UNK]
    assert vocabulary.unk == 4
    assert Vocabulary.count([["a"]]).unk == UNK


@pytest.mark.parametrize(("limits", "value"), [({"size": 4}, "4"), ({"min_count": 0}, "0")])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, int], value: str) -> None:
    with pytest.raises(CorpusError, match=f": {value}; expected at least"):
        Vocabulary.count([["a"]], **limits)


@pytest.mark.parametrize("words", [("a", "b"), (*SPECIALS, "a", "a")])
def test_a_broken_vocabulary_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(CorpusError, match="expected"):
        Vocabulary(words)
