"""Laws of the values per document: what was written is read, or nothing is."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowsearch.errors import Damaged
from flowsearch.results.documents import COUNTS, DOCUMENTS, UNITS_OF, read_documents, write_documents


def columns_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    values = {name: chance.normal(size=count) for name in UNITS_OF if name not in COUNTS}
    return {"document": np.arange(count), "tokens": chance.integers(1, 200, count), **values}


def same(columns: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return list(columns) == list(other) and all(
        np.array_equal(columns[name].astype(other[name].dtype), other[name], equal_nan=name not in COUNTS)
        for name in columns
    )


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_what_was_written_is_read(tmp_path: Path, count: int) -> None:
    columns = columns_of(count)
    write_documents(tmp_path, columns)
    found = read_documents(tmp_path)
    assert same(columns, found)
    assert [str(column.dtype) for column in found.values()] == ["int32"] * 2 + ["float32"] * 3
    assert os.listdir(tmp_path) == [DOCUMENTS]


def test_a_language_model_has_no_kl_and_nan_stays_nan(tmp_path: Path) -> None:
    write_documents(tmp_path, {"elbo": np.array([np.nan, -2.0]), "tokens": np.array([3, 4])})
    found = read_documents(tmp_path)
    assert list(found) == ["document", "tokens", "elbo"]
    assert np.isnan(found["elbo"][0])
    assert found["document"].tolist() == [0, 1]


def test_a_later_write_replaces_the_whole_file(tmp_path: Path) -> None:
    write_documents(tmp_path, columns_of(5))
    write_documents(tmp_path, columns_of(3, seed=1))
    assert same(columns_of(3, seed=1), read_documents(tmp_path))


def test_units_are_in_the_fields(tmp_path: Path) -> None:
    write_documents(tmp_path, columns_of(2))
    schema = pq.read_schema(tmp_path / DOCUMENTS)
    assert {field.name: field.metadata[b"unit"].decode() for field in schema} == dict(UNITS_OF)
    assert pq.read_metadata(tmp_path / DOCUMENTS).row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(
    "columns", [{}, {"elbo": np.zeros(2), "tokens": np.zeros(3)}, {"elbo": np.zeros(2), "iw": np.zeros(2)}], ids=str
)
def test_columns_that_make_no_table_are_refused(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"documents\.parquet: columns"):
        write_documents(tmp_path, columns)
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_a_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"documents\.parquet: No such file"):
        read_documents(tmp_path)


def test_any_changed_byte_is_damage_or_changes_no_value(tmp_path: Path) -> None:
    columns = columns_of(40)
    write_documents(tmp_path, columns)
    path, chance = tmp_path / DOCUMENTS, random.Random(0)
    good, refused = path.read_bytes(), 0
    for place in range(0, len(good), 2):
        damaged = bytearray(good)
        damaged[place] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            assert same(columns, read_documents(tmp_path))
        except Damaged:
            refused += 1
    assert refused > len(good) / 4


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_cut_file_is_damage(tmp_path: Path, share: float) -> None:
    write_documents(tmp_path, columns_of(100))
    path = tmp_path / DOCUMENTS
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(Damaged):
        read_documents(tmp_path)
