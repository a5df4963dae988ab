"""What a better bound costs in use of z: the rows that no other beats in both -ELBO and KL, or -ELBO and MI.

A VAE of text reaches a good ELBO most easily by ignoring z, so neither number ranks by itself. A row is on the front
when no other has a lower -ELBO and at least its KL (or MI), or the same -ELBO and more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowsearch.report import caption
from flowsearch.report.marks import legend, model, seeds
from flowsearch.report.measures import ELBO, KL, MI, Measure, cells
from flowsearch.report.rows import Configuration, configurations
from flowsearch.report.tables import Cell, Column, Table
from flowsearch.results import Study
from flowsearch.results.front import front as undominated

FRONT = "★"
USES = (KL, MI)
"""What says that z is used: more is better."""


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, use) pairs no other dominates: lower cost and higher use are better, equals share the front.

    >>> front([(330.0, 4.0), (329.0, 0.0), (331.0, 3.0), (329.0, 0.0)])
    [True, True, False, True]
    """
    return undominated([(-cost, use) for cost, use in points])


def on_front(shown: Sequence[Configuration], use: Measure) -> set[int]:
    """Positions of the rows on the front of -ELBO and `use`.

    A row without one of them, or whose -ELBO is no bound, is not on it and keeps no other off it.
    """
    having = [
        place
        for place, row in enumerate(shown)
        if row.is_bound and ELBO.metric in row.values and use.metric in row.values
    ]
    points = [(-shown[place].values[ELBO.metric].mean, shown[place].values[use.metric].mean) for place in having]
    return {place for place, is_on in zip(having, front(points), strict=True) if is_on}


def pareto_table(study: Study, *, split: str = "test") -> Table:
    """-ELBO, KL and MI of each row, `★` after the KL or MI of those on the front."""
    shown = [row for row in configurations(study, split) if row.complete]
    fronts = {use: on_front(shown, use) for use in USES}
    columns = [Column("model", "Model", align="left"), ELBO.column]
    columns += [column for use in USES for column in (use.column, _is_on(use))]
    writers = {measure: cells(measure, shown) for measure in (ELBO, *USES)}
    rows = []
    for place, row in enumerate(shown):
        filled = [model(row), writers[ELBO](row)]
        for use in USES:
            is_on = place in fronts[use]
            filled += [replace(writers[use](row), mark=FRONT * is_on), Cell(str(is_on), is_on)]
        rows.append((*filled, seeds(row)))
    return Table(
        study.name,
        (*columns, Column("seeds", "Seeds")),
        tuple(rows),
        (
            caption.data(study, split),
            f"{FRONT} on the Pareto front: no other row has a lower -ELBO and as much KL (or MI). Of the means: rows "
            "within each other's errors may trade places.",
            f"Bound: ELBO at KL weight 1; values on {split} at the epoch that validation chose.",
            *legend(shown, split),
            *caption.incomplete(study),
        ),
    )


def _is_on(use: Measure) -> Column:
    return Column(f"{use.column.key}_front", f"{use.column.name} front", shown=False)
