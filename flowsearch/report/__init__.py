"""Tables made from results: pure functions of what was measured, and the formats they are printed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowsearch.errors import BadInput, StudyError, nearest
from flowsearch.report import goals
from flowsearch.report.data import corpus_table
from flowsearch.report.formats import FORMATS
from flowsearch.report.pareto import pareto_table
from flowsearch.report.plot import check, draw, info
from flowsearch.report.rows import METRICS
from flowsearch.report.status import Status, overview, running, status
from flowsearch.report.study import study_table
from flowsearch.report.tables import Cell, Column, Table
from flowsearch.report.times import METRICS as TIMES
from flowsearch.report.views import view
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
    "plot",
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
    results: Path,
    names: Sequence[str],
    *,
    by: Sequence[str] = (),
    compare: Sequence[tuple[str, str]] = (),
    **asked: Any,
) -> tuple[list[Table], list[str]]:
    """A table per study, and what is wrong with their files.

    Args:
        results: the folder of studies.
        names: of studies; none means all.
        by: parameters to group by.
        compare: pairs of rows of the one study named.
        asked: what else `flowsearch.report.views.view` takes.

    Raises:
        StudyError: an unknown study, or none at all.
        BadInput: a name in `by` that no study has as a parameter, options that do not go together, unknown rows.
        Damaged: what is compared cannot be read.
    """
    make = view(by=by, compare=compare, **asked)
    at = folders(results, names)
    if compare:
        _check_single("--compare", at)
    found = [load(folder, (*METRICS, *TIMES, *goals.names(folder))) for folder in at]
    _check_parameters(found, by)
    tables = [make(study, folder) for study, folder in zip(found, at, strict=True)]
    return tables, [note for study in found for note in study.notes]


def plot(results: Path, names: Sequence[str], path: Path, *, split: str = "test") -> None:
    """Draw the Pareto fronts of one study.

    Args:
        results: the folder of studies.
        names: of the study.
        path: ends with `.svg` or `.png`.
        split: `valid` or `test`.

    Raises:
        StudyError: no such study.
        BadInput: not one study, another suffix, or matplotlib is missing.
    """
    check(path)
    at = folders(results, names)
    _check_single("--plot", at)
    draw(info(pareto_table(load(at[0], METRICS), split=split)), path)


def _check_single(option: str, at: Sequence[Path]) -> None:
    if len(at) != 1:
        raise BadInput(f"{option}: of one study; name one of {', '.join(folder.name for folder in at)}")


def _check_parameters(found: Sequence[Study], by: Sequence[str]) -> None:
    known = {name for study in found for trial in study.trials.values() for name in trial.params}
    for name in by:
        if name not in known:
            raise BadInput(f"--by: '{name}' is not a parameter of this study{nearest(name, known)}")
