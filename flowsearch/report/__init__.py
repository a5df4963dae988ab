"""Tables made from results: pure functions of what was measured, and the formats they are printed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowsearch.errors import BadInput, StudyError, nearest
from flowsearch.report.data import corpus_table
from flowsearch.report.formats import FORMATS
from flowsearch.report.rows import METRICS
from flowsearch.report.status import Status, overview, running, status
from flowsearch.report.study import study_table
from flowsearch.report.tables import Cell, Column, Table
from flowsearch.results import Study, find, load, studies

__all__ = [
    "FORMATS",
    "Cell",
    "Column",
    "Status",
    "Table",
    "corpus_table",
    "folders",
    "overview",
    "report",
    "running",
    "status",
    "study_table",
]


def folders(results: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the studies `names`, or of all of them when none is named.

    Raises:
        StudyError: one is not there, or none is.
    """
    found = list(names) or studies(results)
    if not found:
        raise StudyError(f"{results}: no study here; `flowsearch run FILE` makes one, --results says where they are")
    return [find(results, name) for name in found]


def report(
    results: Path, names: Sequence[str], *, split: str = "test", by: Sequence[str] = (), everything: bool = False
) -> tuple[list[Table], list[str]]:
    """A table per study, and what is wrong with their files.

    Args:
        results: the folder of studies.
        names: of studies; none means all.
        split: `valid` or `test`.
        by: parameters to group by.
        everything: list what is not ranked, too.

    Raises:
        StudyError: an unknown study, or none at all.
        BadInput: a name in `by` that no study has as a parameter.
    """
    found = [load(folder, METRICS) for folder in folders(results, names)]
    _check_parameters(found, by)
    tables = [study_table(study, split=split, by=by, everything=everything) for study in found]
    return tables, [note for study in found for note in study.notes]


def _check_parameters(found: Sequence[Study], by: Sequence[str]) -> None:
    known = {name for study in found for trial in study.trials.values() for name in trial.params}
    for name in by:
        if name not in known:
            raise BadInput(f"--by: '{name}' is not a parameter of this study{nearest(name, known)}")
