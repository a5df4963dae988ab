"""What a study required, and what it sought beside the ELBO, decide what comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowsearch.report import goals, report, running, status
from flowsearch.report.rows import clear_best, configurations
from flowsearch.report.study import study_table
from flowsearch.results import Journal, Trial, compact

REQUIRE = {"active_units": {"min": 1.0}, "mutual_information_reference": {"max": 3.0}}
COLLAPSED, POOR, GOOD = (
    {"elbo": -30.0, "kl": 0.0, "active_units": 0.0},
    {"elbo": -35.0, "kl": 1.0, "active_units": 2.0},
    {"elbo": -33.0, "kl": 0.5, "active_units": 1.0},
)


@pytest.fixture
def three(study: Any) -> Any:
    """Two seeds each of a collapsed model with the best ELBO, a poor one and a good one."""

    def make(**facts: Any) -> Any:
        each = [(name, v) for name, v in (("collapsed", COLLAPSED), ("poor", POOR), ("good", GOOD)) for _ in range(2)]
        trials = [
            Trial(number, "COMPLETE", None, name, number % 2, 1.0, None, {"k": name})
            for number, (name, _) in enumerate(each)
        ]
        readings = {
            (number, 1, split): {**v, "elbo": v["elbo"] + number % 2 / 100}
            for number, (_, v) in enumerate(each)
            for split in ("valid", "test")
        }
        return study(trials, readings, **facts)

    return make


def test_what_breaks_a_limit_is_marked_and_ranked_last(three: Any) -> None:
    assert [row.label for row in configurations(three(), "test")] == ["collapsed", "good", "poor"]
    found = configurations(three(require=REQUIRE), "test")
    assert [(row.label, row.broken) for row in found] == [
        ("good", None),
        ("poor", None),
        ("collapsed", "active_units >= 1"),
    ]
    table = study_table(three(require=REQUIRE))
    assert [row[0].mark for row in table.rows] == ["", "", "†✗"]
    assert sum(line.startswith("✗") for line in table.caption) == 1


def test_what_breaks_a_limit_is_never_bold(three: Any) -> None:
    for facts, name in (({}, "collapsed"), ({"require": REQUIRE}, "good")):
        best = clear_best(configurations(three(**facts), "test"))
        assert best is not None
        assert best.label == name


def test_a_limit_is_read_where_validation_chose(study: Any) -> None:
    readings = {(0, 1, "valid"): GOOD, (0, 1, "test"): COLLAPSED, (0, 2, "valid"): {**COLLAPSED, "elbo": -99.0}}
    assert configurations(study([Trial(0, "COMPLETE")], readings, require=REQUIRE), "test")[0].broken is None


def test_the_front_is_of_what_was_sought_and_breaks_no_limit(three: Any) -> None:
    two = {"elbo": "maximize", "kl": "maximize"}
    assert goals.pareto(three()) == [1]
    assert goals.pareto(three(objectives=two)) == [1, 5, 3]
    assert goals.pareto(three(objectives=two, require=REQUIRE)) == [5, 3]
    assert goals.on_front(three(objectives=two)) == "Pareto front of elbo, kl: trials 1, 5, 3."
    assert goals.on_front(three(objectives={"elbo": "maximize", "ppl": "minimize"})) == ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two = {"elbo": "maximize", "mutual_information_reference": "maximize"}
    events: list[dict[str, Any]] = [{"event": "study", "require": REQUIRE, "objectives": two}]
    for number, values in enumerate((COLLAPSED, GOOD, POOR)):
        information = 9.0 if values is POOR else values["kl"]
        readings = [
            {"split": split, "values": {**values, "mutual_information_reference": information}}
            for split in ("valid", "test")
        ]
        events += [{"event": "start", "trial": number, "params": {"k": number}, "seed": 0, "label": f"VAE {number}"}]
        events += [{"event": "report", "trial": number, "epoch": 1, "readings": readings}]
        events += [{"event": "finish", "trial": number, "state": "COMPLETE", "reason": None, "seconds": 1.0}]
    path = tmp_path / "demo"
    path.mkdir()
    with Journal(path / "journal.jsonl") as journal:
        for event in events:
            journal.append(event)
    return path


@pytest.mark.parametrize("with_parquet", [False, True])
def test_limits_and_objectives_bring_their_columns_along(folder: Path, with_parquet: bool) -> None:
    if with_parquet:
        compact(folder)
    tables, notes = report(folder.parent, ["demo"])
    assert not notes
    assert [(row[0].text, row[0].mark) for row in tables[0].rows] == [
        ("VAE 1", ""),
        ("VAE 0", "†✗"),
        ("VAE 2", "✗"),
    ]
    caption = running(status(folder), 0.0).caption
    assert "Pareto front of elbo, mutual_information_reference: trials 1." in caption
    assert any(line.startswith("Best so far: validation -ELBO 33.00") for line in caption)
