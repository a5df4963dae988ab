"""The table of a study in the form of the thesis' Table 4.3: model, -ELBO, KL, PPL, and what says if z is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flowsearch.report.caption import caption
from flowsearch.report.labels import exact
from flowsearch.report.rows import Configuration, Group, clear_best, configurations, groups
from flowsearch.report.tables import Cell, Column, Table, decimals, number, text
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


@dataclass(frozen=True)
class Measure:
    """A column of means.

    Args:
        metric: its name in the readings.
        column: its heading.
        least: decimals when no error asks for more.
        most: decimals at most.
        sign: -1 to print the negative.
        is_optional: whether the column is there only if a row has the metric.
    """

    metric: str
    column: Column
    least: int = 2
    most: int = 4
    sign: int = 1
    is_optional: bool = False


def _measure(metric: str, name: str, unit: str = "", key: str = "") -> tuple[str, Column]:
    return metric, Column(key or metric, name, unit, has_error=True)


MEASURES = (
    Measure(*_measure("elbo", "-ELBO", "nats/doc", "negative_elbo"), sign=-1),
    Measure(*_measure("kl", "KL", "nats/doc"), least=4),
    Measure(*_measure("ppl", "PPL")),
    Measure(*_measure("active_units", "AU", "dims"), least=0, most=1),
    Measure(*_measure("mutual_information", "MI", "nats")),
    Measure(*_measure("iw_nll", "IW-NLL", "nats/doc"), is_optional=True),
    Measure(*_measure("gap", "gap", "nats/doc"), is_optional=True),
)


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


_Field = tuple[Column, Callable[[Line], Cell]]
"""A column and how a line fills it."""


def _group_line(group: Group) -> Line:
    return Line(group.best, tuple(map(exact, group.values)), (group.complete, group.total))


def _leading(by: Sequence[str]) -> list[_Field]:
    def value(place: int) -> Callable[[Line], Cell]:
        return lambda line: text(line.by[place])

    grouped = [(Column(name, name, align="left"), value(place)) for place, name in enumerate(by)]
    return [*grouped, (Column("model", "Model", align="left"), _model)]


def _model(line: Line) -> Cell:
    if line.configuration is None:
        return text(None)
    marks = (("†", line.configuration.collapsed), ("‡", line.configuration.absent))
    return text(line.configuration.label, "".join(mark for mark, holds in marks if holds))


def _means(shown: Sequence[Configuration], best: Configuration | None) -> list[_Field]:
    used = [
        measure
        for measure in MEASURES
        if not measure.is_optional or any(measure.metric in configuration.values for configuration in shown)
    ]
    return [(measure.column, _mean(measure, shown, best)) for measure in used]


def _mean(measure: Measure, shown: Sequence[Configuration], best: Configuration | None) -> Callable[[Line], Cell]:
    estimates = [row.values[measure.metric] for row in shown if measure.metric in row.values]
    is_whole = all(found.mean.is_integer() for found in estimates)
    least = measure.least if measure.least or is_whole else 1
    places = decimals([found.error for found in estimates], least=least, most=max(least, measure.most * (not is_whole)))

    def cell(line: Line) -> Cell:
        found = line.configuration.values.get(measure.metric) if line.configuration else None
        if found is None:
            return number(None, places)
        is_bold = line.configuration is best and measure.metric == "elbo"
        return number(measure.sign * found.mean, places, found.error, bold=is_bold)

    return cell


def _trailing(by: Sequence[str], everything: bool) -> list[_Field]:
    fields: list[_Field] = [
        (Column("seconds", "seconds", "s"), _seconds),
        (Column("seeds", "Seeds"), _seeds),
        (Column("seeds_total", "Seeds in all", shown=False), lambda line: _hidden(line, lambda row: len(row.trials))),
        (Column("collapsed", "Collapsed", shown=False), lambda line: _hidden(line, lambda row: row.collapsed)),
        (Column("trials", "Trials", shown=False), lambda line: _hidden(line, _numbers)),
    ]
    counts: list[_Field] = [
        (Column("configurations", "Configurations"), lambda line: _share(*(line.counts or (0, 0)))),
        (Column("configurations_total", "", shown=False), lambda line: Cell("", (line.counts or (0, 0))[1])),
    ]
    state: _Field = (Column("state", "State", align="left"), lambda line: _hidden(line, lambda row: row.outcome))
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
    if line.configuration is None:
        return text(None)
    return _share(line.configuration.complete, len(line.configuration.trials))


def _share(part: int, whole: int) -> Cell:
    return Cell(str(part) if part == whole else f"{part}/{whole}", part)


def _left_out(count: int, everything: bool, by: Sequence[str]) -> list[str]:
    if not count or by:
        return []
    where = "below the rule, unranked" if everything else "left out; --all lists them"
    return [f"{count} configuration(s) without a complete trial: {where}."]
