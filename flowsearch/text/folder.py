"""A folder of text is a corpus: `train.txt`, `valid.txt` and `test.txt`, one document per line.

The format of "Improved Variational Autoencoders for Text Modeling using Dilated Convolutions" (Yang, Hu, Salakhutdinov,
Berg-Kirkpatrick, 2017) and those who followed: words already separated by white space, optionally `label<TAB>text`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowsearch.errors import CorpusError, nearest
from flowsearch.text.corpus import NAME, SPLITS, Corpus, Split, names
from flowsearch.text.vocabulary import SPECIALS, Vocabulary

MARKERS = frozenset(SPECIALS[:3])


@dataclass(frozen=True)
class Lines:
    """The documents of one file and their line numbers, blank lines left out but counted."""

    path: Path
    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    blank: int


def folder(root: Path | None, *, name: str) -> Corpus:
    """The corpus in `root`/`name`.

    1. A line ends at a line feed and nowhere else; a carriage return before it is white space, the last line feed may
       be missing, and a byte-order mark is dropped.
    2. If every line of train that is not blank has exactly one TAB, the corpus is labelled, and a line of another split
       that has not is an error. Otherwise a TAB is white space.
    3. Blank lines (and labels without text) are skipped, and a note says how many.
    4. Bytes that are not UTF-8, and NUL bytes, are errors with their line number.
    5. Documents of valid or test that are also in another split are noted where they are half of the split or more.

    Raises CorpusError.
    """
    home = _find(root, name)
    files = {split: read_lines(_inside(home, home / f"{split}.txt")) for split in SPLITS}
    labelled = all(text.count("\t") == 1 for text in files["train"].texts)
    documents = {split: _documents(lines, labelled) for split, lines in files.items()}
    vocabulary = Vocabulary.count(text.split() for text in documents["train"][0])
    splits = {
        split: Split.encode(vocabulary, (text.split() for text in texts), labels)
        for split, (texts, labels) in documents.items()
    }
    texts = {split: texts for split, (texts, _) in documents.items()}
    notes = (*_skipped(files, texts), *_markers(texts), *_no_words(vocabulary), *_overlaps(texts))
    return Corpus(name, vocabulary, splits, notes)


def read_lines(path: Path) -> Lines:
    """The lines of a file that are not blank, without white space after them.

    Raises CorpusError, with the line number, for what is not UTF-8 text, and where nothing is left.
    """
    texts, numbers, number = [], [], 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = _decode(path, number, line)
                if text.strip():
                    texts.append(text)
                    numbers.append(number)
    except FileNotFoundError as error:
        raise CorpusError(f"{path}: no such file{nearest(path.name, _texts_beside(path))}") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    if not texts:
        raise CorpusError(f"{path}: no document in {number} lines; expected one document per line")
    return Lines(path, tuple(texts), tuple(numbers), number - len(texts))


def _texts_beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.glob("*.txt")]


def _decode(path: Path, number: int, line: bytes) -> str:
    if b"\0" in line:
        raise CorpusError(f"{path}, line {number}: a NUL byte; expected UTF-8 text")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise CorpusError(f"{path}, line {number}: byte 0x{byte:02x}; expected UTF-8 text") from error


def _find(root: Path | None, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise CorpusError(f"data.corpus: {name!r}; expected at most 64 letters, digits, '.', '_' or '-'")
    if root is None:
        raise CorpusError(f"data.corpus: no {name!r} while data.root is null{nearest(name, names(None))}")
    if not root.is_dir():
        raise CorpusError(f"data.root: {str(root)!r} is not a folder; expected the folder that holds {name!r}")
    if not (root / name).is_dir():
        raise CorpusError(f"data.corpus: no {name!r} in {str(root)!r}{nearest(name, names(root))}")
    return _inside(root, root / name)


def _inside(parent: Path, path: Path) -> Path:
    """The path, unless a link leads out of the parent."""
    if not path.resolve().is_relative_to(parent.resolve()):
        raise CorpusError(f"{path}: leads to {str(path.resolve())!r}; expected a place inside {str(parent)!r}")
    return path


def _documents(lines: Lines, labelled: bool) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The texts, and the labels where there are any."""
    if not labelled:
        return lines.texts, None
    pairs = [(label.strip(), text) for label, text in _pairs(lines) if text.strip()]
    if not pairs:
        raise CorpusError(f"{lines.path}: labels only; expected label<TAB>text")
    labels, texts = zip(*pairs, strict=True)
    return texts, labels


def _pairs(lines: Lines) -> Iterator[tuple[str, str]]:
    for number, line in zip(lines.numbers, lines.texts, strict=True):
        parts = line.split("\t")
        if len(parts) != 2:
            found = f"{len(parts) - 1} TABs"
            raise CorpusError(f"{lines.path}, line {number}: {found}; expected label<TAB>text as in train.txt")
        yield parts[0], parts[1]


def _skipped(files: dict[str, Lines], texts: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for split, lines in files.items():
        blank = lines.blank + len(lines.texts) - len(texts[split])
        if blank:
            yield f"{split}: {blank} blank lines skipped"


def _markers(texts: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """A note where the text itself holds the names of special tokens, which cannot be words."""
    for split, documents in texts.items():
        count = sum(not MARKERS.isdisjoint(text.split()) for text in documents if "<" in text)
        if count:
            yield f"{split}: {count} documents hold <pad>, <s> or </s>, read as <unk>"


def _no_words(vocabulary: Vocabulary) -> Iterator[str]:
    if len(vocabulary) == len(SPECIALS):
        yield "train: every word is <unk>"


def _overlaps(texts: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """A note for each split of which at least half is in another: its figures say nothing about new text."""
    for split, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        seen = set(texts[other])
        share = sum(text in seen for text in texts[split]) / len(texts[split])
        if texts[split] == texts[other]:
            yield f"{split}: the same documents as {other}"
        elif share >= 0.5:
            yield f"{split}: {share:.0%} of its documents are also in {other}"
