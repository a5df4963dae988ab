"""What other pruners would have saved and lost on a study's recorded curves, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowsearch.report.tables import Cell, Column, Table, number, text

COLUMNS = (
    (Column("pruner", "Pruner", align="left"), 0),
    (Column("epochs_saved", "Epochs saved", "%"), 1),
    (Column("seconds_saved", "Seconds saved", "%"), 1),
    (Column("regret", "Regret", "nats/doc", has_error=True), 3),
    (Column("regret_worst", "Worst", "nats/doc"), 3),
    (Column("winner_killed", "Winner killed", "% of orders"), 1),
    (Column("killed", "Killed", "trials"), 1),
    (Column("collapsed_killed", "Collapsed, killed", "%"), 1),
    (Column("collapsed_left", "Collapsed, left", "%"), 1),
)
"""Each with its decimals."""


def replay_table(study: str, rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> Table:
    """A row per pruner.

    Args:
        study: its name.
        rows: by the keys of `COLUMNS`; standard errors under the key and `_stderr`.
        caption: how much was replayed.
    """
    return Table(
        study,
        tuple(column for column, _ in COLUMNS),
        tuple(tuple(_cell(row, column, decimals) for column, decimals in COLUMNS) for row in rows),
        tuple(caption),
    )


def _cell(row: Mapping[str, Any], column: Column, decimals: int) -> Cell:
    value = row[column.key]
    if isinstance(value, str):
        return text(value)
    return number(value, decimals, row[f"{column.key}_stderr"] if column.has_error else None)
