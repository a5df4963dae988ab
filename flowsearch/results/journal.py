"""A study is what its journal says: one JSON line per event, on disk before it counts.

Append-only logs are how databases survive a crash (Mohan et al., ARIES, 1992); here the log is the only truth and every
table is a fold of it. A line is `{"event": ..., "time": ..., ..., "crc": "xxxxxxxx"}`, `crc` being the CRC-32 of the
line without that field, in eight hexadecimal digits. `time` is in seconds since 1970.

1. A line counts once its newline is on disk; `append` returns after that, never before.
2. A line torn by a crash loses only itself: the next append ends it with `#torn` and starts a fresh line.
3. A finished line whose CRC is wrong is damage: readers skip it and name its number.
4. JSON has no NaN and no infinity. They are written as the strings "NaN", "Infinity" and "-Infinity", and `fold` reads
   them back as floats among the values of a reading, where nothing but floats can be.
5. Events that `fold` does not know are kept in the file and ignored.

Events, each with its fields:
    study   anything known of the whole study: space_hash, seed, corpus, vocabulary_size, tokens_per_document, entropy
    start   trial, params, seed, label, attempt, phase, halved (memory ran out: half a batch at a time)
    report  trial, epoch, readings: [{split, values}]
    finish  trial, state (COMPLETE, PRUNED or FAIL), reason, seconds, best_epoch
and, for people and for resuming, not for the tables:
    lost    trial, cause (worker, node or memory), reason: the trial will be handed out again
    change  changes: {path: [before, now]}, what was changed on purpose between two runs of the study
"""

from __future__ import annotations

import json
import math
import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from flowsearch.results.reading import SPLITS

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
LARGEST = 2**30
"""Trial numbers and epochs lie in [0, LARGEST)."""

KEY = ("trial", "epoch", "split")
"""What names a row of metrics; no metric may have one of these names."""

TORN = b"#torn"
"""Ends a line that was cut short."""

Event = dict[str, Any]
Key = tuple[int, int, str]
"""(trial, epoch, split)."""

_CRC = len(',"crc":"xxxxxxxx"}')


class Journal:
    """The file that a study appends to; one writer at a time.

    Args:
        path: the file; created if it is not there, and never rewritten.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "journal.jsonl"
    >>> with Journal(path) as journal:
    ...     journal.append({"event": "start", "trial": 0, "time": 1.0})
    >>> read(path).events
    [{'event': 'start', 'time': 1.0, 'trial': 0}]
    """

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if is_new:
            sync_folder(path.parent)
            sync_folder(path.parent.parent)  # a study's folder is as new as its journal

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event and return once it is on disk; `time` is filled in when it is missing.

        Raises:
            ValueError: without a field `event`, or with a field `crc`.
            OSError: the disk refused; the event does not count, and a later append is safe.
        """
        if "event" not in event or "crc" in event:
            raise ValueError(f"journal: {sorted(event)}; expected a field 'event' and no field 'crc'")
        line = encode({"event": event["event"], "time": time.time(), **event})
        _write(self._file, (TORN + b"\n" if self._is_torn() else b"") + line)
        os.fsync(self._file)

    def _is_torn(self) -> bool:
        """Whether the last line has no end, whoever began it: another handle on the file may have failed since."""
        size = os.fstat(self._file).st_size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Close the file; everything appended is already on disk."""
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Replay(NamedTuple):
    """What a journal holds from an offset on.

    Args:
        events: the good lines, in order, without their checksums.
        end: the offset after the last finished line; a later `read` goes on from here.
        damaged: numbers, from 1, of the finished lines that fail their checksum.
    """

    events: list[Event]
    end: int
    damaged: list[int]


def read(path: Path, offset: int = 0) -> Replay:
    """The events of the journal at `path` from byte `offset`, which must be the start of a line."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    events: list[Event] = []
    damaged: list[int] = []
    for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
        event = decode(line)
        if event is not None:
            events.append(event)
        elif line and not line.endswith(TORN):
            damaged.append(number)
    if damaged and offset:
        before = path.read_bytes()[:offset].count(b"\n")
        damaged = [number + before for number in damaged]
    return Replay(events, offset + end, damaged)


def last(path: Path, kind: str) -> Event | None:
    """The last good event named `kind`, found from the end without reading what comes before; None if there is none."""
    start = b'{"event":%s,' % json.dumps(kind).encode()
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = data.rfind(start)
            while found >= 0:
                event = decode(data[found : max(data.find(b"\n", found), found)])
                if event is not None:
                    return event
                found = data.rfind(start, 0, found)
    return None


def span(path: Path) -> tuple[float, float] | None:
    """The times of the first and the last good line, in seconds since 1970, read from both ends; None without any."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            times = [next(_times(_lines(data, backwards=backwards)), None) for backwards in (False, True)]
    return None if times[0] is None or times[1] is None else (times[0], times[1])


def encode(event: Mapping[str, Any]) -> bytes:
    r"""The line of an event, its checksum and newline included.

    >>> encode({"event": "x", "loss": float("nan")})
    b'{"event":"x","loss":"NaN","crc":"0bb975b6"}\n'
    """
    try:
        text = _dumps(event)
    except ValueError:
        text = _dumps(_spelled(event))
    body = text.encode("ascii")
    return b'%s,"crc":"%08x"}\n' % (body[:-1], zlib.crc32(body))


def decode(line: bytes) -> Event | None:
    """The event of a line without its newline, or None when its checksum is wrong."""
    body = line[:-_CRC] + b"}"
    if line[-_CRC:] != b',"crc":"%08x"}' % zlib.crc32(body):
        return None
    event = json.loads(body)
    return event if isinstance(event, dict) else None


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on disk: a new or renamed file is not safe before that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Trial:
    """One trial, as far as it went.

    Args:
        number: counts from 0 in the order of the start events.
        state: one of `STATES`.
        reason: why it was pruned or failed.
        label: the model's name in a table, such as `VAE + IAF(k=2)`.
        seed: its random seed.
        seconds: wall time it took.
        best_epoch: the epoch whose validation ELBO is highest.
        params: dotted name to value; the seed and parameters without a value are left out.
        phase: `search`, or `confirm` where a found configuration is trained again with a fresh seed.
    """

    number: int
    state: str = "RUNNING"
    reason: str | None = None
    label: str | None = None
    seed: int | None = None
    seconds: float | None = None
    best_epoch: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    phase: str = "search"


@dataclass(frozen=True)
class Tables:
    """A journal, folded.

    Args:
        facts: the fields of the study events, later ones over earlier ones.
        trials: by number.
        readings: the metrics of each (trial, epoch, split).
        unreadable: events with a good checksum that this version cannot understand.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    trials: Mapping[int, Trial] = field(default_factory=dict)
    readings: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    unreadable: int = 0


def fold(events: Iterable[Mapping[str, Any]], onto: Tables | None = None) -> Tables:
    """The tables that a sequence of events amounts to.

    1. A reading that is reported again, as after a resume, replaces the earlier one metric by metric: the last one
       wins, and a metric that only comes late (the importance-weighted bound) completes its row.
    2. A trial that starts again is RUNNING until it finishes again; its readings stay.
    3. A report or finish of a trial whose start was lost still makes a trial, without parameters.

    Args:
        events: in the order of the journal.
        onto: tables that came before; they are not changed.

    >>> reading = {"split": "valid", "values": {"kl": 2}}
    >>> tables = fold([{"event": "start", "trial": 0, "params": {"objective.beta": 0.4}, "label": "VAE"},
    ...                {"event": "report", "trial": 0, "epoch": 1, "readings": [reading]}])
    >>> tables.trials[0].state, tables.readings
    ('RUNNING', {(0, 1, 'valid'): {'kl': 2.0}})
    """
    building = _Building(onto or Tables())
    for event in events:
        building.add(event)
    return building.done()


class _Building:
    """Tables under construction: the one mutable thing behind `fold`."""

    def __init__(self, onto: Tables) -> None:
        self.facts = dict(onto.facts)
        self.trials = dict(onto.trials)
        self.readings = {key: dict(values) for key, values in onto.readings.items()}
        self.unreadable = onto.unreadable

    def add(self, event: Mapping[str, Any]) -> None:
        step = _STEPS.get(event.get("event", ""))
        if step is None:
            return
        try:
            step(self, event)
        except (KeyError, TypeError, ValueError, AttributeError):
            self.unreadable += 1

    def study(self, event: Mapping[str, Any]) -> None:
        self.facts.update({name: value for name, value in event.items() if name not in ("event", "time")})

    def start(self, event: Mapping[str, Any]) -> None:
        number = _count(event["trial"])
        self.trials[number] = Trial(
            number,
            label=_text(event.get("label")),
            seed=None if event.get("seed") is None else int(event["seed"]),
            params=_parameters(event["params"]),
            phase=_text(event.get("phase")) or "search",
        )

    def report(self, event: Mapping[str, Any]) -> None:
        number, epoch = _count(event["trial"]), _count(event["epoch"])
        rows = [(_split(reading["split"]), _floats(reading["values"])) for reading in event["readings"]]
        self.trials.setdefault(number, Trial(number))
        for split, values in rows:
            self.readings.setdefault((number, epoch, split), {}).update(values)

    def finish(self, event: Mapping[str, Any]) -> None:
        number = _count(event["trial"])
        seconds, best = event.get("seconds"), event.get("best_epoch")
        self.trials[number] = replace(
            self.trials.get(number, Trial(number)),
            state=STATES[STATES.index(event["state"])],
            reason=_text(event.get("reason")),
            seconds=None if seconds is None else float(seconds),
            best_epoch=None if best is None else _count(best),
        )

    def done(self) -> Tables:
        return Tables(self.facts, dict(sorted(self.trials.items())), self.readings, self.unreadable)


_STEPS: Mapping[str, Callable[[_Building, Mapping[str, Any]], None]] = {
    "study": _Building.study,
    "start": _Building.start,
    "report": _Building.report,
    "finish": _Building.finish,
}


def _lines(data: mmap.mmap, *, backwards: bool) -> Iterator[bytes]:
    if not backwards:
        yield from iter(data.readline, b"")
        return
    end = data.rfind(b"\n")
    while end > 0:
        start = data.rfind(b"\n", 0, end)
        yield data[start + 1 : end + 1]
        end = start


def _times(lines: Iterable[bytes]) -> Iterator[float]:
    for line in lines:
        event = decode(line.removesuffix(b"\n"))
        if event is not None and isinstance(event.get("time"), int | float):
            yield float(event["time"])


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _dumps(event: Mapping[str, Any]) -> str:
    return json.dumps(event, allow_nan=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own number; its `item` gives it without importing NumPy here."""
    if hasattr(value, "item"):
        return _spelled(value.item())
    raise TypeError(f"journal: {type(value).__name__}; expected what JSON can hold")


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _spelled(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_spelled(part) for part in value]
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < LARGEST:
        raise ValueError(value)
    return int(value)


def _split(value: str) -> str:
    return SPLITS[SPLITS.index(value)]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None and name not in KEY}


def _parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    scalar = {name: _scalar(value) for name, value in params.items() if value is not None and name != "seed"}
    return dict(sorted(scalar.items()))


def _scalar(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)
