"""The table of a study says what it shows, and marks what must not be mistaken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowsearch.errors import BadInput, StudyError
from flowsearch.report import FORMATS, report, study_table
from flowsearch.results import Journal, Trial


def headings(table: Any) -> list[str]:
    return [column.name for column in table.columns if column.shown]


def caption(table: Any) -> str:
    return " ".join(table.caption)


def cells(table: Any, key: str) -> list[Any]:
    place = [column.key for column in table.columns].index(key)
    return [row[place] for row in table.rows]


def test_the_columns_are_those_of_the_thesis_and_what_tells_whether_z_is_used(simple: Any) -> None:
    made = simple(("VAE", {}, 0, -9.0, "COMPLETE"), mutual_information=1.0)
    thesis = ["Model", "-ELBO", "KL", "PPL", "AU", "MI"]
    assert headings(study_table(made)) == [*thesis, "seconds", "Seeds"]
    made = simple(("VAE", {}, 0, -9.0, "COMPLETE"), iw_nll=8.0, gap=0.5)
    assert headings(study_table(made)) == [*thesis, "IW-NLL", "gap", "seconds", "Seeds"]


def test_the_caption_says_what_was_measured(study: Any) -> None:
    facts = {"corpus": "wordnet", "vocabulary_size": 20001, "tokens_per_document": {"test": 79.8673}, "entropy": 35.15}
    made = study([Trial(0, "COMPLETE"), Trial(1, "PRUNED")], {(0, 1, "valid"): {"elbo": -9.0}}, **facts)
    shown = caption(study_table(made, split="test"))
    for part in ("Study demo", "corpus wordnet", "split test", "79.8673 tokens per document", "vocabulary 20001"):
        assert part in shown
    for part in (
        "H(X) 35.1500",
        "ELBO at KL weight 1",
        "1 COMPLETE, 1 PRUNED",
        "z_K",
        "Gaussian base",
        "one seed cannot rank",
    ):
        assert part in shown


def test_the_tighter_bound_and_the_gap_say_what_they_are(simple: Any) -> None:
    plain = caption(study_table(simple(("VAE", {}, 0, -9.0, "COMPLETE"))))
    assert "IW-NLL" not in plain
    assert "gap" not in plain
    known = simple(("VAE", {}, 0, -9.0, "COMPLETE"), iw_nll=8.0, iw_samples=500.0, gap=0.5, entropy=8.5)
    told = caption(study_table(known))
    assert "K = 500 samples" in told
    assert "true NLL, -log p(x), of the same test documents, 8.50 nats" in told


def test_marks_are_explained_exactly_when_they_are_used(simple: Any, study: Any) -> None:
    healthy = study_table(simple(("VAE", {}, 0, -9.0, "COMPLETE")))
    assert "†" not in caption(healthy)
    assert "‡" not in caption(healthy)
    collapsed = study_table(simple(("VAE", {}, 0, -9.0, "COMPLETE"), kl=0.001))
    assert cells(collapsed, "model")[0].mark == "†"
    assert "† collapsed" in caption(collapsed)
    absent = study_table(study([Trial(0, "COMPLETE", label="VAE")], {(0, 1, "valid"): {"elbo": -9.0, "kl": 1.0}}))
    assert cells(absent, "model")[0].mark == "‡"
    assert cells(absent, "negative_elbo")[0].text == "–"
    assert "‡ at least one seed has no reading on test" in caption(absent)


def test_seeds_and_errors(simple: Any) -> None:
    rows = [("a", {"n": 0}, seed, -9.0 - seed / 100, "COMPLETE") for seed in range(2)]
    rows += [("b", {"n": 1}, 0, -9.5, "COMPLETE"), ("b", {"n": 1}, 1, -9.5, "FAIL")]
    table = study_table(simple(*rows))
    assert [cell.text for cell in cells(table, "seeds")] == ["2", "1/2"]
    assert [cell.text for cell in cells(table, "negative_elbo")] == ["9.0050 ± 0.0050", "9.5000"]
    assert [cell.value for cell in cells(table, "seeds_total")] == [2, 2]
    assert not any(cell.bold for row in table.rows for cell in row)


def test_what_is_not_complete_is_counted_and_listed_only_when_asked(simple: Any) -> None:
    made = simple(
        ("a", {"n": 0}, 0, -9.0, "COMPLETE"), ("b", {"n": 1}, 0, -1.0, "PRUNED"), ("c", {"n": 2}, 0, 0.0, "FAIL")
    )
    short = study_table(made)
    assert [cell.text for cell in cells(short, "model")] == ["a"]
    assert "2 configuration(s) without a complete trial: left out" in caption(short)
    full = study_table(made, everything=True)
    assert [cell.text for cell in cells(full, "model")] == ["a", "b", "c"]
    assert [cell.text for cell in cells(full, "state")] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [cell.text for cell in cells(full, "negative_elbo")] == ["9.00", "–", "–"]
    assert full.rules == {1}


def test_only_a_clear_best_is_bold(simple: Any) -> None:
    rows = [
        (name, {"n": name}, seed, elbo - seed / 10, "COMPLETE")
        for name, elbo in (("a", -9.0), ("b", -5.0))
        for seed in (0, 1)
    ]
    table = study_table(simple(*rows))
    assert [(row[0].text, [cell.bold for cell in row].count(True)) for row in table.rows] == [("b", 1), ("a", 0)]
    assert cells(table, "negative_elbo")[0].bold
    assert "Bold: better" in caption(table)


def test_grouped_rows_have_a_column_per_parameter_and_counts(simple: Any) -> None:
    made = simple(
        ("a", {"flow": "IAF", "flow.k": 1}, 0, -9.0, "COMPLETE"),
        ("b", {"flow": "IAF", "flow.k": 2}, 0, -8.0, "COMPLETE"),
        ("c", {"flow": "Gaussian"}, 0, -7.0, "PRUNED"),
    )
    table = study_table(made, by=["flow", "flow.k"])
    assert headings(table)[:3] == ["flow", "flow.k", "Model"]
    shown = [tuple(cell.text for cell in row[:3]) for row in table.rows]
    assert shown == [("Gaussian", "–", "–"), ("IAF", "1", "a"), ("IAF", "2", "b")]
    assert [cell.text for cell in cells(table, "configurations")] == ["0/1", "1", "1"]
    assert [cell.text for cell in cells(study_table(made, by=["flow"]), "model")] == ["–", "b"]


def test_a_running_study_has_an_empty_table_that_says_so(study: Any) -> None:
    table = study_table(study([Trial(0)], {}))
    assert table.rows == ()
    assert "No configuration is complete yet" in caption(table)
    assert all(style([table]) for style in FORMATS.values())


def test_a_model_without_z_has_dashes_and_no_mark(rows: Any) -> None:
    made = rows({"LSTM-LM": [{"elbo": -9.0, "ppl": 20.0}], "VAE": [{"elbo": -9.5, "ppl": 21.0, "kl": 2.0}]})
    table = study_table(made)
    assert cells(table, "model")[0].mark == ""
    assert [cells(table, key)[0].text for key in ("kl", "active_units", "mutual_information")] == ["–"] * 3


def test_a_row_without_a_bound_is_marked_explained_and_not_bold(rows: Any) -> None:
    implicit = [{"elbo": -1.0 - n / 10, "kl": 2.0, "kl_is_bound": 0.0} for n in range(2)]
    made = rows({"Implicit-VAE": implicit, "VAE": [{"elbo": -9.0 - n / 10, "kl": 2.0} for n in range(2)]})
    table = study_table(made)
    assert [cell.mark for cell in cells(table, "model")] == ["¶", ""]
    assert not any(cell.bold for cell in cells(table, "negative_elbo"))
    assert "¶ no bound: the KL is a critic's dual estimate" in caption(table)
    assert "\\P{}" in FORMATS["latex"]([table])


def test_refined_values_have_columns_and_a_sentence(rows: Any) -> None:
    assert "refined" not in caption(study_table(rows({"VAE": [{"elbo": -9.0}]}))).lower()
    refined = {"elbo_refined": -8.5, "kl_refined": 1.5, "ppl_refined": 18.0, "active_units_refined": 3.0}
    table = study_table(rows({"VAE": [{"elbo": -9.0}], "SA-VAE": [{"elbo": -9.0, **refined}]}))
    keys = ("negative_elbo_refined", "kl_refined", "ppl_refined", "active_units_refined")
    assert [cells(table, key)[1].value for key in keys] == [8.5, 1.5, 18.0, 3.0]
    assert [cells(table, key)[0].text for key in keys] == ["–"] * 4
    assert "that very document" in caption(table)


def test_on_a_known_source_the_gap_comes_in_parts(rows: Any) -> None:
    values = {"elbo": -38.0, "kl": 1.5, "iw_nll": 37.5, "iw_samples": 500.0, "entropy": 35.0, "gap": 3.0}
    table = study_table(rows({"VAE": [values]}, information=3.0))
    keys = ("entropy", "gap", "model_part", "inference_part", "kl_share")
    assert [cells(table, key)[0].value for key in keys] == [35.0, 3.0, 2.5, 0.5, 0.5]
    assert "sum to the gap" in caption(table)
    assert "I(X;Z), 3.0000 nats" in caption(table)


def test_confirmed_rows_are_marked_and_counted(rows: Any) -> None:
    table = study_table(rows({"VAE": [{"elbo": -9.0}] * 3}, phase="confirm"))
    assert cells(table, "model")[0].mark == "◆"
    assert cells(table, "confirmed")[0].value is True
    assert "Confirmed rows: 1, each the mean over 3 fresh seed(s)" in caption(table)
    assert "fresh" not in caption(study_table(rows({"VAE": [{"elbo": -9.0}] * 3})))


def write(folder: Path, params: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": 0, "params": params, "seed": 0, "label": "VAE"})
        readings = [{"split": split, "values": {"elbo": -9.0, "kl": 1.0}} for split in ("valid", "test")]
        journal.append({"event": "report", "trial": 0, "epoch": 1, "readings": readings})
        journal.append({"event": "finish", "trial": 0, "state": "COMPLETE"})


def test_no_name_means_every_study(tmp_path: Path) -> None:
    write(tmp_path / "b", {"objective.beta": 0.4})
    write(tmp_path / "a", {})
    tables, notes = report(tmp_path, [])
    assert ([table.name for table in tables], notes) == (["a", "b"], [])
    assert [table.name for table in report(tmp_path, ["b"])[0]] == ["b"]
    assert json.loads(FORMATS["json"](tables))[1]["rows"][0]["negative_elbo"] == {"value": 9.0, "stderr": None}
    assert len(report(tmp_path, [], by=["objective.beta"])[0]) == 2


def test_names_that_do_not_exist_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study here"):
        report(tmp_path / "nothing", [])
    write(tmp_path / "iaf", {"objective.beta": 0.4})
    with pytest.raises(StudyError, match="did you mean 'iaf'"):
        report(tmp_path, ["iag"])
    with pytest.raises(BadInput, match=r"did you mean 'objective\.beta'"):
        report(tmp_path, [], by=["objective.bta"])


def test_damage_is_in_the_caption_and_in_the_notes(tmp_path: Path) -> None:
    write(tmp_path / "a", {})
    path = tmp_path / "a" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"garbage\n")
    [table], [note] = report(tmp_path, [])
    assert "1 damaged line(s)" in note
    assert note in caption(table)
    assert len(table.rows) == 1
