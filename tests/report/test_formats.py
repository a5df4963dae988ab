"""Laws of the formats: whatever a user writes is shown and does nothing, and numbers come out as they went in."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from dataclasses import replace

import pytest
from hostile import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsearch.report import FORMATS
from flowsearch.report.escapes import latex, markdown, plain
from flowsearch.report.tables import Cell, Column, Table, decimals, number, text


def table_of(label: str, name: str = "demo") -> Table:
    columns = (Column("model", "Model", align="left"), Column("kl", "KL", "nats", has_error=True))
    return Table(
        name, columns, ((text(label), number(2.0, 2, 0.1, bold=True)), (text("VAE"), number(None, 2))), (label,)
    )


def test_there_are_enough_hostile_strings() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_no_format_lets_a_control_character_through(label: str) -> None:
    for style in FORMATS.values():
        shown = style([table_of(label)])
        assert all(unicodedata.category(mark)[0] != "C" for mark in shown.replace("\n", ""))
        shown.encode("utf-8")


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_on_a_terminal_a_label_is_one_line_of_plain_text(label: str) -> None:
    lines, harmless = (FORMATS["table"]([replace(table_of(shown), caption=())]).splitlines() for shown in (label, "a"))
    assert len(lines) == len(harmless)
    assert plain(label) in lines[5]


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_in_markdown_a_label_stays_in_its_cell_and_is_only_text(label: str) -> None:
    row = FORMATS["markdown"]([table_of(label)]).splitlines()[4]
    assert row.count("|") == 3
    cell = row.split("|")[1].strip()
    bare = re.sub(r"\\[\\*_\[\]~#!$]|&#\d+;|&(lt|gt|amp);", "", cell)
    assert not re.search(r"[\\*_\[\]~#!$`<>&|@]|://|www\.", bare)


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_in_latex_a_label_has_no_command_of_its_own(label: str) -> None:
    shown = FORMATS["latex"]([table_of(label)])
    bare = latex(label)
    for known in (r"\\text(backslash|asciicircum|asciitilde|less|greater|bar|asciigrave)\{\}", r"\\[{}$&#%_]"):
        bare = re.sub(known, "", bare)
    bare = re.sub(r"\{[\[\]*\"]\}|\$\\(beta|pm|dagger|ddagger|ge|infty)\$", "", bare)
    assert not re.search(r"[\\{}$&#%_^~<>|`\[\]*\"]", bare)
    assert shown.count(r"\end{table}") == 1
    assert shown.count(r"\\") == 4


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_in_csv_a_label_is_one_field_and_no_formula(label: str) -> None:
    rows = list(csv.reader(io.StringIO(FORMATS["csv"]([table_of(label)]))))
    assert [len(row) for row in rows] == [4, 4, 4]
    assert rows[1][1].removeprefix("'") == plain(label).removeprefix("'")
    assert not re.match("[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]", rows[1][1])
    assert rows[1][2:] == ["2.0", "0.1"]


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_json_gives_a_label_back_as_it_was(label: str) -> None:
    [found] = json.loads(FORMATS["json"]([table_of(label)]))
    assert found["rows"][0] == {"model": label, "kl": {"value": 2.0, "stderr": 0.1}}


@settings(deadline=None)
@given(st.text())
def test_escaping_is_total_and_gives_one_line(given_text: str) -> None:
    for escape in (plain, latex, markdown):
        shown = escape(given_text)
        assert "\n" not in shown
        assert plain(shown) == shown


@settings(deadline=None)
@given(st.floats(), st.none() | st.floats(0, 1e3))
def test_machine_formats_hold_every_number_in_full(value: float, error: float | None) -> None:
    made = Table("t", (Column("x", "x", has_error=True),), ((Cell("", value, error),),))
    expected = value if math.isfinite(value) else None
    [found] = json.loads(FORMATS["json"]([made]))
    assert found["rows"][0]["x"] == {"value": expected, "stderr": error}
    row = list(csv.reader(io.StringIO(FORMATS["csv"]([made]))))[1]
    assert row[1:] == ["" if part is None else repr(part) for part in (expected, error)]


def test_several_tables_are_one_csv_and_one_json_list() -> None:
    other = Table("other", (Column("model", "Model"), Column("gap", "gap")), ((text("VAE"), number(1.5, 1)),))
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"]([table_of("a"), other]))))
    assert [(row["study"], row["kl"], row["gap"]) for row in rows] == [
        ("demo", "2.0", ""),
        ("demo", "", ""),
        ("other", "", "1.5"),
    ]
    assert [found["name"] for found in json.loads(FORMATS["json"]([table_of("a"), other]))] == ["demo", "other"]


def test_no_table_at_all_is_valid_in_every_format() -> None:
    assert json.loads(FORMATS["json"]([])) == []
    assert all(isinstance(style([]), str) for style in FORMATS.values())


def test_bold_marks_rules_and_units_reach_people() -> None:
    columns = (Column("model", "Model", align="left"), Column("x", "-ELBO", "nats/doc"), Column("y", "y", shown=False))
    rows = (
        (Cell("β", mark="†"), number(-3.0, 2, 0.5, bold=True), Cell("1", 1)),
        (text("b"), number(4.0, 2), Cell("1", 1)),
    )
    made = Table("demo", columns, rows, ("c",), frozenset({1}))
    assert "| β† | **-3.00 ± 0.50** |" in FORMATS["markdown"]([made])
    assert "-ELBO (nats/doc)" in FORMATS["markdown"]([made])
    shown = FORMATS["latex"]([made])
    assert r"$\beta$$\dagger$ & \textbf{$-$3.00 $\pm$ 0.50} \\" in shown
    assert r"$-$ELBO" in shown
    assert shown.count(r"\midrule") == 2
    assert "y" not in shown.split("caption")[0].split("tabular}{lr}")[1].replace("Study", "").split("nats")[0]


@pytest.mark.parametrize(("error", "expected"), [(0.5, 2), (0.05, 3), (0.003, 4), (1e-9, 4), (30.0, 2), (0.0, 2)])
def test_digits_suit_the_error(error: float, expected: int) -> None:
    assert decimals([error, None, 100.0], least=2, most=4) == expected
