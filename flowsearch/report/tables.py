"""A table that knows nothing of how it is printed: cells with their raw values, and the sentences of its caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MISSING = "–"
"""What a cell shows that has no value."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: its name in CSV and JSON.
        name: its heading.
        unit: under the heading; empty for none.
        align: of its cells.
        shown: whether people see it; CSV and JSON have every column.
        has_error: whether its cells carry standard errors, a column of their own in CSV.
    """

    key: str
    name: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    shown: bool = True
    has_error: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: what people see.
        value: the raw value, in the unit of its column; None where there is none.
        error: its standard error, if it has one.
        bold: whether it stands out.
        mark: a sign after the text that the caption explains.
    """

    text: str
    value: float | int | str | bool | None = None
    error: float | None = None
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table and its caption.

    Args:
        name: of the study or the corpus.
        columns: in order.
        rows: a cell per column each.
        caption: a sentence or two per line.
        rules: positions of the rows that a rule is drawn above.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: tuple[str, ...] = ()
    rules: frozenset[int] = frozenset()


def text(value: str | None, mark: str = "") -> Cell:
    """A cell of words.

    >>> text(None).text
    '–'
    """
    return Cell(MISSING if value is None else value, value, mark=mark)


def number(value: float | None, decimals: int, error: float | None = None, *, bold: bool = False) -> Cell:
    """A cell of a number, its standard error after it when it has one.

    >>> number(329.0284, 2, 0.05).text
    '329.03 ± 0.05'
    >>> number(-0.0004, 2).text
    '0.00'
    """
    if value is None or not math.isfinite(value):
        return Cell(MISSING)
    shown = f"{value:z.{decimals}f}" if error is None else f"{value:z.{decimals}f} ± {error:.{decimals}f}"
    return Cell(shown, value, error, bold)


def decimals(errors: Sequence[float | None], *, least: int, most: int) -> int:
    """How many decimals show two digits of the smallest standard error, from `least` to `most`.

    >>> decimals([0.031, None], least=2, most=4), decimals([2.0], least=2, most=4), decimals([], least=2, most=4)
    (3, 2, 2)
    """
    found = [error for error in errors if error]
    return min(max(1 - math.floor(math.log10(min(found))), least), most) if found else least
