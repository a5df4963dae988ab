"""Two rows of a study compared as closely as their data allow: `flowsearch report STUDY --compare A B`.

Two questions that a difference of means mixes up are kept apart. Do these trained models differ on these documents?
Differences are paired per document, which takes the documents' own variance out. Would models trained again differ the
same way? Only seeds can tell: Wilcoxon's signed-rank test ("Individual comparisons by ranking methods", 1945) over the
seeds that both rows have, exact, with the correction of Holm ("A simple sequentially rejective multiple test
procedure", 1979) over all comparisons that were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowsearch.errors import BadInput, Damaged, nearest
from flowsearch.report import caption
from flowsearch.report.marks import legend, model
from flowsearch.report.rows import Configuration, Estimate, configurations, estimate
from flowsearch.report.tables import Cell, Column, Table, decimals, number, text
from flowsearch.results import Study, Trial
from flowsearch.results.documents import DOCUMENTS, read_documents

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Row a minus row b, in nats of test ELBO: above 0, a is better.

    Args:
        a: the first row.
        b: the second row.
        difference: mean over documents of the difference of the rows' means over seeds, its error over documents.
        share: of the documents where a is better, ties half.
        by_seed: difference of the mean ELBO of each seed that both rows have.
        p: of the exact signed-rank test over `by_seed`; None without a seed.
    """

    a: Configuration
    b: Configuration
    difference: Estimate
    share: float
    by_seed: Mapping[int, float]
    p: float | None


def compare(study: Study, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """The comparisons asked for.

    Args:
        study: as `load` gives it.
        folder: of the study, whose `trials/<n>/documents.parquet` are read.
        pairs: names of rows.

    Raises:
        BadInput: no complete row has such a name, or both names are one row's.
        Damaged: a trial's values per document are missing, unreadable, or of other documents.
    """
    rows = [row for row in configurations(study, "test") if row.complete]
    named = {name: row for row in reversed(rows) for name in (row.label, row.name)}
    for name in (name for pair in pairs for name in pair):
        if name not in named:
            raise BadInput(f"--compare: no complete row '{name}' in {study.name}{nearest(name, named)}")
    chosen = [(named[a], named[b]) for a, b in pairs]
    for (a, _), pair in zip(pairs, chosen, strict=True):
        if pair[0] is pair[1]:
            raise BadInput(f"--compare: '{a}' with itself; expected two rows")
    trials = {trial.number: trial for pair in chosen for row in pair for trial in row.measured}
    elbos = _elbos(folder, trials)
    return [_compared(a, b, elbos) for a, b in chosen]


def wilcoxon(differences: Sequence[float]) -> float | None:
    """The two-sided p of Wilcoxon's signed-rank test, exact; zeros are left out, as he did; None without any value.

    >>> wilcoxon([0.3, 0.1, 0.2]), wilcoxon([0.0]), wilcoxon([])
    (0.25, 1.0, None)
    """
    from scipy import stats

    moved = [value for value in differences if value]
    if not moved:
        return 1.0 if differences else None
    return float(stats.wilcoxon(moved, method="exact").pvalue)


def least_p(seeds: int) -> float:
    """The least p that so many pairs can give: all signs equal, 2 of the 2^n ways.

    >>> least_p(3), least_p(6)
    (0.25, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - seeds))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p values corrected so that the chance of any false alarm among them stays what each would have alone.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    order = sorted((place for place, p in enumerate(ps) if p is not None), key=lambda place: ps[place] or 0.0)
    result: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (ps[place] or 0.0)))
        result[place] = largest
    return result


def compare_table(study: Study, folder: Path, pairs: Sequence[tuple[str, str]]) -> Table:
    """A row per comparison; see `compare` for what is raised."""
    found = compare(study, folder, pairs)
    corrected = holm([one.p for one in found])
    over_seeds = [estimate(list(one.by_seed.values())) for one in found]
    places = decimals([one.difference.error for one in found], least=2, most=4)
    of_seeds = decimals([one.error for one in over_seeds if one], least=2, most=4)
    rows = [
        (
            model(one.a),
            model(one.b),
            number(one.difference.mean, places, one.difference.error),
            number(100 * one.share, 1),
            number(seeds.mean if seeds else None, of_seeds, seeds.error if seeds else None),
            _listed(one.by_seed, of_seeds),
            Cell(str(len(one.by_seed)), len(one.by_seed)),
            number(one.p, 4),
            number(p, 4),
            number(least_p(len(one.by_seed)) if one.by_seed else None, 4),
        )
        for one, seeds, p in zip(found, over_seeds, corrected, strict=True)
    ]
    shown = [row for one in found for row in (one.a, one.b)]
    return Table(study.name, COLUMNS, tuple(rows), _caption(study, found, shown))


COLUMNS = (
    Column("a", "A", align="left"),
    Column("b", "B", align="left"),
    Column("difference", "ELBO A - B", "nats/doc, ± over documents", has_error=True),
    Column("share", "A better", "% of documents"),
    Column("difference_seeds", "ELBO A - B", "nats/doc, ± over seeds", has_error=True),
    Column("by_seed", "each seed", "nats/doc", align="left"),
    Column("seeds", "Seeds", "in both"),
    Column("p", "p", "Wilcoxon"),
    Column("p_holm", "p", "Holm"),
    Column("p_least", "least p", "possible"),
)


def _elbos(folder: Path, trials: Mapping[int, Trial]) -> dict[int, Floats]:
    """Of each trial, the test ELBO of each document, in the documents' order."""
    found: dict[int, Floats] = {}
    text_of: dict[int, NDArray[np.int32]] = {}
    for trial in sorted(trials):
        at = folder / "trials" / str(trial)
        if not (at / DOCUMENTS).exists():
            raise Damaged(f"{at / DOCUMENTS}: missing; --compare needs the test values per document of every seed")
        columns = read_documents(at)
        if "elbo" not in columns or "tokens" not in columns:
            raise Damaged(f"{at / DOCUMENTS}: columns {', '.join(columns)}; expected elbo and tokens")
        order = np.argsort(columns["document"], kind="stable")
        found[trial] = columns["elbo"][order].astype(np.float64)
        text_of[trial] = np.stack([columns["document"], columns["tokens"]])[:, order]
        if not np.array_equal(text_of[trial], text_of[min(text_of)]):
            raise Damaged(f"{at / DOCUMENTS}: not the documents of trial {min(text_of)}")
    return found


def _compared(a: Configuration, b: Configuration, elbos: Mapping[int, Floats]) -> Comparison:
    means = [np.mean([elbos[trial.number] for trial in row.measured], axis=0) for row in (a, b)]
    differences = means[0] - means[1]
    mine, theirs = (_of_seeds(row, elbos) for row in (a, b))
    by_seed = {seed: mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())}
    return Comparison(
        a,
        b,
        estimate(differences.tolist()) or Estimate(math.nan, None, 0),
        float(np.mean((differences > 0) + 0.5 * (differences == 0))),
        by_seed,
        wilcoxon(list(by_seed.values())),
    )


def _of_seeds(row: Configuration, elbos: Mapping[int, Floats]) -> dict[int, float]:
    return {trial.seed: float(elbos[trial.number].mean()) for trial in row.measured if trial.seed is not None}


def _listed(by_seed: Mapping[int, float], places: int) -> Cell:
    listed = ", ".join(f"{value:+.{places}f}" for value in by_seed.values())
    return text(listed or None)


def _caption(study: Study, found: Sequence[Comparison], shown: Sequence[Configuration]) -> tuple[str, ...]:
    several = f" over the {len(found)} comparisons asked for" if len(found) > 1 else ""
    return (
        caption.data(study, "test"),
        "Bound: ELBO at KL weight 1 of the test documents, at the epoch that validation chose. Above 0, A is better.",
        "± over documents: paired per document, rows averaged over their seeds first; it speaks of these trained "
        "models. ± over seeds: of the differences seed by seed; it speaks of training again.",
        "p: Wilcoxon's signed-rank test over the seeds that both rows have, exact and two-sided, then with Holm's "
        f"correction{several}. Least p possible: 2/2^n for n seeds; below 6 seeds no p reaches 0.05.",
        *legend(shown, "test"),
        *caption.incomplete(study),
    )
