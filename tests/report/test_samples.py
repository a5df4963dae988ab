"""Which models write, and the tables of what they wrote."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from flowsearch.errors import StudyError
from flowsearch.report import FORMATS
from flowsearch.report.samples import SCORES, chosen, sample_tables
from flowsearch.results import Study, Trial
from flowsearch.results.samples import Samples

ROWS = [
    ("VAE", {"beta": 1.0}, 0, -9.0, "COMPLETE"),
    ("LM", {"beta": 2.0}, 0, -12.0, "COMPLETE"),
    ("VAE", {"beta": 1.0}, 1, -8.0, "COMPLETE"),
    ("VAE", {"beta": 1.0}, 2, -1.0, "PRUNED"),
    ("VAE", {"beta": 1.0}, 3, -2.0, "COMPLETE"),
    ("LM", {"beta": 2.0}, 1, math.nan, "COMPLETE"),
]
A, B = ("a", "cat"), ("a", "dog")
SCORED = dict.fromkeys(SCORES, 0.5)
VAE = Samples((A, B), (B, ()), (A, B), (A, A), (B, B), (A, A, B), SCORED)
LM = Samples((A, A), (A, B), (A, B), (), (), (), {**SCORED, "greedy_distinct_2": math.nan})


def test_each_label_is_written_for_by_its_best_complete_trial_with_a_model(simple: Callable[..., Study]) -> None:
    study = simple(*ROWS)
    assert [trial.number for trial in chosen(study, lambda number: number != 4)] == [2, 1]
    assert [trial.number for trial in chosen(study, lambda number: True)] == [4, 1]
    assert [trial.number for trial in chosen(study, lambda number: number in (3, 5))] == [5]


def test_a_trial_that_is_named_may_have_any_state(simple: Callable[..., Study]) -> None:
    assert [trial.number for trial in chosen(simple(*ROWS), lambda number: True, 3)] == [3]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (9, "--trial: demo has no trial 9; expected one of its 6"),
        (0, "--trial: trial 0 of demo has left no model"),
        (None, "demo: no COMPLETE trial has left a model"),
    ],
)
def test_without_a_model_a_line_says_so(simple: Callable[..., Study], number: int | None, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        chosen(simple(*ROWS), lambda number: False, number)


def shown(table: Any) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row) for row in table.rows]


def test_every_document_has_a_row() -> None:
    written = [(Trial(2, label="VAE"), VAE), (Trial(1, label="LM"), LM)]
    points, documents, steps, scores = sample_tables("demo", written)
    assert shown(points)[:4] == [
        ("VAE", "2", "1", "greedy", "a cat"),
        ("VAE", "2", "1", "sampled", "a dog"),
        ("VAE", "2", "2", "greedy", "a dog"),
        ("VAE", "2", "2", "sampled", "(no words)"),
    ]
    assert points.rules == {0, 4}
    assert [row[0] for row in shown(points)] == ["VAE"] * 4 + ["LM"] * 4
    assert [row[2:] for row in shown(documents)][:3] == [
        ("1", "test", "a cat"),
        ("1", "mean", "a cat"),
        ("1", "sample", "a dog"),
    ]
    assert {row[0] for row in shown(documents)} == {"VAE"}
    assert [row[2:] for row in shown(steps)] == [
        ("0.00", "mean", "a cat"),
        ("0.50", "mean", "a cat"),
        ("1.00", "mean", "a dog"),
    ]
    assert [row[0] for row in shown(scores)] == ["VAE", "LM"]
    assert shown(scores)[1][3] == "–"
    assert shown(scores)[0][-1] == "0.5000"


def test_only_models_without_z_have_no_tables_of_it() -> None:
    names = [table.name for table in sample_tables("demo", [(Trial(1, label="LM"), LM)])]
    assert names == ["demo: documents from the prior", "demo: scores"]


@pytest.mark.parametrize("style", FORMATS)
def test_a_word_cannot_act_on_what_shows_it(style: str) -> None:
    odd = ("\x1b[2J", "=1+1", "<b>", "|", "\\end{table}", "[red]x[/red]")
    samples = Samples((odd,), (odd,), (odd,), (odd,), (odd,), (odd, odd), SCORED)
    said = FORMATS[style](sample_tables("demo", [(Trial(0, label="VAE"), samples)]))
    assert "\x1b[2J" not in said
    if style == "latex":
        assert said.count(r"\end{table}") == 4
