"""The columns of means that a table of configurations may have, and how their cells are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowsearch.report.rows import Configuration
from flowsearch.report.tables import Cell, Column, decimals, number


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


ELBO = Measure(*_measure("elbo", "-ELBO", "nats/doc", "negative_elbo"), sign=-1)
KL = Measure(*_measure("kl", "KL", "nats/doc"), least=4)
PPL = Measure(*_measure("ppl", "PPL"))
MI = Measure(*_measure("mutual_information", "MI", "nats"))
IW_NLL = Measure(*_measure("iw_nll", "IW-NLL", "nats/doc"), is_optional=True)

MEASURES = (
    ELBO,
    KL,
    PPL,
    Measure(*_measure("active_units", "AU", "dims"), least=0, most=1),
    MI,
    IW_NLL,
    Measure(*_measure("entropy", "true NLL", "nats/doc"), is_optional=True),
    Measure(*_measure("gap", "gap", "nats/doc"), is_optional=True),
    Measure(*_measure("model_part", "model part", "nats/doc"), is_optional=True),
    Measure(*_measure("inference_part", "inference part", "nats/doc"), is_optional=True),
    Measure(*_measure("kl_share", "KL / I(X;Z)"), is_optional=True),
    Measure(*_measure("elbo_refined", "-ELBO refined", "nats/doc", "negative_elbo_refined"), sign=-1, is_optional=True),
    Measure(*_measure("kl_refined", "KL refined", "nats/doc"), least=4, is_optional=True),
    Measure(*_measure("ppl_refined", "PPL refined"), is_optional=True),
    Measure(*_measure("active_units_refined", "AU refined", "dims"), least=0, most=1, is_optional=True),
    Measure(*_measure("mutual_information_refined", "MI refined", "nats"), is_optional=True),
    Measure(*_measure("iw_nll_refined", "IW-NLL refined", "nats/doc"), is_optional=True),
)
"""The columns of a study's table, in order."""


def used(measures: Sequence[Measure], shown: Sequence[Configuration]) -> list[Measure]:
    """The measures without the optional ones that no row has."""
    return [
        measure
        for measure in measures
        if not measure.is_optional or any(measure.metric in configuration.values for configuration in shown)
    ]


def cells(measure: Measure, shown: Sequence[Configuration]) -> Callable[[Configuration | None], Cell]:
    """How a configuration's mean is written among those of `shown`: two digits of the smallest error, the same for all.

    Args:
        measure: the column.
        shown: the rows that the table will have.
    """
    estimates = [row.values[measure.metric] for row in shown if measure.metric in row.values]
    is_whole = all(found.mean.is_integer() for found in estimates)
    least = measure.least if measure.least or is_whole else 1
    places = decimals([found.error for found in estimates], least=least, most=max(least, measure.most * (not is_whole)))

    def cell(configuration: Configuration | None) -> Cell:
        found = configuration.values.get(measure.metric) if configuration else None
        return number(measure.sign * found.mean, places, found.error) if found else number(None, places)

    return cell
