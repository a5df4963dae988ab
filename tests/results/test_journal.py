"""Laws of the journal: what was acknowledged is there, once, and what is damaged is named."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsearch.results import Journal, fold, read
from flowsearch.results.journal import Trial, decode, encode, last, span

words = st.text(max_size=20) | st.sampled_from(['"', "\\", "\n", "\u2028", ',"crc":"00000000"}', "#torn", "\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(words.filter(lambda name: name not in ("event", "crc", "time")), values, max_size=4)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"event": "x", "time": 0.0, "number": number, "text": "word " * (number % 5)} for number in range(count)]


def write(path: Path, events: list[dict[str, Any]]) -> None:
    with Journal(path) as journal:
        for event in events:
            journal.append(event)


@settings(deadline=None)
@given(fields)
def test_an_event_survives_its_line(given_fields: dict[str, Any]) -> None:
    event = {"event": "x", **given_fields}
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == event


def test_append_then_read_gives_every_event_in_order(tmp_path: Path) -> None:
    write(tmp_path / "j", numbered(20))
    replay = read(tmp_path / "j")
    assert replay == (numbered(20), (tmp_path / "j").stat().st_size, [])


def test_time_is_filled_in_only_where_it_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "j", [{"event": "x", "time": 5.0}, {"event": "y"}])
    first, second = read(tmp_path / "j").events
    assert first["time"] == 5.0
    assert second["time"] > 1e9


@pytest.mark.parametrize("event", [{}, {"time": 1.0}, {"event": "x", "crc": "y"}])
def test_an_event_without_a_name_or_with_a_checksum_of_its_own_is_refused(
    tmp_path: Path, event: dict[str, Any]
) -> None:
    with Journal(tmp_path / "j") as journal, pytest.raises(ValueError, match="journal"):
        journal.append(event)


def test_a_journal_cut_anywhere_loses_only_what_was_cut(tmp_path: Path) -> None:
    path, events = tmp_path / "j", numbered(40)
    write(path, events)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(1, 401):
        path.write_bytes(whole[:-cut])
        write(path, [{"event": "after", "time": 1.0}])
        kept = sum(end <= len(whole) - cut for end in ends)
        replay = read(path)
        assert replay.events == [*events[:kept], {"event": "after", "time": 1.0}]
        assert replay.damaged == []
        assert replay.end == path.stat().st_size


def test_an_unfinished_line_is_neither_read_nor_damage(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, numbered(2))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(encode({"event": "half"})[:-1])
    assert read(path) == (numbered(2), size, [])


def test_a_flipped_bit_never_makes_an_event(tmp_path: Path) -> None:
    path, events = tmp_path / "j", numbered(12)
    write(path, events)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        replay = read(path)
        assert all(event in events for event in replay.events)
        assert len(replay.events) >= len(events) - 2
        assert replay.damaged or replay.end < len(whole)


def test_damaged_lines_are_numbered_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, numbered(6))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"x"', b'"y"')
    path.write_bytes(b"".join(lines))
    offset = len(b"".join(lines[:2]))
    assert read(path).damaged == [5]
    assert read(path, offset).damaged == [5]
    assert read(path, offset).events == [*numbered(6)[2:4], numbered(6)[5]]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_append_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path, real = tmp_path / "j", os.write

    def fail(file: int, data: bytes = b"") -> int:
        if data:
            real(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with Journal(path) as journal:
        journal.append({"event": "a", "time": 0.0})
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(OSError, match="No space"):
                journal.append({"event": "b", "time": 0.0})
        journal.append({"event": "c", "time": 0.0})
    replay = read(path)
    assert [event["event"] for event in replay.events if event["event"] != "b"] == ["a", "c"]
    assert replay.damaged == []


def test_a_line_that_another_handle_left_unfinished_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append({"event": "a", "time": 0.0})
        with path.open("ab") as other:
            other.write(b'{"event":"compac')
        journal.append({"event": "b", "time": 0.0})
    replay = read(path)
    assert ([event["event"] for event in replay.events], replay.damaged) == (["a", "b"], [])


def test_append_reaches_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
        journal.append({"event": "a"})
    assert synced == [(tmp_path / "j").stat().st_size]


def test_what_is_not_a_number_survives_in_readings_and_stays_text_elsewhere() -> None:
    reading = {
        "split": "valid",
        "values": {"elbo": math.nan, "kl": math.inf, "ppl": -math.inf, "seconds": np.float32(2)},
    }
    line = encode({"event": "report", "trial": np.int64(0), "epoch": 1, "readings": [reading]})
    start = {"event": "start", "trial": 0, "params": {"model.name": "NaN"}}
    tables = fold([start, decode(line[:-1]) or {}])
    row = tables.readings[0, 1, "valid"]
    assert math.isnan(row["elbo"])
    assert (row["kl"], row["ppl"], row["seconds"]) == (math.inf, -math.inf, 2.0)
    assert tables.trials[0].params == {"model.name": "NaN"}


def test_last_finds_the_last_good_event_of_a_kind(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, [{"event": "mark", "n": 1}, {"event": "x", "text": '{"event":"mark",'}, {"event": "mark", "n": 2}])
    assert (last(path, "mark") or {})["n"] == 2
    path.write_bytes(path.read_bytes().replace(b'"n":2', b'"n":3'))
    assert (last(path, "mark") or {})["n"] == 1
    assert last(path, "other") is None


def test_span_is_the_time_from_the_first_good_line_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"")
    assert span(path) is None
    path.write_bytes(b"garbage\n" + b"".join(encode({"event": "x", "time": t}) for t in (1.0, 2.0, 3.0)) + b"half")
    assert span(path) == (1.0, 3.0)


@pytest.mark.parametrize("seed", range(10))
def test_fold_is_idempotent_and_goes_on_from_where_it_was(events: Any, seed: int) -> None:
    sequence = [decode(encode(event)[:-1]) or {} for event in events(seed)]
    tables = fold(sequence)
    assert tables.trials
    assert repr(fold([*sequence, *sequence])) == repr(tables)
    for cut in range(0, len(sequence), 7):
        assert repr(fold(sequence[cut:], fold(sequence[:cut]))) == repr(tables)


def test_fold_leaves_what_it_starts_from_alone(events: Any) -> None:
    before = fold(events(1))
    shown = repr(before)
    fold(events(2), before)
    assert repr(before) == shown


def test_a_reading_reported_twice_takes_the_last_value_of_each_metric() -> None:
    def report(**given: float) -> dict[str, Any]:
        return {"event": "report", "trial": 0, "epoch": 1, "readings": [{"split": "test", "values": given}]}

    assert fold([report(elbo=-3.0, kl=1.0), report(elbo=-2.0), report(iw_nll=1.5)]).readings == {
        (0, 1, "test"): {"elbo": -2.0, "kl": 1.0, "iw_nll": 1.5}
    }


def test_a_trial_that_starts_again_runs_until_it_finishes_again() -> None:
    start = {"event": "start", "trial": 3, "params": {}, "seed": 1, "label": "VAE", "attempt": 1}
    finish = {"event": "finish", "trial": 3, "state": "FAIL", "reason": "killed", "seconds": 2.0, "best_epoch": 4}
    assert fold([start, finish]).trials[3] == Trial(3, "FAIL", "killed", "VAE", 1, 2.0, 4)
    assert fold([start, finish, start]).trials[3] == Trial(3, "RUNNING", None, "VAE", 1)


def test_unknown_events_are_ignored_and_trials_without_a_start_still_shown() -> None:
    tables = fold([{"event": "ping"}, {"event": "finish", "trial": 2, "state": "PRUNED"}])
    assert tables.unreadable == 0
    assert tables.trials == {2: Trial(2, "PRUNED")}


@settings(deadline=None)
@given(st.sampled_from(["study", "start", "report", "finish"]), fields)
def test_an_event_of_another_shape_is_counted_and_never_raises(kind: str, given_fields: dict[str, Any]) -> None:
    tables = fold([{"event": kind, **given_fields}])
    assert tables.unreadable == (kind != "study")


@pytest.mark.parametrize(
    "event",
    [
        {"event": "report", "trial": -1, "epoch": 1, "readings": []},
        {"event": "report", "trial": 0, "epoch": 2**40, "readings": []},
        {"event": "report", "trial": 0, "epoch": 1, "readings": [{"split": "dev", "values": {}}]},
        {"event": "report", "trial": 0, "epoch": 1, "readings": [{"split": "test", "values": {"elbo": "low"}}]},
        {"event": "finish", "trial": 0, "state": "DONE"},
        {"event": "start", "trial": 0.5, "params": {}},
        {"event": "start", "trial": 0, "params": [1]},
    ],
)
def test_an_event_with_an_impossible_field_changes_nothing(event: dict[str, Any]) -> None:
    tables = fold([event])
    assert (tables.unreadable, tables.trials, tables.readings) == (1, {}, {})


def test_a_new_journal_is_found_again_after_the_power_was_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is on disk in its folder, and its folder's in the folder above; once is enough."""
    synced: list[Path] = []
    monkeypatch.setattr("flowsearch.results.journal.sync_folder", synced.append)
    (tmp_path / "toy").mkdir()
    for _ in range(2):
        with Journal(tmp_path / "toy" / "journal.jsonl"):
            assert synced == [tmp_path / "toy", tmp_path]
