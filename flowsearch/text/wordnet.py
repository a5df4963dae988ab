"""Dictionary definitions as a corpus: the glosses of WordNet 3.0 (Princeton University, 2006), free to redistribute.

About as many training documents as the corpora of the thesis have, short and varied, from one Debian package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import PositiveInt

from flowsearch.errors import CorpusError
from flowsearch.text.corpus import Corpus, Split
from flowsearch.text.folder import read_lines
from flowsearch.text.vocabulary import Vocabulary

FOLDERS = (Path("/usr/share/wordnet"), Path("/usr/local/share/wordnet"), Path("/usr/share/wordnet-3.0"))
PARTS = ("noun", "verb", "adj", "adv")
EXAMPLE = re.compile(r'"[^"]*("|$)')
TOKEN = re.compile(r"\w+(?:[-'.]\w+)*|[^\w\s]")
EDGES = ";:, "  # what separated a definition from the examples that were dropped


def wordnet(
    root: Path | None = None,
    *,
    train: PositiveInt = 100_000,
    valid: PositiveInt = 8_800,
    test: PositiveInt | None = None,
) -> Corpus:
    """WordNet's glosses without their quoted examples, lower-cased, labelled noun, verb, adj or adv.

    1. A gloss that comes again is left out, so that no split holds a document of another.
    2. The order is that of the glosses' SHA-256: it looks random and is the same everywhere. `train` documents come
       first, then `valid`, then `test` (None: the rest).

    Raises CorpusError where WordNet is not installed or has fewer documents than asked for.
    """
    glosses = _glosses(_home(root))
    order = sorted(glosses, key=lambda gloss: hashlib.sha256(gloss.encode()).digest())
    rest = len(order) - train - valid
    if rest < (test or 1):
        raise CorpusError(f"wordnet: {train} + {valid} + {test or 1} documents; expected at most {len(order)} in all")
    ends = {
        "train": (0, train),
        "valid": (train, train + valid),
        "test": (train + valid, train + valid + (test or rest)),
    }
    vocabulary = Vocabulary.count(gloss.split() for gloss in order[:train])
    splits = {
        name: Split.encode(
            vocabulary,
            (gloss.split() for gloss in order[first:last]),
            tuple(glosses[gloss] for gloss in order[first:last]),
        )
        for name, (first, last) in ends.items()
    }
    return Corpus("wordnet", vocabulary, splits)


def tokenize(gloss: str) -> list[str]:
    """The words and punctuation marks of a gloss, lower-cased, its quoted examples dropped.

    >>> tokenize('expel air; "Exhale when you lift the weight"')
    ['expel', 'air']
    >>> tokenize("one's wide-eyed (or its) nature")
    ["one's", 'wide-eyed', '(', 'or', 'its', ')', 'nature']
    """
    return TOKEN.findall(EXAMPLE.sub("", gloss.lower()).strip(EDGES))


def _home(root: Path | None) -> Path:
    for folder in (*FOLDERS, *([root] if root else [])):
        if (folder / "data.noun").is_file():
            return folder
    raise CorpusError("wordnet: not installed (no data.noun in /usr/share/wordnet); run: apt-get install wordnet-base")


def _glosses(home: Path) -> dict[str, str]:
    """Every distinct gloss, tokens joined by spaces, and the part of speech where it comes first."""
    glosses: dict[str, str] = {}
    for part in PARTS:
        for gloss in _definitions(home / f"data.{part}"):
            if gloss:
                glosses.setdefault(gloss, part)
    return glosses


def _definitions(path: Path) -> Iterator[str]:
    """The gloss of each entry; lines that begin with a space are the licence."""
    for line in read_lines(path).texts:
        if not line.startswith(" "):
            yield " ".join(tokenize(line.partition(" | ")[2]))
