"""`flowsearch report` with its other tables: which options go together, and that each reaches its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput
from flowsearch.report import FORMATS, plot
from flowsearch.report.views import ACCEPTS, view
from flowsearch.results import Journal
from flowsearch.results.documents import write_documents


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A study `demo` of two named rows, two seeds each, with values per document."""
    folder = tmp_path / "demo"
    folder.mkdir()
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "study", "corpus": "yahoo", "tokens_per_document": {"test": 79.8673}})
        for trial in range(4):
            name, seed = ("VAE", "beta-VAE (beta=0.4)")[trial // 2], trial % 2
            start = {"event": "start", "trial": trial, "params": {"row": name}, "seed": seed, "label": name}
            journal.append(start)
            values = {"elbo": -9.0 - trial, "kl": 1.0 + trial, "mutual_information": 1.0}
            readings = [{"split": split, "values": values} for split in ("valid", "test")]
            readings.append({"split": "train", "values": {"seconds": 2.0, "steps": 10.0, "inner_steps": 0.0}})
            journal.append({"event": "report", "trial": trial, "epoch": 1, "readings": readings})
            journal.append({"event": "finish", "trial": trial, "state": "COMPLETE"})
            place = folder / "trials" / str(trial)
            place.mkdir(parents=True)
            write_documents(place, {"tokens": np.array([5, 6]), "elbo": np.array([-9.0, -9.5]) - trial})
    return tmp_path


def invoke(results: Path, *arguments: object) -> Any:
    given = ["report", *map(str, arguments), "--results", str(results)]
    return CliRunner().invoke(cli.app, given, catch_exceptions=False)


PAIR = ("VAE", "beta-VAE (beta=0.4)")


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["--table", "times"], "4"),
        (["--table", "pareto"], "VAE"),
        (["--reference", "thesis"], "329.0284"),
        (["demo", "--compare", *PAIR], "2"),
    ],
    ids=["times", "pareto", "reference", "compare"],
)
def test_every_table_prints_in_every_format(results: Path, asked: list[str], expected: str, style: str) -> None:
    done = invoke(results, *asked, "--format", style)
    assert (done.exit_code, done.stderr) == (0, "")
    assert expected in done.stdout


def test_compare_takes_two_names_and_may_come_again(results: Path) -> None:
    done = invoke(results, "--compare", *PAIR, "demo", "--compare", *reversed(PAIR), "--format", "json")
    rows = json.loads(done.stdout)[0]["rows"]
    assert [row["difference"]["value"] for row in rows] == [2.0, -2.0]
    assert [row["a"] for row in rows] == list(PAIR)


def test_a_plot_is_written_beside_the_table(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = invoke(results, "demo", "--plot", tmp_path / "front.svg")
    assert done.exit_code == 0
    assert (tmp_path / "front.svg").read_text().startswith("<?xml")
    assert "beta-VAE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "thessi"], "did you mean 'thesis'"),
        (["--reference", "thesis", "--table", "times"], "--reference and --table times"),
        (["--compare", *PAIR, "--by", "row"], "--by: has no meaning for --compare"),
        (["--compare", *PAIR, "--split", "valid"], "--split: has no meaning for --compare"),
        (["--table", "times", "--all"], "--all: has no meaning for --table times"),
        (["--baseline", "VAE"], "--baseline: has no meaning for --table study"),
        (["--table", "times", "--baseline", "VEA"], "did you mean 'VAE'"),
        (["--compare", "VAE"], "expected two rows"),
        (["--compare=VAE"], "expected two rows"),
        (["--compare", "VAE", "beta-VAE (beta=0.5)"], "did you mean 'beta-VAE (beta=0.4)'"),
        (["--plot", "front.pdf"], ".svg or .png"),
    ],
)
def test_what_cannot_be_is_one_line_and_2(results: Path, arguments: list[str], said: str) -> None:
    done = invoke(results, "demo", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_what_is_of_one_study_asks_which(results: Path, tmp_path: Path) -> None:
    (results / "other").mkdir()
    (results / "other" / "journal.jsonl").write_bytes((results / "demo" / "journal.jsonl").read_bytes())
    for arguments in (["--compare", *PAIR], ["--plot", tmp_path / "a.svg"]):
        done = invoke(results, *arguments)
        assert done.exit_code == 2
        assert "of one study; name one of demo, other" in done.stderr
    with pytest.raises(BadInput, match="of one study"):
        plot(results, [], tmp_path / "a.svg")


def test_values_per_document_that_are_missing_are_one_line_and_3(results: Path) -> None:
    (results / "demo" / "trials" / "2" / "documents.parquet").unlink()
    done = invoke(results, "demo", "--compare", *PAIR)
    assert done.exit_code == 3
    assert "2/documents.parquet: missing" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_tables_offered_are_those_there_are() -> None:
    assert {f"--table {name}" for name in get_args(cli.TableName)} == {key for key in ACCEPTS if "--table" in key}
    for name in get_args(cli.TableName):
        assert callable(view(table=name))
