"""Which table a user asked for, and which of the other options go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from flowsearch.errors import BadInput
from flowsearch.report.compare import compare_table
from flowsearch.report.pareto import pareto_table
from flowsearch.report.reference import reference, reference_table
from flowsearch.report.study import study_table
from flowsearch.report.tables import Table
from flowsearch.report.times import times_table
from flowsearch.results import Study

View = Callable[[Study, Path], Table]
"""A study and its folder to a table."""

ACCEPTS: Mapping[str, frozenset[str]] = {
    "--table study": frozenset({"--by", "--all", "--split"}),
    "--table times": frozenset({"--baseline"}),
    "--table pareto": frozenset({"--split"}),
    "--reference": frozenset({"--split"}),
    "--compare": frozenset(),
}
"""What can be asked for, and the options that change it."""


def view(
    *,
    split: str = "test",
    by: Sequence[str] = (),
    everything: bool = False,
    table: str = "study",
    baseline: str | None = None,
    published: str | None = None,
    compare: Sequence[tuple[str, str]] = (),
) -> View:
    """The table that the options ask for.

    Args:
        split: `valid` or `test`.
        by: parameters to group by.
        everything: list what is not ranked, too.
        table: `study`, `times` or `pareto`.
        baseline: the row that times are relative to.
        published: the reference to stand beside.
        compare: pairs of rows.

    Raises:
        BadInput: options that do not go together, or an unknown reference.
    """
    is_asked = {"--compare": bool(compare), "--reference": published is not None, f"--table {table}": table != "study"}
    asked = [name for name, is_given in is_asked.items() if is_given] or [f"--table {table}"]
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)}: each is a table of its own; expected one of them")
    options = {"--by": bool(by), "--all": everything, "--split": split != "test", "--baseline": baseline is not None}
    for name, is_given in options.items():
        if is_given and name not in ACCEPTS[asked[0]]:
            raise BadInput(f"{name}: has no meaning for {asked[0]}")
    if compare:
        return lambda study, folder: compare_table(study, folder, compare)
    if published is not None:
        beside = reference(published)
        return lambda study, _: reference_table(study, beside, split=split)
    tables: Mapping[str, Callable[[Study], Table]] = {
        "study": partial(study_table, split=split, by=by, everything=everything),
        "times": partial(times_table, baseline=baseline),
        "pareto": partial(pareto_table, split=split),
    }
    return lambda study, _: tables[table](study)
