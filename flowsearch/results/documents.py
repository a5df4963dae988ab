"""What the best epoch of a trial measured on each test document: `documents.parquet` in the trial's folder.

A mean over documents hides how two models differ; a row per document lets a report pair them, document by document.
Rows are in the order of the split, so row i of every trial of a study is the same text. Page checksums do not cover a
Parquet footer, so the schema holds the CRC-32 of the values as well, and a file is believed only if both fit.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowsearch.errors import Damaged
from flowsearch.results.reading import UNITS
from flowsearch.results.store import to_parquet, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENTS = "documents.parquet"
SCHEMA = 1
UNITS_OF: Mapping[str, str] = {
    "document": "position in the test split, from 0",
    "tokens": "targets of the document, </s> counted, <s> not",
    **{name: UNITS[name] for name in ("elbo", "reconstruction", "kl")},
}
"""The columns and their units; counts are int32, nats are float32."""

COUNTS = ("document", "tokens")


def write_documents(directory: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write `directory/documents.parquet`, whole and safe on disk, over what was there.

    1. Without `document` the rows are numbered from 0.
    2. A column that a model does not have, as the KL of a language model, may be left out; unknown ones may not come.

    Args:
        directory: the trial's folder, which is there.
        columns: [N] each, by the names of `UNITS_OF`.

    Raises:
        ValueError: an unknown column, none, or columns of different lengths.
        OSError: the disk refused; what was there is untouched.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_documents(folder, {"tokens": np.array([7, 4]), "elbo": np.array([-30.5, -20.25])})
    >>> {name: column.tolist() for name, column in read_documents(folder).items()}
    {'document': [0, 1], 'tokens': [7, 4], 'elbo': [-30.5, -20.25]}
    """
    import pyarrow as pa

    unknown, lengths = set(columns) - set(UNITS_OF), {len(column) for column in columns.values()}
    if unknown or len(lengths) != 1:
        raise ValueError(f"{DOCUMENTS}: columns {sorted(columns)} of lengths {sorted(lengths)}")
    given = {"document": np.arange(lengths.pop()), **columns}
    whole = {name: np.ascontiguousarray(given[name], dtype=_type(name)) for name in UNITS_OF if name in given}
    fields = [
        pa.field(name, pa.from_numpy_dtype(column.dtype), nullable=False, metadata={"unit": UNITS_OF[name]})
        for name, column in whole.items()
    ]
    schema = pa.schema(fields, metadata={"schema": str(SCHEMA), "crc": _crc(whole)})
    table = pa.Table.from_arrays([pa.array(column) for column in whole.values()], schema=schema)
    write_atomically(directory / DOCUMENTS, to_parquet(table))


def read_documents(directory: Path) -> Mapping[str, np.ndarray]:
    """The columns of `directory/documents.parquet`, by name: [N] each, int32 and float32, read-only.

    Raises:
        Damaged: it is not there, fails a checksum, or holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / DOCUMENTS
    try:
        source = pa.BufferReader(path.read_bytes())
        table = pq.ParquetFile(source, page_checksum_verification=True).read(use_threads=False)
        columns = {name: _array(table.column(name), _type(name)) for name in table.schema.names}
        seal = table.schema.metadata[b"crc"].decode()
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror or 'fails its checksum'}") from None
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path}: Parquet that cannot be read ({type(error).__name__})") from None
    if _crc(columns) != seal:
        raise Damaged(f"{path}: fails its checksum")
    return columns


def _type(name: str) -> type[Any]:
    return np.int32 if name in COUNTS else np.float32


def _crc(columns: Mapping[str, NDArray[Any]]) -> str:
    crc = 0
    for name, column in columns.items():
        crc = zlib.crc32(column.tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def _array(column: pa.ChunkedArray, kind: type[Any]) -> NDArray[Any]:
    """A column from Arrow's own buffers, as in the study's tables: `to_numpy` would import pandas."""
    import pyarrow as pa

    if column.null_count or column.type != pa.from_numpy_dtype(kind):
        raise ValueError(f"{column.type} with {column.null_count} nulls")
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype=kind)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
        if len(chunk)
    ]
    whole = np.concatenate([np.zeros(0, dtype=kind), *parts])
    whole.flags.writeable = False
    return whole
