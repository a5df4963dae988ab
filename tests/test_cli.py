"""The command line: what is printed where, and which exit code says how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput, Damaged, FlowsearchError, SpaceError
from flowsearch.report import FORMATS
from flowsearch.results import Journal, compact


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": 0, "params": {"objective.beta": 0.4}, "seed": 0, "label": "β-VAE"})
        readings = [{"split": split, "values": {"elbo": -9.0, "kl": 1.0}} for split in ("valid", "test")]
        journal.append({"event": "report", "trial": 0, "epoch": 1, "readings": readings})
        journal.append({"event": "finish", "trial": 0, "state": "COMPLETE", "seconds": 3.0})
    return tmp_path


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


def fake_study(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Stands in for the search, which needs Ray."""
    module = types.ModuleType("flowsearch.search.study")
    module.run = run  # type: ignore[attr-defined]
    package = types.ModuleType("flowsearch.search")
    package.study = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flowsearch.search", package)
    monkeypatch.setitem(sys.modules, "flowsearch.search.study", module)


def test_help_names_every_command() -> None:
    done = invoke("--help")
    assert done.exit_code == 0
    assert all(command in done.output for command in ("run", "report", "status", "data", "samples", "--version"))


def test_the_formats_offered_are_those_there_are() -> None:
    assert set(get_args(cli.FormatName)) == set(FORMATS)


@pytest.mark.parametrize("style", FORMATS)
def test_report_prints_every_format(results: Path, style: str) -> None:
    done = invoke("report", "--results", results, "--format", style)
    assert done.exit_code == 0
    assert "VAE" in done.output
    assert done.stderr == ""


def test_report_takes_studies_split_groups_and_all(results: Path) -> None:
    given = ("report", "demo", "--results", results, "--split", "valid", "--by", "objective.beta", "--all")
    done = invoke(*given, "--format", "json")
    assert json.loads(done.stdout)[0]["rows"][0]["objective.beta"] == "0.4"


@pytest.mark.parametrize(
    "arguments", [["--split", "train"], ["--format", "html"], ["--nope"], ["demp"], ["--by", "beta"]]
)
def test_bad_input_to_report_is_2(results: Path, arguments: list[str]) -> None:
    done = invoke("report", "--results", results, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_empty_results_folder_is_a_clear_line(tmp_path: Path) -> None:
    for command in ("report", "status"):
        done = invoke(command, "--results", tmp_path)
        assert done.exit_code == 2
        assert "no study here" in done.stderr
        assert done.stderr.count("\n") == 1


def test_damage_is_3_and_what_is_good_is_still_shown(results: Path) -> None:
    folder = results / "demo"
    compact(folder)
    (folder / "trials.parquet").write_bytes(b"PAR1")
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    done = invoke("report", "--results", results)
    assert done.exit_code == 3
    assert "β-VAE" in done.stdout
    assert [line.startswith("flowsearch: ") for line in done.stderr.splitlines()] == [True, True]
    assert invoke("status", "--results", results).exit_code == 3


def test_status_shows_one_study_or_all(results: Path) -> None:
    assert "1 COMPLETE" in invoke("status", "demo", "--results", results).stdout
    assert "demo" in invoke("status", "--results", results).stdout
    assert invoke("status", "demp", "--results", results).exit_code == 2


def test_repair_mends_and_says_so_and_is_3_where_something_is_lost(results: Path) -> None:
    folder = results / "demo"
    compact(folder)
    assert invoke("repair", "demo", "--results", results).stdout == "demo: nothing is damaged\n"
    (folder / "metrics.parquet").write_bytes(b"PAR1")
    done = invoke("repair", "demo", "--results", results)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "metrics.parquet: damaged, now metrics.parquet.damaged-1; rebuilt from the journal" in done.stdout
    (folder / "trials" / "0").mkdir(parents=True)
    (folder / "trials" / "0" / "best.safetensors").write_bytes(b"")
    done = invoke("repair", "demo", "--results", results)
    assert done.exit_code == 3
    assert "best.safetensors.damaged-1; nothing can make it again" in done.stderr
    assert invoke("repair", "demp", "--results", results).exit_code == 2


def test_run_passes_on_what_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def run(*given: Any, **named: Any) -> int:
        seen.append((given, named))
        return 143

    fake_study(monkeypatch, run)
    log = ("--log", "tensorboard", "--log", "wandb")
    done = invoke("run", "a.yaml", "seed=1", "~search.pruner", "--results", tmp_path, "--resume", "--plain", *log)
    flags = {"resume": True, "allow_change": False, "dry_run": False, "plain": True}
    named = {"results": tmp_path, "address": None, **flags, "log": ["tensorboard", "wandb"], "mirror": None}
    assert seen == [((Path("a.yaml"), ["seed=1", "~search.pruner"]), named)]
    assert done.exit_code == 143
    for flags, resume in (((), False), (("--resume-if-exists",), None), (("--resume", "--resume-if-exists"), True)):
        invoke("run", "a.yaml", *flags)
        assert seen[-1][1]["resume"] is resume


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FlowsearchError("x"), 1),
        (BadInput("x"), 2),
        (SpaceError("x"), 2),
        (Damaged("x"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "journal.jsonl"), 1),
        (MemoryError("Unable to allocate 93 TiB"), 1),
    ],
    ids=repr,
)
def test_every_error_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise error

    fake_study(monkeypatch, run)
    done = invoke("run", "a.yaml")
    assert done.exit_code == code
    assert "Traceback" not in done.stderr


def test_a_message_cannot_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise BadInput("bad \x1b[2J[red]value[/red]\nnext\u202e")

    fake_study(monkeypatch, run)
    assert invoke("run", "a.yaml").stderr == "flowsearch: bad [2J[red]value[/red] next\n"


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "is_red"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_errors_are_red_only_on_a_terminal_that_wants_colour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool, no_color: str, is_red: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    cli.complain("x")
    assert ("\x1b[31m" in capsys.readouterr().err) is is_red


def test_data_describes_a_corpus_in_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    split = {"documents": 5, "tokens_per_document": 12.5, "longest": 20, "unknown": 0.25, "checksum": "f" * 64}
    summary = {"name": "tiny", "vocabulary": 9, "checksum": "e" * 64, "facts": {"entropy": 3.0}, "notes": ["a note"]}
    text = types.ModuleType("flowsearch.text")
    text.load = lambda *given, **named: seen.append((given, named))  # type: ignore[attr-defined]
    text.summary = lambda _: {**summary, "splits": {"train": split, "valid": split}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flowsearch.text", text)
    monkeypatch.setattr("flowsearch.text", text, raising=False)
    done = invoke("data", "tiny", "--root", "corpora", "--min-count", 2)
    assert seen == [(("tiny",), {"root": Path("corpora"), "vocabulary_size": None, "min_count": 2})]
    assert done.exit_code == 0
    for part in ("tiny", "train", "valid", "12.5000", "25.00", "Vocabulary 9", "entropy 3.0000", "a note"):
        assert part in done.stdout


@pytest.fixture
def trained(tree: Any, corpus: Any, tmp_path: Path) -> Path:
    """Results with a study of one trained trial and one that left no model."""
    from flowsearch.search.task import as_rows
    from flowsearch.training.trial import readings

    folder = tmp_path / "results" / "demo"
    folder.mkdir(parents=True)
    settings = tree({"training.epochs": 1, "data.corpus": {"synthetic": {"train": 96, "valid": 48, "test": 40}}})
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "study", "corpus_checksum": corpus.checksum})
        for trial in (0, 1):
            journal.append({"event": "start", "trial": trial, "params": {}, "seed": 0, "label": f"VAE {trial}"})
            for epoch in readings(settings, directory=folder / "trials" / str(trial), corpus=corpus):
                journal.append({"event": "report", "trial": trial, "epoch": 1, "readings": as_rows(epoch)})
            journal.append({"event": "finish", "trial": trial, "state": "COMPLETE", "seconds": 3.0})
    (folder / "trials" / "1" / "best.safetensors").unlink()
    return tmp_path / "results"


def test_samples_prints_what_the_models_write(trained: Path) -> None:
    given = ("samples", "demo", "--results", trained, "--points", 2, "--max-words", 6)
    done = invoke(*given, "--format", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    points, documents, steps, scores = json.loads(done.stdout)
    assert [row["model"] for row in points["rows"]] == ["VAE 0"] * 4
    assert [len(table["rows"]) for table in (documents, steps, scores)] == [6, 5, 1]
    assert 0 <= scores["rows"][0]["z_effect"] < 10
    assert invoke(*given, "--format", "json").stdout == done.stdout
    assert invoke(*given, "--trial", 0).exit_code == 0


def test_samples_of_what_is_not_there_is_2_and_of_what_is_damaged_3(trained: Path) -> None:
    given = ("samples", "demo", "--results", trained)
    assert invoke("samples", "demp", "--results", trained).exit_code == 2
    for number, expected in ((1, "has left no model"), (7, "has no trial 7")):
        done = invoke(*given, "--trial", number)
        assert (done.exit_code, done.stdout) == (2, "")
        assert expected in done.stderr
    assert invoke(*given, "--points", 0).exit_code == 2
    (trained / "demo" / "trials" / "0" / "config.json").write_text("{}")
    done = invoke(*given)
    assert done.exit_code == 3
    assert "config.json" in done.stderr
    assert done.stderr.count("\n") == 1


def flowsearch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "flowsearch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_as_a_process_it_says_its_version_and_refuses_what_it_does_not_know() -> None:
    assert flowsearch("--version").stdout.startswith("flowsearch")
    unknown = flowsearch("nonsense")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr


def test_a_terminal_that_cannot_show_greek_is_no_error(results: Path) -> None:
    done = flowsearch("report", "--results", results, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "?-VAE" in done.stdout


def test_a_reader_that_goes_away_is_quiet(results: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flowsearch", "report", "--results", str(results)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", [["--help"], ["report"], ["status", "demo"], ["report", "--help"]])
def test_looking_imports_neither_torch_nor_ray(results: Path, command: list[str]) -> None:
    code = (
        "import sys; from flowsearch.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); "
        "print(*({'torch', 'ray', 'optuna', 'hydra', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    folder = [] if "--help" in command else ["--results", str(results)]
    done = subprocess.run([sys.executable, "-c", code, *command, *folder], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
