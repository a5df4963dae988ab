"""A format is a function from tables to a string; `FORMATS` finds one by its name."""

from __future__ import annotations

import csv as csv_module
import io
import json as json_module
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowsearch.report import escapes
from flowsearch.report.tables import Cell, Column, Table

Format = Callable[[Sequence[Table]], str]

_UNBOUNDED = 10_000


def table(shown: Table) -> str:
    """For a person: as wide as the terminal, or as the table where there is none; bold only on a terminal."""
    from rich import box
    from rich.console import Console, Group
    from rich.table import Table as RichTable
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    has_units = any(column.unit for _, column in _shown(shown))
    for _, column in _shown(shown):
        named, unit = escapes.plain(column.name), escapes.plain(column.unit)
        head = Text(f"{named}\n{unit}" if has_units else named)
        rich.add_column(head, justify=column.align, no_wrap=column.align == "right", overflow="fold")
    for position, row in enumerate(shown.rows):
        if position in shown.rules and position:
            rich.add_section()
        cells = [row[place] for place, _ in _shown(shown)]
        rich.add_row(*(Text(escapes.plain(cell.text + cell.mark), style="bold" * cell.bold) for cell in cells))
    caption = [Text(escapes.plain(line), style="dim") for line in shown.caption]
    width = None if is_terminal else _UNBOUNDED
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=width, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(Group(Text(escapes.plain(shown.name), style="bold"), rich, *caption))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def markdown(shown: Table) -> str:
    """A table of GitHub Flavored Markdown, units in the headings, the caption below."""
    columns = _shown(shown)
    heads = [
        escapes.markdown(f"{column.name} ({column.unit})" if column.unit else column.name) for _, column in columns
    ]
    rules = [{"left": ":--", "right": "--:"}[column.align] for _, column in columns]
    bold = {True: "**{}**", False: "{}"}
    rows = [
        [bold[row[place].bold].format(escapes.markdown(row[place].text)) + row[place].mark for place, _ in columns]
        for row in shown.rows
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    return "\n".join([f"**{escapes.markdown(shown.name)}**", "", *lines, "", *map(_paragraph, shown.caption)]).rstrip()


def latex(shown: Table) -> str:
    r"""A `table` with `booktabs` rules, caption and label: `\usepackage{booktabs}` is all it needs."""
    columns = _shown(shown)
    rules = {position: r"\midrule" for position in shown.rules if position}
    body = []
    for position, row in enumerate(shown.rows):
        body += [rules[position]] if position in rules else []
        body.append(" & ".join(_latex_cell(row[place]) for place, _ in columns) + r" \\")
    units = [f"\\emph{{{escapes.latex(column.unit)}}}" if column.unit else "" for _, column in columns]
    caption = " ".join(escapes.latex(line) for line in (f"{shown.name}.", *shown.caption))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"  \centering",
            f"  \\begin{{tabular}}{{{''.join(column.align[0] for _, column in columns)}}}",
            r"    \toprule",
            f"    {' & '.join(_latex_head(column) for _, column in columns)} \\\\",
            f"    {' & '.join(units)} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            f"  \\caption{{{caption}}}",
            f"  \\label{{tab:{re.sub('[^A-Za-z0-9.-]', '-', shown.name)}}}",
            r"\end{table}",
        ]
    )


def csv(tables: Sequence[Table]) -> str:
    """Raw numbers, standard errors in columns of their own, the table's name first: one file however many tables."""
    rows = [{"study": escapes.csv(shown.name), **_raw(shown, row)} for shown in tables for row in shown.rows]
    names = dict.fromkeys(
        ["study", *(name for shown in tables for column in shown.columns for name in _csv_names(column))]
    )
    file = io.StringIO()
    writer = csv_module.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().rstrip("\n")


def json(tables: Sequence[Table]) -> str:
    """A list with an object per table: raw values with their standard errors, units, and the caption."""
    return json_module.dumps([_json_table(shown) for shown in tables], indent=1, allow_nan=False)


def each(one: Callable[[Table], str]) -> Format:
    """The format that writes each table by itself, a blank line between them."""
    return lambda tables: "\n\n".join(map(one, tables))


FORMATS: Mapping[str, Format] = {
    "table": each(table),
    "markdown": each(markdown),
    "latex": each(latex),
    "csv": csv,
    "json": json,
}


def _shown(shown: Table) -> list[tuple[int, Column]]:
    return [(place, column) for place, column in enumerate(shown.columns) if column.shown]


def _paragraph(line: str) -> str:
    return f"{escapes.markdown(line)}\n"


def _latex_head(column: Column) -> str:
    return re.sub("^-(?=.)", "$-$", escapes.latex(column.name))


def _latex_cell(cell: Cell) -> str:
    inner = re.sub(r"^-(?=\d)", "$-$", escapes.latex(cell.text))
    return (f"\\textbf{{{inner}}}" if cell.bold else inner) + escapes.latex(cell.mark)


def _csv_names(column: Column) -> list[str]:
    return [escapes.csv(column.key), *([f"{column.key}_stderr"] if column.has_error else [])]


def _raw(shown: Table, row: Sequence[Cell]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for column, cell in zip(shown.columns, row, strict=True):
        given = (_finite(cell.value), _finite(cell.error))
        value, error = ("" if part is None else escapes.csv(part) if isinstance(part, str) else part for part in given)
        cells.update(zip(_csv_names(column), (value, error), strict=False))
    return cells


def _json_table(shown: Table) -> dict[str, Any]:
    columns = [{"key": column.key, "name": column.name, "unit": column.unit} for column in shown.columns]
    rows = [
        {column.key: _json_cell(column, cell) for column, cell in zip(shown.columns, row, strict=True)}
        for row in shown.rows
    ]
    return {"name": shown.name, "columns": columns, "rows": rows, "caption": list(shown.caption)}


def _json_cell(column: Column, cell: Cell) -> Any:
    value = _finite(cell.value)
    return {"value": value, "stderr": _finite(cell.error)} if column.has_error else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
