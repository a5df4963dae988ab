"""Laws of repair: what can be made again is, what cannot is named, and nothing is thrown away."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowsearch.errors import StudyError
from flowsearch.results import compact, load, repair
from flowsearch.results.documents import DOCUMENTS, write_documents
from flowsearch.results.lock import locked
from flowsearch.results.store import JOURNAL, METRICS, TRIALS

FILES = ("best.safetensors", "config.json", "documents.parquet", "last.pt")


def numbers(folder: Path) -> Any:
    study = load(folder)
    return repr((study.facts, study.trials, study.metrics.trial.tolist(), sorted(study.metrics.values)))


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def trial(directory: Path) -> None:
    """The files that a trial leaves."""
    directory.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (directory / "best.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (directory / "config.json").write_text("{}")
    write_documents(directory, {"tokens": np.array([3, 4]), "elbo": np.array([-1.0, -2.0])})
    with zipfile.ZipFile(directory / "last.pt", "w") as file:
        file.writestr("data", bytes(100))


@pytest.fixture
def whole(study: Any) -> Path:
    """A study with a finished trial and a running one."""
    valid = [{"split": "valid", "values": {"elbo": -1.0}}]
    start = {"event": "start", "params": {"k": 1}, "label": "VAE", "seed": 0}
    folder: Path = study(
        [
            {"event": "study", "corpus": "synthetic"},
            start | {"trial": 0},
            {"event": "report", "trial": 0, "epoch": 1, "readings": valid},
            {"event": "finish", "trial": 0, "state": "COMPLETE"},
            start | {"trial": 1},
            {"event": "report", "trial": 1, "epoch": 1, "readings": valid},
        ]
    )
    compact(folder)
    for number in (0, 1):
        trial(folder / "trials" / str(number))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_study_is_left_alone(whole: Path) -> None:
    before = contents(whole)
    assert repair(whole) == ([], [])
    after = contents(whole)
    after.pop(".lock")
    assert after == before


@pytest.mark.parametrize("name", [TRIALS, METRICS])
@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_table_is_set_aside_and_made_again(whole: Path, name: str, seed: int) -> None:
    truth, good = numbers(whole), (whole / name).read_bytes()
    flip(whole / name, random.Random(seed))
    bad = (whole / name).read_bytes()
    mended, lost = repair(whole)
    assert mended == [f"{whole / name}: damaged, now {name}.damaged-1; rebuilt from the journal"]
    assert lost == []
    assert (whole / f"{name}.damaged-1").read_bytes() == bad
    assert numbers(whole) == truth
    assert load(whole).notes == ()
    assert repair(whole) == ([], [])
    flip(whole / name, random.Random(seed))
    assert f"{name}.damaged-2" in repair(whole).mended[0]
    assert len((whole / name).read_bytes()) == pytest.approx(len(good), abs=64)


def test_both_tables_cut_to_nothing_are_made_again(whole: Path) -> None:
    truth = numbers(whole)
    for name in (TRIALS, METRICS):
        (whole / name).write_bytes(b"")
    mended, lost = repair(whole)
    assert (len(mended), lost) == (2, [])
    assert numbers(whole) == truth


def test_a_torn_line_loses_nothing_and_the_journal_is_only_appended_to(whole: Path) -> None:
    with (whole / JOURNAL).open("ab") as file:
        file.write(b'{"event":"rep')
    before, truth = (whole / JOURNAL).read_bytes(), numbers(whole)
    (whole / TRIALS).write_bytes(b"")
    mended, lost = repair(whole)
    assert any("1 line(s) cut short by a crash, never acknowledged; nothing is lost" in line for line in mended)
    assert lost == []
    assert (whole / JOURNAL).read_bytes().startswith(before)
    assert numbers(whole) == truth


def test_a_damaged_line_is_lost_unless_a_table_holds_it(whole: Path) -> None:
    truth = numbers(whole)
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"trial"', b'"trail"')
    (whole / JOURNAL).write_bytes(b"".join(lines))
    mended, lost = repair(whole)
    assert mended == [f"{whole / JOURNAL}: line 3 is damaged; the tables hold what it said"]
    assert lost == []
    assert numbers(whole) == truth
    (whole / METRICS).write_bytes(b"")
    mended, lost = repair(whole)
    assert lost == [f"{whole / JOURNAL}: line 3 is damaged, and no table holds what it said"]
    assert len(load(whole).trials) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_trial_is_lost_if_it_has_ended_and_else_the_trial_starts_anew(
    whole: Path, name: str
) -> None:
    for number in "01":
        (whole / "trials" / number / name).write_bytes(b"\x00")
    mended, lost = repair(whole)
    assert lost == [f"{whole / 'trials' / '0' / name}: damaged, now {name}.damaged-1; nothing can make it again"]
    assert mended[0].startswith(f"{whole / 'trials' / '1' / name}: damaged, now {name}.damaged-1; the trial starts")
    assert not (whole / "trials" / "1" / "last.pt").exists()
    assert repair(whole) == ([], [])


@pytest.mark.parametrize("name", [DOCUMENTS, "last.pt"])
def test_a_flipped_bit_in_a_file_with_checksums_never_passes_for_something_else(whole: Path, name: str) -> None:
    """A bit that no checksum covers may be flipped unseen; what is read is then what was written."""
    path, chance = whole / "trials" / "1" / name, random.Random(0)
    good = path.read_bytes()
    found = 0
    for _ in range(50):
        path.write_bytes(good)
        flip(path, chance)
        found += bool(repair(whole).mended)
        for rest in (whole / "trials" / "1").glob("*.damaged-*"):
            rest.unlink()
        trial_files = whole / "trials" / "1" / "last.pt"
        if not trial_files.exists():
            with zipfile.ZipFile(trial_files, "w") as file:
                file.writestr("data", bytes(100))
    assert found >= 25


def test_what_was_half_written_is_removed(whole: Path) -> None:
    for path in (whole / "_trials.parquet.tmp", whole / "trials" / "1" / "_last.pt.tmp"):
        path.write_bytes(b"half")
    mended, lost = repair(whole)
    assert (len(mended), lost) == (2, [])
    assert not list(whole.rglob("_*.tmp"))


def test_without_a_journal_it_is_said_and_the_tables_stay(whole: Path) -> None:
    (whole / JOURNAL).unlink()
    mended, lost = repair(whole)
    assert (mended, lost) == ([], [f"{whole / JOURNAL}: missing; the tables are all there is"])
    assert len(load(whole).trials) == 2


def test_a_running_study_is_not_repaired(whole: Path) -> None:
    with locked(whole), pytest.raises(StudyError, match="already running in process"):
        repair(whole)
