"""A corpus is one flat array of token ids per split, encoded once and indexed ever after.

Every document is stored as `<s> w1 .. wn </s>`, one after another; `offsets` says where each begins. Nothing is kept
per document in Python, so a corpus goes to another process, or comes from a memory-mapped file, without a copy
(see `flowsearch.text.arrow`).
"""

from __future__ import annotations

import hashlib
import inspect
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError, validate_call

from flowsearch.errors import CorpusError, nearest
from flowsearch.text.vocabulary import BOS, EOS, SPECIALS, UNK, Vocabulary, check_limits

SPLITS = ("train", "valid", "test")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Split:
    """The documents of one split.

    `tokens` [all tokens] int32 holds `<s> w1 .. wn </s>` of each document in turn, `offsets` [N + 1] int64 where each
    begins, `labels` one string per document where the files have them, and `log_probability` [N] the true log p(x) in
    nats where it is known. The arrays may be read-only. Raises CorpusError where they contradict each other.

    >>> split = Split.encode(Vocabulary.count([["a", "b"]]), [["a", "b"], ["a"]])
    >>> split.tokens.tolist(), split.offsets.tolist(), split.lengths.tolist()
    ([1, 4, 5, 2, 1, 4, 2], [0, 4, 7], [3, 2])
    """

    tokens: Ids
    offsets: Offsets
    labels: tuple[str, ...] | None = None
    log_probability: Floats | None = None

    def __post_init__(self) -> None:
        whole = len(self.offsets) > 0 and self.offsets[0] == 0 and self.offsets[-1] == len(self.tokens)
        if not whole or (np.diff(self.offsets) < 2).any():
            raise CorpusError(f"offsets do not cut {len(self.tokens)} tokens into documents")
        for name in ("labels", "log_probability"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self):
                raise CorpusError(f"{name}: {len(values)} values; expected one for each of {len(self)} documents")

    @classmethod
    def encode(
        cls, vocabulary: Vocabulary, documents: Iterable[Sequence[str]], labels: tuple[str, ...] | None = None
    ) -> Split:
        """The split of these documents, each a sequence of words."""
        tokens, offsets, get = array("i"), array("q", [0]), vocabulary.index.get
        for words in documents:
            tokens.append(BOS)
            tokens.extend(map(get, words, repeat(UNK)))
            tokens.append(EOS)
            offsets.append(len(tokens))
        return cls(np.array(tokens, np.int32), np.array(offsets, np.int64), labels)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, document: int) -> Ids:
        """The tokens of one document, `<s>` and `</s>` included; a view."""
        if not 0 <= document < len(self):
            raise IndexError(document)
        return self.tokens[self.offsets[document] : self.offsets[document + 1]]

    def __iter__(self) -> Iterator[Ids]:
        return (self[document] for document in range(len(self)))

    @property
    def lengths(self) -> Offsets:
        """Targets per document [N]: its words and `</s>`."""
        return np.diff(self.offsets) - 1

    @property
    def tokens_per_document(self) -> float:
        """The mean of `lengths`: what perplexity divides by."""
        return float(self.lengths.mean()) if len(self) else 0.0

    @cached_property
    def checksum(self) -> str:
        """Hex SHA-256 of everything the split holds."""
        digest = hashlib.sha256()
        for values in (self.tokens, self.offsets, self.log_probability):
            digest.update(b"none" if values is None else np.ascontiguousarray(values).data)
        digest.update(repr(self.labels).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Corpus:
    """A vocabulary and the splits "train", "valid" and "test" written in it.

    `notes` are warnings for whoever uses it; `facts` are true values, known of a synthetic corpus only, in nats per
    document (`entropy`, `information` and their standard errors; see `flowsearch.text.synthetic`).
    """

    name: str
    vocabulary: Vocabulary
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def checksum(self) -> str:
        """Hex SHA-256 over the vocabulary and all splits; the same for the same data under another name."""
        digest = hashlib.sha256(repr(self.vocabulary.words).encode())
        for name, split in sorted(self.splits.items()):
            digest.update(f"{name} {split.checksum}".encode())
        return digest.hexdigest()


def load(
    choice: str | Mapping[str, Mapping[str, Any] | None],
    *,
    root: str | Path | None = None,
    vocabulary_size: int | None = None,
    min_count: int = 1,
    max_words: int | None = None,
) -> Corpus:
    """The corpus that `choice` names: a component, `{component: {knob: value}}`, or a folder under `root`.

    The vocabulary is counted on train only, after documents are cut to `max_words`. Raises CorpusError.

    >>> corpus = load({"synthetic": {"train": 50, "valid": 5, "test": 5}})
    >>> {name: len(split) for name, split in corpus.splits.items()}
    {'train': 50, 'valid': 5, 'test': 5}
    """
    check_limits(vocabulary_size, min_count)
    name, knobs = _component(choice)
    corpus = _call(name, None if root is None else Path(root).expanduser(), knobs)
    return restrict(corpus, vocabulary_size=vocabulary_size, min_count=min_count, max_words=max_words)


def components() -> dict[str, Callable[..., Corpus]]:
    """The corpus components by name: functions that return a Corpus, their keyword-only arguments the user's knobs."""
    from flowsearch import text  # not at the top: the components are built on this file

    return {name: getattr(text, name) for name in text.CORPORA}


def names(root: str | Path | None) -> list[str]:
    """What `load` can find by name: the reserved names, then the folders of `root` that hold a train.txt.

    >>> names(None)
    ['synthetic', 'wordnet']
    """
    reserved = sorted(components().keys() - {"folder"})
    folders = [] if root is None else [path.parent.name for path in Path(root).expanduser().glob("*/train.txt")]
    return reserved + sorted(name for name in folders if NAME.fullmatch(name) and name not in reserved)


def _component(choice: str | Mapping[str, Mapping[str, Any] | None]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(choice, str):
        return (choice, {}) if choice in components().keys() - {"folder"} else ("folder", {"name": choice})
    if len(choice) != 1:
        raise CorpusError(f"data.corpus: {dict(choice)!r}; expected a name or one {{component: {{knob: value}}}}")
    name, knobs = next(iter(choice.items()))
    if name not in components():
        raise CorpusError(f"data.corpus: {name!r} is not a component{nearest(str(name), components())}")
    return name, knobs or {}


def _call(name: str, root: Path | None, knobs: Mapping[str, Any]) -> Corpus:
    """The component with its knobs, whose types its signature declares, and with `root` where it asks for one."""
    component = components()[name]
    parameters = inspect.signature(component).parameters
    known = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    for knob in knobs:
        if knob not in known:
            raise CorpusError(f"data.corpus.{name}: {knob!r} is not a knob{nearest(str(knob), known)}")
    given = {"root": root} if "root" in parameters else {}
    try:
        return validate_call(component)(**given, **knobs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"data.corpus.{name}.{where}: {first['input']!r}; {first['msg']}") from error


def restrict(
    corpus: Corpus, *, vocabulary_size: int | None = None, min_count: int = 1, max_words: int | None = None
) -> Corpus:
    """The corpus with documents cut to `max_words`, then only the most frequent words of train, the rest `<unk>`.

    `vocabulary_size` counts the specials. Raises CorpusError where this would falsify a known log p(x).
    """
    check_limits(vocabulary_size, min_count)
    if max_words is not None and max_words < 1:
        raise CorpusError(f"data.max_words: {max_words}; expected at least 1")
    if vocabulary_size is None and min_count == 1 and max_words is None:
        return corpus
    if any(split.log_probability is not None for split in corpus.splits.values()):
        return _unchanged(corpus, vocabulary_size, min_count, max_words)
    splits, notes = _cut(corpus.splits, max_words)
    order = _most_frequent(splits["train"].tokens, len(corpus.vocabulary), vocabulary_size, min_count)
    ids = np.full(len(corpus.vocabulary), UNK, np.int32)
    ids[order] = np.arange(len(order))
    words = tuple(corpus.vocabulary.words[number] for number in order)
    recoded = {name: replace(split, tokens=ids[split.tokens]) for name, split in splits.items()}
    return replace(corpus, vocabulary=Vocabulary(words), splits=recoded, notes=corpus.notes + notes)


def _unchanged(corpus: Corpus, vocabulary_size: int | None, min_count: int, max_words: int | None) -> Corpus:
    """The corpus itself, whose log p(x) is of whole sentences in all its words, if the limits leave it alone."""
    longest = max(int(split.lengths.max()) - 1 for split in corpus.splits.values())
    if max_words is not None and max_words < longest:
        raise CorpusError(f"data.max_words: {max_words}; expected null or {longest} for {corpus.name}")
    if vocabulary_size is not None and vocabulary_size < len(corpus.vocabulary):
        size = len(corpus.vocabulary)
        raise CorpusError(f"data.vocabulary_size: {vocabulary_size}; expected null or {size} for {corpus.name}")
    if min_count != 1:
        raise CorpusError(f"data.min_count: {min_count}; expected 1 for {corpus.name}")
    return corpus


def _cut(splits: Mapping[str, Split], max_words: int | None) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits with no document longer than `max_words` words, and a note for each split that lost some."""
    if max_words is None:
        return dict(splits), ()
    cut, notes = {}, []
    for name, split in splits.items():
        sizes = np.diff(split.offsets)
        position = np.arange(len(split.tokens)) - np.repeat(split.offsets[:-1], sizes)
        kept = (position <= max_words) | (position == np.repeat(sizes, sizes) - 1)
        offsets = np.concatenate([[0], np.minimum(sizes, max_words + 2).cumsum()])
        cut[name] = replace(split, tokens=split.tokens[kept], offsets=offsets)
        too_long = int((sizes > max_words + 2).sum())
        if too_long:
            notes.append(f"{name}: {too_long} of {len(split)} documents cut to {max_words} words")
    return cut, tuple(notes)


def _most_frequent(tokens: Ids, words: int, size: int | None, min_count: int) -> npt.NDArray[np.int64]:
    """Old ids in their new order, as `Vocabulary.count` would have it: specials, then by count, then by appearance."""
    counts = np.bincount(tokens, minlength=words)
    appeared = np.full(words, len(tokens))
    np.minimum.at(appeared, tokens, np.arange(len(tokens)))
    order = np.lexsort((appeared, -counts))
    order = order[(order >= len(SPECIALS)) & (counts[order] >= min_count)]
    room = None if size is None else size - len(SPECIALS)
    return np.concatenate([np.arange(len(SPECIALS)), order[:room]])


def summary(corpus: Corpus) -> dict[str, Any]:
    """What `flowsearch data` prints.

    `vocabulary` counts the specials; per split `documents`, `tokens_per_document` (`</s>` counted), `longest` (in
    words), `unknown` (share of words that are `<unk>` or `_UNK`) and `checksum`; then `checksum`, `facts`, `notes`.

    >>> summary(load({"synthetic": {"train": 50, "valid": 5, "test": 5}}))["splits"]["valid"]["documents"]
    5
    """
    return {
        "name": corpus.name,
        "vocabulary": len(corpus.vocabulary),
        "splits": {name: _describe(split, corpus.vocabulary) for name, split in corpus.splits.items()},
        "checksum": corpus.checksum,
        "facts": dict(corpus.facts),
        "notes": list(corpus.notes),
    }


def _describe(split: Split, vocabulary: Vocabulary) -> dict[str, Any]:
    words = int(split.lengths.sum()) - len(split)
    unknown = int(np.isin(split.tokens, (UNK, vocabulary.unk)).sum())
    return {
        "documents": len(split),
        "tokens_per_document": split.tokens_per_document,
        "longest": int(split.lengths.max(initial=1)) - 1,
        "unknown": unknown / words if words else 0.0,
        "checksum": split.checksum,
    }
