"""A corpus as one Arrow table: it travels between processes and comes from a memory-mapped file without being copied.

One row per split, its arrays as list cells; the vocabulary and what is said of the corpus are schema metadata, as is
the corpus' checksum, which is verified whenever a table becomes a corpus again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowsearch.errors import CorpusError
from flowsearch.text.corpus import Corpus, Split
from flowsearch.text.vocabulary import Vocabulary

ARRAYS = {"tokens": pa.int32(), "offsets": pa.int64(), "log_probability": pa.float64()}
ABOUT, SEAL = b"flowsearch.corpus", b"flowsearch.sha256"  # what is not data, and its own checksum


def to_arrow(corpus: Corpus) -> pa.Table:
    """The corpus as a table with a row per split."""
    columns: dict[str, pa.Array] = {"split": pa.array(corpus.splits)}
    for name, kind in ARRAYS.items():
        columns[name] = _lists([getattr(split, name) for split in corpus.splits.values()], kind)
    labels = [split.labels for split in corpus.splits.values()]
    columns["labels"] = pa.array(labels, pa.large_list(pa.string()))
    about = {
        "name": corpus.name,
        "words": corpus.vocabulary.words,
        "notes": corpus.notes,
        "facts": dict(corpus.facts),
        "checksum": corpus.checksum,
    }
    written = json.dumps(about).encode()
    return pa.table(columns).replace_schema_metadata({ABOUT: written, SEAL: _sha256(written)})


def from_arrow(table: pa.Table) -> Corpus:
    """The corpus of a table; its arrays are read-only views of the table's memory.

    Raises CorpusError for another kind of table, and where the checksum does not fit the data.

    >>> from flowsearch.text import synthetic
    >>> corpus = synthetic(train=20, valid=2, test=2)
    >>> from_arrow(to_arrow(corpus)).checksum == corpus.checksum
    True
    """
    try:
        written = table.schema.metadata[ABOUT]
        about = json.loads(written)
        names = table["split"].to_pylist()
        splits = {name: _split(table, row) for row, name in enumerate(names)}
        vocabulary = Vocabulary(tuple(about["words"]))
        corpus = Corpus(about["name"], vocabulary, splits, tuple(about["notes"]), about["facts"])
        intact = table.schema.metadata[SEAL] == _sha256(written) and corpus.checksum == about["checksum"]
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"not a table of a corpus ({type(error).__name__}: {error})") from error
    if not intact:
        raise CorpusError(f"corpus {corpus.name!r}: its data do not fit their checksum; expected them as written")
    return corpus


def save(corpus: Corpus, path: Path) -> None:
    """Write an Arrow IPC file that appears whole or not at all."""
    table = to_arrow(corpus)
    temporary = path.with_name(f"_{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Corpus:
    """The corpus of a file, memory-mapped: its tokens are read from the disk when they are used.

    Raises CorpusError where the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
            table.validate(full=True)  # offsets that a damaged file holds would otherwise be followed out of bounds
            return from_arrow(table)
    except (OSError, ValueError, pa.ArrowException, CorpusError) as error:
        raise CorpusError(f"{path}: {error}") from error


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _lists(arrays: list[npt.NDArray[Any] | None], kind: pa.DataType) -> pa.Array:
    """One list cell per array; None becomes null."""
    sizes = [0 if values is None else len(values) for values in arrays]
    present = [values for values in arrays if values is not None]
    flat = pa.array(np.concatenate(present) if present else np.empty(0), kind)
    missing = pa.array([values is None for values in arrays])
    return pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *sizes]), pa.int64()), flat, mask=missing)


def _split(table: pa.Table, row: int) -> Split:
    arrays = {name: _numpy(table[name][row]) for name in ARRAYS}
    labels = table["labels"][row].as_py()
    if arrays["tokens"] is None or arrays["offsets"] is None:
        raise ValueError(f"row {row} has no tokens")
    return Split(
        arrays["tokens"], arrays["offsets"], None if labels is None else tuple(labels), arrays["log_probability"]
    )


def _numpy(cell: pa.LargeListScalar) -> npt.NDArray[Any] | None:
    return cell.values.to_numpy(zero_copy_only=True) if cell.is_valid else None
