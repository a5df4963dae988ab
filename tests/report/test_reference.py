"""Ours beside what is published: the right table, the right column, and a mark only where comparing means something."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flowsearch.errors import BadInput
from flowsearch.report import FORMATS
from flowsearch.report.reference import REFERENCES, lies_outside, reference, reference_table
from flowsearch.report.rows import Estimate

THESIS = REFERENCES["thesis"]
YAHOO = {"corpus": "yahoo", "vocabulary_size": 20001, "tokens_per_document": {"test": 79.86730001}}


def shown(table: Any, key: str) -> list[str]:
    place = [column.key for column in table.columns].index(key)
    return [row[place].text + row[place].mark for row in table.rows]


def seeds(*elbos: float, kl: float = 0.0031, **more: float) -> list[dict[str, float]]:
    return [{"elbo": elbo, "kl": kl, "ppl": 61.5, **more} for elbo in elbos]


def test_the_file_holds_every_published_row_and_its_perplexities_follow_from_its_bounds() -> None:
    assert {table: len({row["model"] for row in THESIS.rows if row["table"] == table}) for table in THESIS.order} == {
        "4.3": 14,
        "4.4": 6,
        "2.1": 11,
    }
    wrong = []
    for row in THESIS.rows:
        if row["table"] == "2.1":
            continue
        perplexity = math.exp(float(row["nats_per_document"]) / THESIS.texts[row["corpus"]].tokens)
        if abs(perplexity - float(row["ppl"])) > 2e-4:
            wrong.append((row["table"], row["model"], row["corpus"]))
    assert wrong == [("4.3", "VAE + IAF(k=3)", "yelp")]
    assert all(key in THESIS.notes for key in wrong)


def test_every_note_is_of_a_row_that_there_is() -> None:
    keys = {(row["table"], row["model"], row["corpus"]) for row in THESIS.rows}
    assert THESIS.notes.keys() <= keys


@pytest.mark.parametrize("name", ["4.3", "4.4", "2.1"])
def test_a_study_of_a_tables_rows_finds_that_table(name: str) -> None:
    assert THESIS.table_for(row["model"] for row in THESIS.rows if row["table"] == name) == name


def test_names_differ_only_in_writing_and_equals_go_to_the_first_table() -> None:
    assert THESIS.table_for(["VAE(64)", "β-VAE (β=0.4)", "VAE(128)"]) == "4.4"
    assert THESIS.table_for(["VAE + Annealing"]) == "4.3"
    assert THESIS.table_for(["unheard of"]) == "4.3"


def test_ours_stand_beside_theirs_in_our_order_and_the_rest_below(rows: Any) -> None:
    made = rows({"VAE + PF(k=1)": seeds(-329.0), "my own": seeds(-300.0), "VAE": seeds(-329.1)}, **YAHOO)
    table = reference_table(made, THESIS)
    assert shown(table, "model")[:4] == ["VAE + PF(k=1)†", "my own†", "VAE†", "VAE + Annealing"]
    assert shown(table, "published_negative_elbo")[:4] == ["329.0186", "–", "329.0284", "328.9191"]
    assert shown(table, "negative_elbo")[:4] == ["329.00", "300.00", "329.10", "–"]
    assert shown(table, "published_kl")[2] == "0.0031"
    assert shown(table, "published_ppl")[2] == "61.5401"
    assert len(table.rows) == 14 + 1
    assert table.rules == {3}
    assert all(style([table]) for style in FORMATS.values())


def test_a_mark_says_that_the_published_value_lies_outside_our_interval(rows: Any) -> None:
    # Means 329.25 and 330.25, errors 0.25: the intervals are [328.75, 329.75] and [329.75, 330.75].
    made = rows({"VAE": seeds(-329.0, -329.5), "VAE + PF(k=1)": seeds(-330.0, -330.5)}, **YAHOO)
    table = reference_table(made, THESIS)
    assert shown(table, "negative_elbo")[:2] == ["329.25 ± 0.25", "330.25 ± 0.25≠"]
    assert shown(table, "kl")[:2] == ["0.0031 ± 0.0000", "0.0031 ± 0.0000≠"]
    assert "≠ the published value, to its printed digits" in " ".join(table.caption)
    assert "single runs" in " ".join(table.caption)


def test_one_seed_has_no_interval(rows: Any) -> None:
    table = reference_table(rows({"VAE": seeds(-100.0)}, **YAHOO), THESIS)
    assert "≠" not in "".join(shown(table, "negative_elbo"))
    assert "One seed per row" in " ".join(table.caption)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tokens_per_document": {"test": 80.1}}, "80.1000 tokens per document here, 79.8673 there"),
        ({"tokens_per_document": None}, "unknown tokens per document here, 79.8673 there"),
        ({"vocabulary_size": 5000}, "vocabulary 5000 here, 20001 there"),
        ({"corpus": "ptb"}, "corpus ptb here, yahoo or yelp there"),
    ],
)
def test_another_text_is_said_with_both_values_and_nothing_is_marked(
    rows: Any, changes: dict[str, Any], expected: str
) -> None:
    made = rows({"VAE": seeds(-100.0, -101.0)}, **{**YAHOO, **changes})
    table = reference_table(made, THESIS)
    assert expected in " ".join(table.caption)
    assert "Not comparable" in " ".join(table.caption)
    assert not any("≠" in cell.mark for row in table.rows for cell in row)


def test_another_corpus_has_no_published_values(rows: Any) -> None:
    table = reference_table(rows({"VAE": seeds(-100.0)}, **{**YAHOO, "corpus": "ptb"}), THESIS)
    assert shown(table, "published_negative_elbo") == ["–"]


def test_the_inconsistent_row_has_a_note_and_no_marks(rows: Any) -> None:
    yelp = {"corpus": "yelp", "vocabulary_size": 19997, "tokens_per_document": {"test": 96.6556}}
    made = rows({"VAE + IAF(k=3)": seeds(-100.0, -100.1), "VAE": seeds(-100.0, -100.1)}, **yelp)
    table = reference_table(made, THESIS)
    assert shown(table, "model")[0] == "VAE + IAF(k=3)†§"
    assert [("≠" in text) for text in shown(table, "negative_elbo")[:2]] == [False, True]
    assert "§ VAE + IAF(k=3): printed inconsistently" in " ".join(table.caption)
    assert "§" not in " ".join(reference_table(rows({"VAE": seeds(-1.0)}, **YAHOO), THESIS).caption)


def test_table_2_1_compares_importance_weighted_bounds(rows: Any) -> None:
    def of(nll: float, samples: float = 500.0) -> list[dict[str, float]]:
        return [{"elbo": -340.0, "kl": 5.6, "iw_nll": nll + n / 10, "iw_samples": samples} for n in range(2)]

    made = rows({"Lagging Inference": of(328.15), "SA-VAE": of(320.0)}, **YAHOO)
    table = reference_table(made, THESIS)
    assert [column.name for column in table.columns][1:3] == ["NLL published", "IW-NLL ours"]
    assert shown(table, "published_iw_nll")[:2] == ["328.2", "329.2"]
    assert ["≠" in text for text in shown(table, "iw_nll")[:2]] == [False, True]
    assert "IW-NLL are importance-weighted bounds, theirs of 500 samples" in " ".join(table.caption)
    fewer = reference_table(rows({"Lagging Inference": of(300.0, 50.0)}, **YAHOO), THESIS)
    assert "50 importance samples here, 500 there" in " ".join(fewer.caption)
    assert "≠" not in "".join(shown(fewer, "iw_nll"))


def test_a_language_model_stands_in_table_2_1_with_its_exact_likelihood(rows: Any) -> None:
    made = rows({"LSTM-LM": [{"elbo": -328.0, "ppl": 60.0}, {"elbo": -328.5, "ppl": 60.1}]}, **YAHOO)
    table = reference_table(made, THESIS)
    assert (shown(table, "published_iw_nll")[0], shown(table, "iw_nll")[0]) == ("328.0", "328.25 ± 0.25")
    assert (shown(table, "published_kl")[0], shown(table, "kl")[0]) == ("–", "–")


def test_a_row_that_is_no_bound_is_not_compared(rows: Any) -> None:
    table = reference_table(rows({"VAE": seeds(-1.0, -1.1, kl_is_bound=0.0)}, **YAHOO), THESIS)
    assert shown(table, "model")[0] == "VAE†¶"
    assert "≠" not in shown(table, "negative_elbo")[0]


@pytest.mark.parametrize(
    ("printed", "mean", "error", "expected"),
    [
        ("0.0", 0.04, 0.001, False),
        ("0.0", 0.06, 0.001, True),
        ("0.0000", 0.04, 0.001, True),
        ("5.0", 5.0, 0.0, False),
        ("5.0", 9.0, None, False),
    ],
)
def test_a_published_number_is_known_to_its_last_digit(
    printed: str, mean: float, error: float | None, expected: bool
) -> None:
    assert lies_outside(printed, Estimate(mean, error, 2)) is expected


def test_an_unknown_reference_is_answered_with_the_nearest() -> None:
    assert reference("thesis") is THESIS
    with pytest.raises(BadInput, match="--reference: no 'thessi'; did you mean 'thesis'"):
        reference("thessi")
