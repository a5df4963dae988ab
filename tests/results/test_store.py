"""Laws of the tables: Parquet says what the journal says, or it is not believed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowsearch.errors import StudyError
from flowsearch.results import UNITS, Journal, Metrics, Study, compact, find, load, studies
from flowsearch.results.journal import Trial
from flowsearch.results.store import COLUMNS, JOURNAL, METRICS, TRIALS, typed, write_atomically


def contents(study: Study) -> Any:
    """All that a study says, in a form that compares, NaN included."""
    metrics = study.metrics
    keys = np.stack([metrics.trial, metrics.epoch, metrics.split]).tolist()
    values = {name: np.where(metrics.known[name], metrics.values[name], -1e9) for name in metrics.values}
    return repr((study.facts, study.trials, keys, {name: column.tolist() for name, column in sorted(values.items())}))


@pytest.mark.parametrize("seed", range(12))
def test_parquet_says_what_the_journal_says(study: Any, events: Any, seed: int) -> None:
    folder = study(events(seed))
    truth = load(folder)
    compact(folder)
    again = load(folder)
    assert contents(again) == contents(truth)
    assert again.notes == truth.notes == ()
    assert again.offset > truth.offset


@pytest.mark.parametrize("seed", range(12))
def test_what_comes_after_the_tables_is_read_from_the_journal(study: Any, events: Any, seed: int) -> None:
    sequence = events(seed)
    cut = random.Random(seed).randrange(len(sequence))
    truth = load(study(sequence, "whole"))
    folder = study(sequence[:cut], "parts")
    compact(folder)
    study(sequence[max(cut - 3, 0) :], "parts")
    assert contents(load(folder)) == contents(truth)
    compact(folder)
    assert contents(load(folder)) == contents(truth)


def test_a_second_compaction_changes_nothing(study: Any, events: Any) -> None:
    folder = study(events(0))
    compact(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    compact(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert set(before) == {JOURNAL, TRIALS, METRICS}


def test_columns_types_units_and_metadata_are_as_the_contract_says(study: Any, events: Any) -> None:
    folder = study(events(3))
    offset = (folder / JOURNAL).stat().st_size
    compact(folder)
    trials, metrics = pq.read_schema(folder / TRIALS), pq.read_schema(folder / METRICS)
    assert tuple(trials.names[: len(COLUMNS)]) == COLUMNS
    assert metrics.names[:3] == ["trial", "epoch", "split"]
    assert metrics.field("elbo").metadata[b"unit"].decode() == UNITS["elbo"]
    assert trials.metadata[b"journal_offset"] == metrics.metadata[b"journal_offset"] == str(offset).encode()
    assert trials.metadata[b"schema"] == b"1"
    assert str(trials.field("model.posterior").type) == "string"
    assert str(trials.field("objective.beta").type) == "double"
    assert "seed" in COLUMNS
    assert trials.names.count("seed") == 1


def test_a_metric_that_was_not_a_number_differs_from_one_that_was_not_measured(study: Any) -> None:
    reading = {"split": "valid", "values": {"elbo": float("nan"), "kl": 1.0}}
    late = {"split": "valid", "values": {"elbo": -2.0}}
    folder = study(
        [
            {"event": "report", "trial": 0, "epoch": 1, "readings": [reading]},
            {"event": "report", "trial": 0, "epoch": 2, "readings": [late]},
        ]
    )
    compact(folder)
    table = pq.read_table(folder / METRICS)
    assert table["kl"].to_pylist() == [1.0, None]
    assert table["elbo"].null_count == 0
    assert table["elbo"].to_pylist()[0] != table["elbo"].to_pylist()[0]


@pytest.mark.parametrize("name", [TRIALS, METRICS])
def test_no_flipped_bit_is_ever_shown(study: Any, events: Any, name: str) -> None:
    folder, chance = study(events(5)), random.Random(0)
    truth = contents(load(folder))
    compact(folder)
    whole = (folder / name).read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(data)
        found = load(folder)
        assert contents(found) == truth
        assert len(found.notes) == 1
        assert name in found.notes[0]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_file_is_read_around_and_mended_by_the_next_compaction(study: Any, events: Any, share: float) -> None:
    folder = study(events(5))
    truth = contents(load(folder))
    compact(folder)
    data = (folder / METRICS).read_bytes()
    (folder / METRICS).write_bytes(data[: int(share * len(data))])
    assert contents(load(folder)) == truth
    assert load(folder).notes
    compact(folder)
    assert load(folder).notes == ()


def test_a_missing_table_is_no_damage(study: Any, events: Any) -> None:
    folder = study(events(5))
    truth = contents(load(folder))
    compact(folder)
    (folder / METRICS).unlink()
    assert contents(load(folder)) == truth
    assert load(folder).notes == ()
    compact(folder)
    assert (folder / METRICS).exists()


def test_without_a_journal_the_tables_are_shown_with_a_note(study: Any, events: Any) -> None:
    folder = study(events(5))
    truth = contents(load(folder))
    compact(folder)
    (folder / JOURNAL).unlink()
    assert contents(load(folder)) == truth
    assert "journal.jsonl: missing" in load(folder).notes[0]
    with pytest.raises(StudyError, match=r"no journal\.jsonl"):
        compact(folder)


def test_without_a_journal_a_damaged_page_is_an_empty_study_with_two_notes(study: Any, events: Any) -> None:
    folder = study(events(5))
    compact(folder)
    (folder / JOURNAL).unlink()
    data = bytearray((folder / METRICS).read_bytes())
    data[200:220] = bytes(20)
    (folder / METRICS).write_bytes(data)
    found = load(folder)
    assert not found.trials
    assert len(found.notes) == 2


def test_damaged_lines_are_still_reported_after_a_compaction(study: Any, events: Any) -> None:
    folder = study(events(5))
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"trial"', b'"trail"')
    (folder / JOURNAL).write_bytes(b"".join(lines))
    before = load(folder)
    assert "1 damaged line(s) skipped: 3" in before.notes[0]
    compact(folder)
    assert load(folder).notes == before.notes
    assert contents(load(folder)) == contents(before)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_whichever_system_call_fails_nothing_partial_is_left(
    study: Any, events: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = study(events(5))
    compact(folder)
    study(events(6)[:9])
    truth = contents(load(folder))
    for nth in range(8):
        calls = iter(range(100))
        owner: Any = os if call == "fsync" else Path
        real = getattr(owner, call)

        def sometimes(*given: Any, calls: Any = calls, nth: int = nth, real: Any = real) -> Any:
            if next(calls) == nth:
                raise OSError(28, "No space left on device")
            return real(*given)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, sometimes)
            try:
                compact(folder)
            except OSError:
                assert next(calls) > nth
        assert not [path for path in folder.iterdir() if path.name.startswith("_")]
        assert contents(load(folder)) == truth
    assert load(folder).notes == ()


def test_a_crash_between_mark_and_rename_is_no_damage(study: Any, events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(events(5))
    compact(folder)
    study(events(6)[:9])
    truth = contents(load(folder))
    real = Path.replace

    def one_then_stop(path: Path, target: Path) -> Path:
        if target.name == METRICS:
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", one_then_stop)
        with pytest.raises(KeyboardInterrupt):
            compact(folder)
    assert contents(load(folder)) == truth
    assert load(folder).notes == ()


def test_an_atomic_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 0.5], [1.0, 0.5]),
        ([True, False], [True, False]),
        ([True, 1], ["true", "1"]),
        ([1, "a"], ["1", "a"]),
        ([1.0, 0.5, "a"], ["1", "0.5", "a"]),
        ([2**63, 1], [str(2**63), "1"]),
        (["x", "é"], ["x", "é"]),
    ],
)
def test_a_parameter_has_one_type(given: list[Any], expected: list[Any]) -> None:
    trials = typed({number: Trial(number, params={"p": value}) for number, value in enumerate(given)})
    found = [trial.params["p"] for trial in trials.values()]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_the_best_epoch_is_the_earliest_of_the_highest_finite_validation_elbos() -> None:
    rows = {1: -5.0, 2: float("nan"), 3: -4.0, 4: float("inf"), 5: -4.0, 6: float("-inf")}
    readings = {(7, epoch, "valid"): {"elbo": elbo} for epoch, elbo in rows.items()}
    metrics = Metrics.of({**readings, (7, 2, "test"): {"elbo": 0.0}, (8, 1, "valid"): {"elbo": float("nan")}})
    assert metrics.best_epochs() == {7: 3}


def test_a_finish_that_names_its_best_epoch_is_believed(study: Any) -> None:
    valid = {"split": "valid", "values": {"elbo": -1.0}}
    report = {"event": "report", "trial": 0, "epoch": 1, "readings": [valid]}
    finish = {"event": "finish", "trial": 0, "state": "COMPLETE"}
    assert load(study([report, finish], "computed")).best_epochs == {0: 1}
    assert load(study([report, finish | {"best_epoch": 9}], "named")).best_epochs == {0: 9}


def test_only_the_columns_asked_for_are_read(study: Any, events: Any) -> None:
    folder = study(events(5))
    for _ in range(2):
        assert set(load(folder, ["kl"]).metrics.values) == {"elbo", "kl"}
        compact(folder)


def test_a_study_without_trials_has_tables(study: Any) -> None:
    folder = study([{"event": "study", "corpus": "synthetic"}])
    compact(folder)
    found = load(folder)
    assert (found.trials, len(found.metrics), found.facts, found.notes) == ({}, 0, {"corpus": "synthetic"}, ())


def test_an_empty_journal_is_an_empty_study(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL):
        pass
    assert load(tmp_path).trials == {}


@pytest.mark.parametrize("name", ["demp", "..", "../demo", "demo/", "", "demo\n", "a" * 65])
def test_only_names_of_studies_are_found(study: Any, name: str) -> None:
    folder = study([{"event": "study"}])
    (folder.parent / "notes").mkdir()
    assert studies(folder.parent) == ["demo"]
    assert find(folder.parent, "demo") == folder
    with pytest.raises(StudyError, match="no study"):
        find(folder.parent, name)


def test_reading_needs_neither_torch_nor_ray_nor_pandas(study: Any, events: Any) -> None:
    folder = study(events(5))
    compact(folder)
    code = (
        "import sys; from pathlib import Path; from flowsearch.results import load; load(Path(sys.argv[1])); "
        "print(*({'torch', 'ray', 'pandas', 'optuna', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
