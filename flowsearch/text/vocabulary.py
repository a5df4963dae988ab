"""Words to numbers: four special tokens, then the words of the training text, the most frequent first.

Numbering and the treatment of `_UNK` follow "Lagging Inference Networks and Posterior Collapse in Variational
Autoencoders" (He, Spokoyny, Neubig, Berg-Kirkpatrick, 2019): a corpus that was prepared with `_UNK` in place of rare
words keeps it as an ordinary word, which is predicted and counted in the perplexity. `<unk>` is for what the training
text never shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import numpy.typing as npt

from flowsearch.errors import CorpusError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """The words of a corpus; a word's position is its id.

    1. The four specials come first. A word `<unk>` in a text is id 3; the markers `<pad>`, `<s>` and `</s>` are never
       words, so in a text they too become `<unk>`.
    2. A word that is not in the vocabulary becomes `<unk>`.

    Raises CorpusError if the specials do not come first or a word comes twice.

    >>> vocabulary = Vocabulary.count([["a", "b"], ["b", "c"]], size=6)
    >>> vocabulary.words
    ('<pad>', '<s>', '</s>', '<unk>', 'b', 'a')
    >>> vocabulary.encode(["a", "b", "c"]).tolist()
    [5, 4, 3]
    >>> vocabulary.decode([5, 4, 3])
    ['a', 'b', '<unk>']
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIALS)] != SPECIALS:
            raise CorpusError(f"vocabulary: starts with {self.words[:4]}; expected {SPECIALS}")
        if len(set(self.words)) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise CorpusError(f"vocabulary: {twice!r} comes twice; expected distinct words")

    @classmethod
    def count(cls, documents: Iterable[Sequence[str]], *, size: int | None = None, min_count: int = 1) -> Vocabulary:
        """The most frequent words, ties in order of first appearance.

        `size` is the largest length wanted, specials counted (None: no limit); `min_count` the fewest occurrences of a
        word that is kept. Raises CorpusError where either is too small to mean anything.
        """
        check_limits(size, min_count)
        counts: Counter[str] = Counter()
        for words in documents:
            counts.update(words)
        for special in SPECIALS:
            counts.pop(special, None)
        room = None if size is None else size - len(SPECIALS)
        return cls(SPECIALS + tuple(word for word, seen in counts.most_common(room) if seen >= min_count))

    @cached_property
    def index(self) -> dict[str, int]:
        """Word to id, of everything that may stand in a text: the markers may not."""
        return {word: number for number, word in enumerate(self.words) if number >= UNK}

    @property
    def unk(self) -> int:
        """What replaces a word that must be hidden: `_UNK` where the text has that word, because it is trained."""
        return self.index.get("_UNK", UNK)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> npt.NDArray[np.int32]:
        """The ids of the words, without `<s>` and `</s>`."""
        return np.fromiter(map(self.index.get, words, repeat(UNK)), np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of the ids, specials included."""
        return [self.words[number] for number in ids]


def check_limits(size: int | None, min_count: int) -> None:
    """Raises CorpusError unless a vocabulary of `size` has room for a word and `min_count` is positive."""
    if size is not None and size <= len(SPECIALS):
        raise CorpusError(f"data.vocabulary_size: {size}; expected at least 5, four of them special tokens")
    if min_count < 1:
        raise CorpusError(f"data.min_count: {min_count}; expected at least 1")
