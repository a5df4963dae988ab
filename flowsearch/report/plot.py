"""-ELBO against KL and against MI, with the front: what to draw first, as data, and then the drawing of it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

from flowsearch.errors import BadInput
from flowsearch.report.escapes import plain
from flowsearch.report.measures import ELBO
from flowsearch.report.pareto import USES
from flowsearch.report.tables import Cell, Table

SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Point:
    """A row of the table.

    Args:
        row: its number in the table, from 1.
        label: its name with its signs.
        x: -ELBO, nats per document.
        y: KL or MI, nats.
        x_error: standard error of x, 0 where it has none.
        y_error: of y.
        is_on: whether it is on the front.
    """

    row: int
    label: str
    x: float
    y: float
    x_error: float
    y_error: float
    is_on: bool


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        x: its label.
        y: its label.
        points: all of them.
    """

    x: str
    y: str
    points: tuple[Point, ...]

    @property
    def front(self) -> list[tuple[float, float]]:
        """The corners of the front, by x."""
        return sorted({(point.x, point.y) for point in self.points if point.is_on})


@dataclass(frozen=True)
class Info:
    """Everything that a drawing shows.

    Args:
        title: the study.
        panels: from left to right.
    """

    title: str
    panels: tuple[Panel, ...]


def info(table: Table) -> Info:
    """What to draw of a table of `pareto_table`; rows without both numbers are left out, and panels without rows."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    x = places[ELBO.column.key]
    panels = []
    for use in USES:
        y, is_on = places[use.column.key], places[f"{use.column.key}_front"]
        points = [
            _point(number, row[0], row[x], row[y], is_on=bool(row[is_on].value))
            for number, row in enumerate(table.rows, start=1)
        ]
        panels.append(Panel(_named(table, x), _named(table, y), tuple(point for point in points if point)))
    return Info(table.name, tuple(panel for panel in panels if panel.points))


def check(path: Path) -> None:
    """Complain before anything is computed if `path` cannot be drawn.

    Raises:
        BadInput: its suffix is neither `.svg` nor `.png`, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--plot: {path.name}; expected a name that ends with {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadInput("--plot: needs matplotlib; pip install 'flowsearch[plots]'") from None


def draw(shown: Info, path: Path) -> None:
    """Draw to `path`; the same information gives the same bytes.

    Args:
        shown: what `info` gave.
        path: ends with `.svg` or `.png`.
    """
    check(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels = shown.panels or (Panel("", "", ()),)
    names = {point.row: point for panel in panels for point in panel.points}
    figure = Figure(figsize=(5.0 * len(panels), 4.2 + 0.17 * math.ceil(len(names) / 2)), layout="constrained")
    figure.suptitle(plain(shown.title), parse_math=False)
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.plot([x for x, _ in panel.front], [y for _, y in panel.front], color="0.6", linewidth=1, zorder=1)
        for point in panel.points:
            color, marker = ("C3", "*") if point.is_on else ("C0", "o")
            axes.errorbar(
                *(point.x, point.y, point.y_error, point.x_error),
                color=color,
                marker=marker,
                linestyle="none",
                elinewidth=1,
                capsize=2,
            )
            axes.annotate(str(point.row), (point.x, point.y), (4, 4), textcoords="offset points", fontsize=8)
    rows = [f"{row}  {plain(point.label)}" for row, point in sorted(names.items())]
    key = figure.legend(
        [Line2D([], [], linestyle="none")] * len(rows), rows, loc="outside lower center", ncols=2, handlelength=0
    )
    for words in key.get_texts():
        words.set(parse_math=False, fontsize=7)
    with mpl.rc_context({"svg.hashsalt": "flowsearch"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font does not have: a box is shown
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _point(number: int, name: Cell, x: Cell, y: Cell, *, is_on: bool) -> Point | None:
    if not (isinstance(x.value, float) and isinstance(y.value, float)):
        return None
    return Point(number, name.text + name.mark, x.value, y.value, x.error or 0.0, y.error or 0.0, is_on)


def _named(table: Table, place: int) -> str:
    column = table.columns[place]
    return f"{column.name} ({column.unit})"
