"""Mend a study: name what is damaged, set it aside, and make anew what the journal can make.

    found = repair(Path("results/iaf"))
    found.mended, found.lost        # a line each

Nothing is deleted but half-written temporary files, and the journal is only ever appended to.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from flowsearch.errors import Damaged
from flowsearch.results.documents import DOCUMENTS, read_documents
from flowsearch.results.journal import TORN, last, read
from flowsearch.results.lock import locked
from flowsearch.results.store import JOURNAL, METRICS, TRIALS, Study, compact, load

LAST, BEST, CONFIG = "last.pt", "best.safetensors", "config.json"


class Repair(NamedTuple):
    """What was found in a study, a line each.

    Args:
        mended: damage that is no more, and what was done about it.
        lost: damage that nothing left can make good.
    """

    mended: list[str]
    lost: list[str]


def repair(folder: Path) -> Repair:
    """Mend the study in `folder`.

    1. A Parquet table that the journal does not vouch for is set aside and made again from the journal.
    2. A line of the journal that a crash cut short was never acknowledged: it is counted, and nothing is lost. A
       finished line that fails its checksum is lost, unless a good table already holds what it said.
    3. A damaged checkpoint or model of an unfinished trial is set aside, and the trial starts from its beginning when
       the study is resumed. The damaged model or document table of a finished trial is lost.
    4. Weights have no checksum: a model is damaged if its parts do not fill its file.

    Args:
        folder: of a study, as `find` gives it.

    Raises:
        StudyError: the study is running.
        OSError: the disk refuses.
    """
    with locked(folder):
        found = Repair([], [])
        remove_partial(folder, found)
        if (folder / JOURNAL).exists():
            mend_tables(folder, found)
        else:
            found.lost.append(f"{folder / JOURNAL}: missing; the tables are all there is")
        study = load(folder)
        if not (folder / JOURNAL).exists():
            found.lost.extend(study.notes[1:])
        for trial in study.trials.values():
            mend_trial(folder / "trials" / str(trial.number), found, is_running=trial.state == "RUNNING")
        return found


def remove_partial(folder: Path, found: Repair) -> None:
    """Take away what was being written when something stopped it."""
    for path in sorted([*folder.glob("_*.tmp"), *folder.glob("trials/*/_*.tmp")]):
        path.unlink()
        found.mended.append(f"{path}: half-written; removed")


def mend_tables(folder: Path, found: Repair) -> None:
    """The journal's lines and the two tables of the study."""
    path = folder / JOURNAL
    mark = last(path, "compacted")
    before = [name for name in (TRIALS, METRICS) if (folder / name).exists()]
    for name in before:
        known = {} if mark is None else {mark["files"][name], mark["replaced"][name]}
        if zlib.crc32((folder / name).read_bytes()) not in known:
            found.mended.append(f"{set_aside(folder / name)}; rebuilt from the journal")
    torn = sum(line.endswith(TORN) for line in path.read_bytes().split(b"\n")[:-1])
    torn += not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    if torn:
        found.mended.append(f"{path}: {torn} line(s) cut short by a crash, never acknowledged; nothing is lost")
    study = load(folder)
    note_damaged_lines(path, study, found)
    compact(folder)


def note_damaged_lines(path: Path, study: Study, found: Repair) -> None:
    """Which damaged lines of the journal are made good by a table, and which are lost."""
    for number in read(path).damaged:
        if number in study.damaged:
            found.lost.append(f"{path}: line {number} is damaged, and no table holds what it said")
        else:
            found.mended.append(f"{path}: line {number} is damaged; the tables hold what it said")


def mend_trial(directory: Path, found: Repair, *, is_running: bool) -> None:
    """The files of one trial."""
    damaged = [
        name for name, is_good in CHECKS.items() if (directory / name).exists() and not is_good(directory / name)
    ]
    if damaged and is_running:
        with_it = [LAST] if LAST not in damaged and (directory / LAST).exists() else []
        said = [set_aside(directory / name) for name in damaged] + [set_aside(directory / name) for name in with_it]
        found.mended.extend(f"{line}; the trial starts from its beginning" for line in said)
    elif damaged:
        found.lost.extend(f"{set_aside(directory / name)}; nothing can make it again" for name in damaged)


def set_aside(path: Path) -> str:
    """Rename a file to the first free `name.damaged-N`, and say so."""
    aside = next(new for number in count(1) if not (new := path.with_name(f"{path.name}.damaged-{number}")).exists())
    path.replace(aside)
    return f"{path}: damaged, now {aside.name}"


def has_documents(path: Path) -> bool:
    """Whether a table of documents fits its checksums."""
    try:
        read_documents(path.parent)
    except Damaged:
        return False
    return True


def has_weights(path: Path) -> bool:
    """Whether the parts of a safetensors file fill it, as its header says: eight bytes of length, JSON, tensors."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False
    return 8 + length + max(ends, default=0) == len(data)


def has_state(path: Path) -> bool:
    """Whether a checkpoint, a zip file, fits the checksums of its records."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def has_config(path: Path) -> bool:
    """Whether a configuration is JSON."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


CHECKS: dict[str, Callable[[Path], bool]] = {
    LAST: has_state,
    BEST: has_weights,
    CONFIG: has_config,
    DOCUMENTS: has_documents,
}
"""What must hold of each file of a trial."""
