"""Sentences to tensors: vocabularies, corpora, batches and noise.

A corpus component is a function named in `CORPORA`: it returns a `Corpus`, takes `root` if it reads from the user's
folder, and its keyword-only arguments are the user's knobs. What needs torch or pyarrow is imported when it is first
asked for, so that looking at a corpus is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowsearch.text.corpus import Corpus, Split, load, names, restrict, summary
from flowsearch.text.folder import folder
from flowsearch.text.synthetic import synthetic
from flowsearch.text.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary
from flowsearch.text.wordnet import wordnet

if TYPE_CHECKING:
    from flowsearch.text.arrow import from_arrow, read, save, to_arrow
    from flowsearch.text.batches import Batch, Batches, BucketAndPad, EqualLength
    from flowsearch.text.noise import WordDropout

CORPORA = ("folder", "synthetic", "wordnet")

_LATER = {
    **dict.fromkeys(("from_arrow", "read", "save", "to_arrow"), "arrow"),
    **dict.fromkeys(("Batch", "Batches", "BucketAndPad", "EqualLength"), "batches"),
    "WordDropout": "noise",
}

__all__ = [
    "BOS",
    "CORPORA",
    "EOS",
    "PAD",
    "SPECIALS",
    "UNK",
    "Batch",
    "Batches",
    "BucketAndPad",
    "Corpus",
    "EqualLength",
    "Split",
    "Vocabulary",
    "WordDropout",
    "folder",
    "from_arrow",
    "load",
    "names",
    "read",
    "restrict",
    "save",
    "summary",
    "synthetic",
    "to_arrow",
    "wordnet",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"flowsearch.text.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
