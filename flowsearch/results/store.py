"""The tables of a study, as Parquet: quick to read, checked before they are believed, rebuilt from the journal at will.

`trials.parquet` has a row per trial: `COLUMNS`, then a column per parameter under its dotted name. `metrics.parquet`
has a row per (trial, epoch, split), then a nullable float column per metric with its unit in the field's metadata. Both
hold the schema's version and the journal's byte offset that they reach to. Page checksums do not cover a Parquet
footer, so before the files are put in place the journal gets an event `compacted` with that offset and the CRC-32 of
each file: a file is believed only if the journal vouches for every byte of it. Readers add whatever the journal holds
after the offset, so a running study needs no compaction.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowsearch.errors import Damaged, StudyError, nearest
from flowsearch.results.journal import KEY, LARGEST, Journal, Key, Tables, Trial, fold, last, read, sync_folder
from flowsearch.results.reading import SPLITS, UNITS

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL, TRIALS, METRICS = "journal.jsonl", "trials.parquet", "metrics.parquet"
SCHEMA = 1
COLUMNS = ("trial", "state", "reason", "label", "seed", "seconds", "best_epoch", "phase")
"""The columns of `trials.parquet` that are not parameters."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INT64 = 2**63

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Metrics:
    """The readings of a study by column, N rows sorted by trial, epoch and split.

    Args:
        trial: [N].
        epoch: [N], from 1.
        split: [N], positions in `SPLITS`.
        values: metric name to [N]; NaN where it was not measured, or was not a number.
        known: metric name to [N]; False where it was not measured.
    """

    trial: Ints
    epoch: Ints
    split: Ints
    values: Mapping[str, Floats] = field(default_factory=dict)
    known: Mapping[str, Bools] = field(default_factory=dict)

    @classmethod
    def of(cls, readings: Mapping[Key, Mapping[str, float]], names: Collection[str] | None = None) -> Metrics:
        """The columns of `readings`; only those in `names`, unless it is None.

        >>> Metrics.of({(0, 1, "valid"): {"kl": 2.0}}).values["kl"].tolist()
        [2.0]
        """
        order = sorted(readings, key=lambda key: (key[0], key[1], SPLITS.index(key[2])))
        rows = [readings[key] for key in order]
        found = sorted(name for name in set().union(*rows) if names is None or name in names)
        return cls(
            np.array([trial for trial, _, _ in order], dtype=np.int64),
            np.array([epoch for _, epoch, _ in order], dtype=np.int64),
            np.array([SPLITS.index(split) for _, _, split in order], dtype=np.int64),
            {name: np.array([row.get(name, math.nan) for row in rows], dtype=np.float64) for name in found},
            {name: np.array([name in row for row in rows], dtype=bool) for name in found},
        )

    def __len__(self) -> int:
        return len(self.trial)

    def updated(self, readings: Mapping[Key, Mapping[str, float]], names: Collection[str] | None = None) -> Metrics:
        """These rows with `readings` put over them, metric by metric."""
        if not readings:
            return self
        replaced = np.isin(self._keys(), [_key(t, e, SPLITS.index(s)) for t, e, s in readings])
        earlier = self._take(replaced)._rows()
        merged = {key: {**earlier.get(key, {}), **values} for key, values in readings.items()}
        return self._take(~replaced)._joined(Metrics.of(merged, names))

    def at(self, epochs: Mapping[int, int], split: str) -> dict[int, dict[str, float]]:
        """The reading of each trial on `split` at the epoch that `epochs` gives it; trials without one are left out."""
        wanted = np.array(sorted(epochs), dtype=np.int64)
        epoch_of = np.array([epochs[trial] for trial in wanted.tolist()], dtype=np.int64)
        if not len(wanted):
            return {}
        place = np.minimum(np.searchsorted(wanted, self.trial), len(wanted) - 1)
        chosen = (wanted[place] == self.trial) & (epoch_of[place] == self.epoch) & (self.split == SPLITS.index(split))
        return {trial: values for (trial, _, _), values in self._take(chosen)._rows().items()}

    def best_epochs(self) -> dict[int, int]:
        """The epoch of each trial whose validation ELBO is highest, the earliest of equals; NaN and infinity never are.

        >>> Metrics.of({(0, e, "valid"): {"elbo": v} for e, v in [(1, -9.0), (2, -7.0), (3, -8.0)]}).best_epochs()
        {0: 2}
        """
        elbo = self.values.get("elbo", np.full(len(self), np.nan))
        rows = np.flatnonzero((self.split == SPLITS.index("valid")) & np.isfinite(elbo))
        rows = rows[np.lexsort((self.epoch[rows], -elbo[rows], self.trial[rows]))]
        trials, first = np.unique(self.trial[rows], return_index=True)
        return dict(zip(trials.tolist(), self.epoch[rows][first].tolist(), strict=True))

    def last_epochs(self, split: str = "valid") -> dict[int, int]:
        """The last epoch of each trial that has a reading on `split`."""
        rows = np.flatnonzero(self.split == SPLITS.index(split))
        return dict(zip(self.trial[rows].tolist(), self.epoch[rows].tolist(), strict=True))

    def _keys(self) -> Ints:
        keys: Ints = _key(self.trial, self.epoch, self.split)
        return keys

    def _take(self, rows: Bools | Ints) -> Metrics:
        return Metrics(
            self.trial[rows],
            self.epoch[rows],
            self.split[rows],
            {name: column[rows] for name, column in self.values.items()},
            {name: column[rows] for name, column in self.known.items()},
        )

    def _rows(self) -> dict[Key, dict[str, float]]:
        keys = zip(self.trial.tolist(), self.epoch.tolist(), [SPLITS[s] for s in self.split.tolist()], strict=True)
        values = {name: column.tolist() for name, column in self.values.items()}
        return {
            key: {name: column[row] for name, column in values.items() if self.known[name][row]}
            for row, key in enumerate(keys)
        }

    def _joined(self, other: Metrics) -> Metrics:
        def column(metrics: Metrics, name: str) -> tuple[Floats, Bools]:
            absent = np.full(len(metrics), np.nan), np.zeros(len(metrics), dtype=bool)
            return metrics.values.get(name, absent[0]), metrics.known.get(name, absent[1])

        names = sorted({*self.values, *other.values})
        joined = Metrics(
            np.concatenate([self.trial, other.trial]),
            np.concatenate([self.epoch, other.epoch]),
            np.concatenate([self.split, other.split]),
            {name: np.concatenate([column(self, name)[0], column(other, name)[0]]) for name in names},
            {name: np.concatenate([column(self, name)[1], column(other, name)[1]]) for name in names},
        )
        return joined._take(np.lexsort((joined.split, joined.epoch, joined.trial)))


@dataclass(frozen=True)
class Study:
    """Everything measured in one study.

    Args:
        name: the name of its folder.
        facts: the fields of its study events: corpus, vocabulary_size, tokens_per_document, entropy, ...
        trials: by number.
        metrics: every reading, or those columns that were asked for.
        offset: the journal's byte offset that this reaches to.
        damaged: numbers of the journal's lines that cannot be read.
        unreadable: events that this version cannot understand.
        notes: what is wrong with the files, a sentence each; empty when nothing is.
    """

    name: str
    facts: Mapping[str, Any]
    trials: Mapping[int, Trial]
    metrics: Metrics
    offset: int = 0
    damaged: tuple[int, ...] = ()
    unreadable: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def best_epochs(self) -> dict[int, int]:
        """The best epoch of each trial that has one."""
        return {trial.number: trial.best_epoch for trial in self.trials.values() if trial.best_epoch is not None}


def studies(results: Path) -> list[str]:
    """The names of the studies under `results`, sorted; none when the folder is not there."""
    if not results.is_dir():
        return []
    return sorted(folder.name for folder in results.iterdir() if NAME.fullmatch(folder.name) and _is_study(folder))


def find(results: Path, name: str) -> Path:
    """The folder of a study.

    Raises:
        StudyError: there is no such study; the message names the nearest one.
    """
    if not NAME.fullmatch(name) or not _is_study(results / name):
        raise StudyError(f"{results}: no study '{name}'{nearest(name, studies(results))}")
    return results / name


def load(folder: Path, metrics: Collection[str] | None = None) -> Study:
    """The tables of a study: its Parquet files and the journal after them.

    1. Without Parquet files, or when one fails its checksum, the journal alone gives the same tables.
    2. Damage is never an error here: it is a sentence in `notes`, and whatever is good is returned.
    3. Without a journal the Parquet files are believed if their page checksums hold, and a note says so.

    Args:
        folder: of the study, as `find` gives it.
        metrics: the metric columns wanted; None gives all. `elbo` always comes along.
    """
    wanted = None if metrics is None else {"elbo", *metrics}
    path = folder / JOURNAL
    if not path.exists():
        return _without_journal(folder, wanted)
    notes: list[str] = []
    study = None
    mark = last(path, "compacted")
    if mark is not None:
        try:
            study = _vouched(folder, mark, wanted)
        except Damaged as error:
            notes.append(f"{error}; the journal was read instead")
    return _continued(study or Study(folder.name, {}, {}, Metrics.of({})), path, notes, wanted)


def compact(folder: Path) -> None:
    """Write `trials.parquet` and `metrics.parquet` up to the end of the journal, each at once or not at all.

    Only the journal's writer may call this. Files that fail their checksum are rebuilt from the journal.

    Raises:
        OSError: the disk refused; the earlier files are untouched.
        StudyError: there is no journal.
    """
    if not (folder / JOURNAL).exists():
        raise StudyError(f"{folder}: no {JOURNAL}; there is nothing to write tables from")
    study = load(folder)
    mark = last(folder / JOURNAL, "compacted")
    present = {name: _crc(folder / name) for name in (TRIALS, METRICS)}
    if mark and present == mark["files"] and _holds_only_marks(folder / JOURNAL, mark["offset"]):
        return
    tables = {TRIALS: _trials_table(study), METRICS: _metrics_table(study)}
    files = {folder / name: to_parquet(table) for name, table in tables.items()}
    crcs = {path.name: zlib.crc32(data) for path, data in files.items()}
    reach = {"offset": study.offset, "damaged": study.damaged, "unreadable": study.unreadable}
    with Journal(folder / JOURNAL) as journal:
        mark = {"event": "compacted", **reach, "files": crcs, "replaced": present}
        write_together(files, lambda: journal.append(mark))


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole and safe on disk, or leave everything as it was."""
    write_together({path: data}, lambda: None)


def write_together(files: Mapping[Path, bytes], announce: Callable[[], None]) -> None:
    """Put bytes at each path, whole and safe on disk, or leave everything as it was.

    Args:
        files: what goes where. Temporary names start with `_`, which readers of Parquet folders ignore.
        announce: called when everything is on disk and nothing is in place yet.
    """
    staged = {path.with_name(f"_{path.name}.tmp"): path for path in files}
    try:
        for temporary, path in staged.items():
            with temporary.open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        announce()
        for temporary, path in staged.items():
            temporary.replace(path)
    except BaseException:
        for temporary in staged:
            temporary.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def typed(trials: Mapping[int, Trial]) -> dict[int, Trial]:
    """The same trials with every parameter of one type: bool, int, float, or str where they are mixed.

    >>> [t.params["k"] for t in typed({0: Trial(0, params={"k": 1}), 1: Trial(1, params={"k": 0.5})}).values()]
    [1.0, 0.5]
    """
    found: dict[str, list[Any]] = {}
    for trial in trials.values():
        for name, value in trial.params.items():
            found.setdefault(name, []).append(value)
    kinds = {name: _kind(values) for name, values in found.items()}
    return {
        number: replace(trial, params={name: kinds[name](value) for name, value in trial.params.items()})
        for number, trial in trials.items()
    }


def _kind(values: Iterable[Any]) -> Callable[[Any], Any]:
    kinds = {type(value) for value in values}
    if kinds == {int} and not all(-_INT64 <= value < _INT64 for value in values):
        return _string
    if kinds <= {int, float} and kinds:
        return float if float in kinds else int
    return bool if kinds == {bool} else _string


def _string(value: Any) -> str:
    """A value in a column of mixed types; a float that is whole reads as it did before its column turned to floats."""
    if isinstance(value, str):
        return value
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _is_study(folder: Path) -> bool:
    return (folder / JOURNAL).is_file() or (folder / TRIALS).is_file()


def _key(trial: Any, epoch: Any, split: Any) -> Any:
    """One whole number per (trial, epoch, split), below 2**63 because both counts are below `LARGEST`."""
    return (trial * LARGEST + epoch) * len(SPLITS) + split


def _crc(path: Path) -> int | None:
    return zlib.crc32(path.read_bytes()) if path.exists() else None


def _holds_only_marks(path: Path, offset: int) -> bool:
    return all(event["event"] == "compacted" for event in read(path, offset).events)


def _continued(study: Study, path: Path, notes: list[str], wanted: Collection[str] | None) -> Study:
    """`study` with the journal after its offset folded onto it, and what is wrong put in words."""
    replay = read(path, study.offset)
    tables = fold(replay.events, Tables(study.facts, study.trials, {}, study.unreadable))
    metrics = study.metrics.updated(tables.readings, wanted)
    damaged = (*study.damaged, *replay.damaged)
    if damaged:
        numbers = ", ".join(str(number) for number in damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        notes.append(f"{path}: {len(damaged)} damaged line(s) skipped: {numbers}")
    if tables.unreadable:
        notes.append(f"{path}: {tables.unreadable} event(s) not understood; written by another version?")
    trials = typed(_with_best_epochs(tables.trials, metrics))
    return Study(study.name, tables.facts, trials, metrics, replay.end, damaged, tables.unreadable, tuple(notes))


def _with_best_epochs(trials: Mapping[int, Trial], metrics: Metrics) -> dict[int, Trial]:
    best = metrics.best_epochs()
    return {
        number: replace(trial, best_epoch=best.get(number))
        if trial.best_epoch is None or trial.state == "RUNNING"
        else trial
        for number, trial in trials.items()
    }


def _without_journal(folder: Path, wanted: Collection[str] | None) -> Study:
    note = f"{folder / JOURNAL}: missing; the Parquet files were read as they are"
    try:
        study = _parsed(folder.name, _bytes(folder / TRIALS), _bytes(folder / METRICS), wanted)
    except Damaged as error:
        return Study(folder.name, {}, {}, Metrics.of({}), notes=(note, str(error)))
    return replace(study, notes=(note,))


def _vouched(folder: Path, mark: Mapping[str, Any], wanted: Collection[str] | None) -> Study | None:
    """The files that `mark` vouches for; None if they are missing, or if a crash came between mark and rename."""
    present = {name: folder / name for name in (TRIALS, METRICS) if (folder / name).exists()}
    data = {name: _bytes(path) for name, path in present.items()}
    crcs = {name: zlib.crc32(content) for name, content in data.items()}
    for name, crc in crcs.items():
        if crc not in (mark["files"][name], mark["replaced"][name]):
            raise Damaged(f"{folder / name}: fails its checksum")
    if crcs != mark["files"]:
        return None
    study = _parsed(folder.name, data[TRIALS], data[METRICS], wanted)
    return replace(study, offset=mark["offset"], damaged=tuple(mark["damaged"]), unreadable=mark["unreadable"])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror}") from None


def _parsed(name: str, trials: bytes, metrics: bytes, wanted: Collection[str] | None) -> Study:
    import pyarrow as pa

    try:
        facts, rows = _read_trials(trials)
        return Study(name, facts, rows, _read_metrics(metrics, wanted))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{name}: Parquet that cannot be read ({type(error).__name__})") from None


def _read_trials(data: bytes) -> tuple[dict[str, Any], dict[int, Trial]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
    facts = json.loads(table.schema.metadata[b"facts"])
    trials = {}
    for row in table.to_pylist():
        row.setdefault("phase", "search")  # tables from before there were phases
        fixed = {name: row.pop(name) for name in COLUMNS[1:]}
        number = row.pop("trial")
        trials[number] = Trial(
            number, **fixed, params={name: value for name, value in row.items() if value is not None}
        )
    return facts, trials


def _read_metrics(data: bytes, wanted: Collection[str] | None) -> Metrics:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=["split"])
    names = [name for name in file.schema_arrow.names if name not in KEY and (wanted is None or name in wanted)]
    table = file.read(columns=[*KEY, *names], use_threads=False)
    columns = {name: _column(table.column(name), np.float64) for name in names}
    return Metrics(
        _column(table.column("trial"), np.int64)[0],
        _column(table.column("epoch"), np.int64)[0],
        _codes(table.column("split")),
        {name: np.where(known, values, np.nan) for name, (values, known) in columns.items()},
        {name: known for name, (_, known) in columns.items()},
    )


def _column(column: pa.ChunkedArray | pa.Array, kind: type[Any]) -> tuple[NDArray[Any], Bools]:
    """Values and validity from Arrow's own buffers: `to_numpy` would import pandas, slower than all the rest."""
    values, known = [np.zeros(0, dtype=kind)], [np.zeros(0, dtype=bool)]
    for chunk in getattr(column, "chunks", [column]):
        valid, content = chunk.buffers()[:2]
        rows = slice(chunk.offset, chunk.offset + len(chunk))
        values.append(np.frombuffer(content, dtype=kind)[rows])
        bits = np.frombuffer(valid, dtype=np.uint8) if valid else np.full(len(content), 255, dtype=np.uint8)
        known.append(np.unpackbits(bits, bitorder="little")[rows].astype(bool))
    return np.concatenate(values), np.concatenate(known)


def _codes(column: pa.ChunkedArray) -> Ints:
    parts = [np.zeros(0, dtype=np.int64)]
    for chunk in column.chunks:
        code = np.array([SPLITS.index(split) for split in chunk.dictionary.to_pylist()], dtype=np.int64)
        parts.append(code[_column(chunk.indices, np.int32)[0]])
    return np.concatenate(parts)


def _trials_table(study: Study) -> pa.Table:
    import pyarrow as pa

    types = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.int64(), pa.float64(), pa.int64(), pa.string())
    fields = [pa.field(name, kind) for name, kind in zip(COLUMNS, types, strict=True)]
    fields[COLUMNS.index("seconds")] = pa.field("seconds", pa.float64(), metadata={"unit": UNITS["seconds"]})
    of_type = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    parameters: dict[str, Any] = {}
    for trial in study.trials.values():
        parameters.update({name: of_type[type(value)] for name, value in trial.params.items()})
    fields += [pa.field(name, kind) for name, kind in sorted(parameters.items())]
    rows = [
        {"trial": trial.number, **{name: getattr(trial, name) for name in COLUMNS[1:]}, **trial.params}
        for trial in study.trials.values()
    ]
    metadata = {"schema": str(SCHEMA), "journal_offset": str(study.offset), "facts": json.dumps(study.facts)}
    return pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata=metadata))


def _metrics_table(study: Study) -> pa.Table:
    import pyarrow as pa

    metrics = study.metrics
    counts = [pa.field("trial", pa.int64()), pa.field("epoch", pa.int64(), metadata={"unit": "epochs, from 1"})]
    fields = [*counts, pa.field("split", pa.string())]
    fields += [pa.field(name, pa.float64(), metadata={"unit": UNITS.get(name, "")}) for name in metrics.values]
    columns = [pa.array(metrics.trial), pa.array(metrics.epoch), pa.array(np.array(SPLITS)[metrics.split], pa.string())]
    columns += [pa.array(column, mask=~metrics.known[name]) for name, column in metrics.values.items()]
    schema = pa.schema(fields, metadata={"schema": str(SCHEMA), "journal_offset": str(study.offset)})
    return pa.Table.from_arrays(columns, schema=schema)


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file: zstd, a checksum per page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data
