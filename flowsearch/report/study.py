"""The table of a study in the form of the thesis' Table 4.3: model, -ELBO, KL, PPL, and what says if z is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flowsearch.report.caption import caption
from flowsearch.report.labels import exact
from flowsearch.report.marks import model, seeds, share
from flowsearch.report.measures import ELBO, MEASURES, Measure, cells, used
from flowsearch.report.rows import Configuration, Group, clear_best, configurations, groups
from flowsearch.report.tables import Cell, Column, Table, number, text
from flowsearch.results import Study


@dataclass(frozen=True)
class Line:
    """What one row of the table shows.

    Args:
        configuration: whose means it shows; None for a group in which nothing is complete.
        by: the group's values, in words.
        counts: complete and all members of the group; None where rows are not groups.
    """

    configuration: Configuration | None
    by: tuple[str, ...] = ()
    counts: tuple[int, int] | None = None


def study_table(study: Study, *, split: str = "test", by: Sequence[str] = (), everything: bool = False) -> Table:
    """The table of a study.

    Args:
        study: as `load` gives it.
        split: `valid` or `test`.
        by: parameters to group by, each group showing its best configuration; empty for a row per configuration.
        everything: with a row per configuration, those without a COMPLETE trial below a rule.
    """
    found = configurations(study, split)
    ranked = [configuration for configuration in found if configuration.complete]
    rest = [configuration for configuration in found if not configuration.complete]
    if by:
        lines = [_group_line(group) for group in groups(found, by)]
    else:
        lines = [Line(configuration) for configuration in [*ranked, *(rest if everything else [])]]
    shown = [line.configuration for line in lines if line.configuration and line.configuration.complete]
    best = clear_best(shown)
    columns = [*_leading(by), *_means(shown, best), *_trailing(by, everything)]
    table = Table(
        study.name,
        tuple(column for column, _ in columns),
        tuple(tuple(cell(line) for _, cell in columns) for line in lines),
        caption(study, split, shown, has_best=best is not None),
        frozenset({len(ranked)} if everything and rest and not by else ()),
    )
    return replace(table, caption=(*table.caption, *_left_out(len(rest), everything, by)))


Field = tuple[Column, Callable[[Line], Cell]]
"""A column and how a line fills it."""


def _group_line(group: Group) -> Line:
    return Line(group.best, tuple(map(exact, group.values)), (group.complete, group.total))


def _leading(by: Sequence[str]) -> list[Field]:
    def value(place: int) -> Callable[[Line], Cell]:
        return lambda line: text(line.by[place])

    grouped = [(Column(name, name, align="left"), value(place)) for place, name in enumerate(by)]
    return [*grouped, (Column("model", "Model", align="left"), lambda line: model(line.configuration))]


def _means(shown: Sequence[Configuration], best: Configuration | None) -> list[Field]:
    return [(measure.column, _mean(measure, shown, best)) for measure in used(MEASURES, shown)]


def _mean(measure: Measure, shown: Sequence[Configuration], best: Configuration | None) -> Callable[[Line], Cell]:
    write = cells(measure, shown)

    def cell(line: Line) -> Cell:
        is_best = measure is ELBO and best is not None and line.configuration is best
        return replace(write(line.configuration), bold=is_best)

    return cell


def _trailing(by: Sequence[str], everything: bool) -> list[Field]:
    fields: list[Field] = [
        (Column("seconds", "seconds", "s"), _seconds),
        (Column("seeds", "Seeds"), _seeds),
        (
            Column("seeds_total", "Seeds in all", shown=False),
            lambda line: _hidden(line, lambda row: len(row.replicates)),
        ),
        (Column("collapsed", "Collapsed", shown=False), lambda line: _hidden(line, lambda row: row.collapsed)),
        (Column("confirmed", "Confirmed", shown=False), lambda line: _hidden(line, lambda row: row.confirmed)),
        (Column("trials", "Trials", shown=False), lambda line: _hidden(line, _numbers)),
    ]
    counts: list[Field] = [
        (Column("configurations", "Configurations"), lambda line: share(*(line.counts or (0, 0)))),
        (Column("configurations_total", "", shown=False), lambda line: Cell("", (line.counts or (0, 0))[1])),
    ]
    state: Field = (Column("state", "State", align="left"), lambda line: _hidden(line, lambda row: row.outcome))
    return [*fields, *(counts if by else []), *([state] if everything and not by else [])]


def _hidden(line: Line, get: Callable[[Configuration], int | str | bool]) -> Cell:
    if line.configuration is None:
        return text(None)
    value = get(line.configuration)
    return Cell(str(value), value)


def _numbers(configuration: Configuration) -> str:
    return " ".join(str(trial.number) for trial in configuration.trials)


def _seconds(line: Line) -> Cell:
    return number(line.configuration.seconds if line.configuration else None, 0)


def _seeds(line: Line) -> Cell:
    return seeds(line.configuration) if line.configuration else text(None)


def _left_out(count: int, everything: bool, by: Sequence[str]) -> list[str]:
    if not count or by:
        return []
    where = "below the rule, unranked" if everything else "left out; --all lists them"
    return [f"{count} configuration(s) without a complete trial: {where}."]
