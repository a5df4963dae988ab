"""The view of a second terminal: what runs, how far it is, and what has collapsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowsearch.report import overview, running, status
from flowsearch.report.status import duration
from flowsearch.results import Journal, compact


def report(trial: int, epoch: int, **values: float) -> dict[str, Any]:
    readings = [{"split": "valid", "values": values}, {"split": "train", "values": {"elbo": 0.0}}]
    return {"event": "report", "time": 100.0 + epoch, "trial": trial, "epoch": epoch, "readings": readings}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events: list[dict[str, Any]] = [{"event": "study", "time": 40.0}]
    events += [
        {"event": "start", "time": 50.0, "trial": n, "params": {}, "seed": n, "label": f"VAE {n}"} for n in range(4)
    ]
    events += [report(0, 1, elbo=-9.0, kl=3.0, active_units=5.0), report(0, 2, elbo=-9.5, kl=2.0, active_units=4.0)]
    events += [report(1, 1, elbo=-8.0, kl=0.01, active_units=0.0), report(2, 1, elbo=float("nan"))]
    events += [{"event": "finish", "time": 130.0, "trial": 2, "state": "FAIL", "reason": "not finite"}]
    with Journal(tmp_path / "journal.jsonl") as journal:
        for event in events:
            journal.append(event)
    return tmp_path


@pytest.mark.parametrize("is_compacted", [False, True])
def test_running_trials_show_their_last_epoch_and_collapsed_ones_a_mark(folder: Path, is_compacted: bool) -> None:
    if is_compacted:
        compact(folder)
    table = running(status(folder), now=250.0)
    shown = [tuple(cell.text + cell.mark for cell in row) for row in table.rows]
    assert shown == [
        ("0", "VAE 0", "0", "2", "9.50", "2.0000", "4"),
        ("1", "VAE 1†", "1", "1", "8.00", "0.0100", "0"),
        ("3", "VAE 3", "3", "–", "–", "–", "–"),
    ]
    caption = " ".join(table.caption)
    assert "1 FAIL, 3 RUNNING" in caption
    assert "validation -ELBO 8.00 nats/doc, trial 1 (VAE 1), epoch 1" in caption
    assert "† collapsed" in caption
    assert is_compacted or "Elapsed 1 min; last event 2 min ago" in caption


def test_trials_that_confirm_are_counted_apart(folder: Path) -> None:
    assert "confirm" not in " ".join(running(status(folder), now=250.0).caption)
    with Journal(folder / "journal.jsonl") as journal:
        for trial in (4, 5):
            journal.append({"event": "start", "trial": trial, "params": {}, "label": "VAE", "phase": "confirm"})
        journal.append({"event": "finish", "trial": 4, "state": "COMPLETE"})
    assert "Phase confirm: 2 of the trials, 1 of them ended." in running(status(folder), now=250.0).caption


def test_the_overview_has_a_row_per_study(folder: Path) -> None:
    table = overview([status(folder), status(folder)], now=131.0)
    assert [cell.text for cell in table.rows[1]][1:5] == ["1 FAIL, 3 RUNNING", "1 min", "1 s ago", "8.00"]


def test_an_empty_or_missing_journal_is_shown_too(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    assert running(status(tmp_path), now=0.0).rows == ()
    assert "none yet" in running(status(tmp_path), now=0.0).caption[0]
    (tmp_path / "journal.jsonl").unlink()
    assert status(tmp_path).study.notes


def test_durations() -> None:
    assert [duration(seconds) for seconds in (-3, 0, 59.9, 60, 3599, 7260)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "59 min",
        "2 h 1 min",
    ]
