"""Studies as a user runs them, on a real Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console
from toy_spaces import TINY, MakeSpace

from flowsearch.errors import FlowsearchError, SpaceError, StudyError
from flowsearch.results import Journal, fold, read
from flowsearch.results import load as load_tables
from flowsearch.search import study
from flowsearch.search.cluster import MODULES, away, fitting
from flowsearch.search.space import Space, load
from flowsearch.search.study import run, run_space

CLOCKS = {"seconds", "tokens_per_second", "peak_memory"}

pytestmark = pytest.mark.ray


def run_fake(space: Space, folder: Path, readings: str = "curve", **options: Any) -> tuple[int, str]:
    """Exit code and output of a study of fake trials."""
    out = Console(file=StringIO(), width=200)
    code = run_space(space, folder=folder, readings=f"fake_trials:{readings}", console=out, **options)
    return code, out.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_every_way_to_end(make_space: MakeSpace, tmp_path: Path) -> None:
    """A trial that diverges, crashes, runs out of memory (for good, or until its batch is halved, in Python or in
    torch), loses its worker or collapses, and one that does nothing wrong."""
    sizes = [16, 1, 2, 3, 4, 6, 5, 17, 7, 8]
    first = [{"model.latent_size": size} for size in sizes]
    model = {**TINY["model"], "latent_size": {"int": [1, 32]}}
    space = make_space("training.epochs=3", model=model, objective={}, search={"trials": len(sizes), "first": first})
    code, said = run_fake(space, tmp_path / "toy", "bad")
    assert code == 0
    told = fold(read(tmp_path / "toy" / "journal.jsonl").events)
    found = {sizes[number]: (trial.state, trial.reason) for number, trial in told.trials.items()}
    assert found == {
        16: ("COMPLETE", None),
        1: ("FAIL", "kl is not finite at step 12"),
        2: ("FAIL", "ValueError: [bold]no[/] such thing"),
        3: ("FAIL", "out of memory, with half the batch at a time as well"),
        7: ("COMPLETE", None),
        8: ("COMPLETE", None),
        4: ("FAIL", "elbo is not finite at epoch 2"),
        6: ("COMPLETE", None),
        5: ("COMPLETE", None),
        17: ("COMPLETE", None),
    }
    attempts = Counter(sizes[event["trial"]] for event in events(tmp_path / "toy", "start"))
    assert {size for size, count in attempts.items() if count == 2} == {3, 6, 7, 8}
    causes = {sizes[event["trial"]]: event["cause"] for event in events(tmp_path / "toy", "lost")}
    assert causes == {3: "memory", 6: "worker", 7: "memory", 8: "memory"}
    trace = (tmp_path / "toy" / "trials" / "2" / "error.txt").read_text()
    assert "Traceback" in trace
    assert "no[/] such thing" in trace
    assert "trial 6 collapsed at epoch 2: -ELBO 58.00 nats/doc, KL 0.01, AU 0" in said
    assert "trial 0 epoch 2 valid: -ELBO " in said
    assert "trial 5 will start again: its worker died" in said
    assert "trial 8 will start again: out of memory; now half the batch at a time" in said
    assert "trial 2 FAIL: ValueError: [bold]no[/] such thing" in said
    assert load_tables(tmp_path / "toy").trials[0].state == "COMPLETE"
    assert not (tmp_path / "toy" / "_ray").exists()
    epochs = [(event["trial"], event["epoch"]) for event in events(tmp_path / "toy", "report")]
    assert len(epochs) == len(set(epochs))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_study_with_a_pruner_then_made_longer(make_space: MakeSpace, tmp_path: Path) -> None:
    section = {"trials": 6, "seeds": 2, "pruner": {"ASHA": {"reduction_factor": 2}}}
    folder = tmp_path / "toy"
    code, said = run_fake(make_space(search=section), folder)
    assert code == 0
    told = fold(read(folder / "journal.jsonl").events)
    assert {trial.state for trial in told.trials.values()} == {"COMPLETE", "PRUNED"}
    for number, trial in told.trials.items():
        epochs = sorted(epoch for n, epoch, split in told.readings if n == number and split == "valid")
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) == 9 or trial.reason == f"ASHA at epoch {len(epochs)}"
        assert f"trial {number} {trial.state}" in said
    code, said = run_fake(make_space(search=section), folder, resume=True)
    assert (code, "all 12 trials have finished" in said) == (0, True)
    code, said = run_fake(make_space(search={**section, "trials": 7}), folder, resume=True)
    starts = [event["trial"] for event in events(folder, "start")]
    assert (code, starts) == (0, list(range(14)))


@pytest.mark.usefixtures("ray_here")
def test_a_worker_without_room_on_its_disk_ends_the_study_which_goes_on_later(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    """No trial is blamed for a full disk."""
    space = make_space("training.epochs=3", search={"trials": 3}, resources={"concurrent": 1})
    folder = tmp_path / "toy"
    with pytest.raises(FlowsearchError, match=rf"{folder}: disk full, [24] rows safe; make room and --resume"):
        run_fake(space, folder, "no_room")
    told = fold(read(folder / "journal.jsonl").events)
    assert {trial.state for trial in told.trials.values()} == {"RUNNING"}
    assert run_fake(space, folder, "no_room", resume=True)[0] == 0
    assert {trial.state for trial in load_tables(folder).trials.values()} == {"COMPLETE"}


@pytest.mark.usefixtures("ray_here")
def test_when_all_trials_fail_the_exit_code_and_a_line_say_so(make_space: MakeSpace, tmp_path: Path) -> None:
    model = {**TINY["model"], "latent_size": 1}
    code, said = run_fake(make_space(model=model, search={"trials": 3}), tmp_path / "toy", "bad")
    assert code == 1
    assert "no trial completed; 3 failed with: kl is not finite at step 12" in said


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_reused_actor_is_a_fresh_one(make_space: MakeSpace, tmp_path: Path) -> None:
    """Real training: the third trial of an actor measures what the first trial of another one does."""
    choices = [{"model.latent_size": size, "objective.beta": 0.5} for size in (12, 20, 16)]
    resources = {"concurrent": 1, "cpus_per_trial": 1}

    def measured(name: str, first: list[dict[str, Any]]) -> Any:
        space = make_space("training.epochs=2", resources=resources, search={"trials": len(first), "first": first})
        corpus = study.load_corpus(space)
        assert run_space(space, folder=tmp_path / name, corpus=corpus, console=Console(file=StringIO())) == 0
        rows = [e["readings"] for e in events(tmp_path / name, "report") if e["trial"] == len(first) - 1]
        return [
            (row["split"], {k: v for k, v in row["values"].items() if k not in CLOCKS})
            for epoch in rows
            for row in epoch
        ]

    reused = measured("reused", choices)
    assert len(reused) >= 4
    assert measured("fresh", choices[2:]) == reused


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read(folder / "journal.jsonl").events if event["event"] == kind]


def write(tmp_path: Path, **sections: Any) -> Path:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump({"defaults": ["base", "_self_"], "study": "toy", **TINY, **sections}))
    return file


def test_dry_run_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, search={"trials": 4, "seeds": 2, "budget": {"hours": 20}})
    assert run(file, ["objective.beta=0.5"], results=tmp_path / "results", dry_run=True) == 0
    said = capsys.readouterr().out
    assert "8 trials: 4 configurations, 2 seed(s) each; sampler TPE, no pruner" in said
    assert "1 parameters, 23 points" in said
    assert "corpus synthetic: 200 train, 50 valid, 50 test documents" in said
    assert "budget: 20 hours" in said
    assert "forecast from 2 training steps of 2 configuration(s) on this machine" in said
    assert "VAE(10) (β=0.5): " in said
    assert "the full grid: 46 trials" in said
    assert not (tmp_path / "results").exists()


def test_a_study_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    file = write(tmp_path)
    with pytest.raises(StudyError, match="no study to resume"):
        run(file, results=tmp_path, resume=True)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "journal.jsonl").touch()
    with pytest.raises(StudyError, match="this study exists; --resume goes on with it, study=NAME starts another"):
        run(file, results=tmp_path)


def test_a_changed_study_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = write(tmp_path, search={"trials": 2})
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "space.yaml").write_text(study.described(load(file)))
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "study", "versions": {"flowsearch": "0.0.1"}, "corpus_checksum": "0" * 64})
    for dry_run in (True, False):
        with pytest.raises(StudyError) as refused:
            run(file, ["training.epochs=5"], results=tmp_path, resume=True, dry_run=dry_run)
        for part in ("training.epochs was 9 and is 5", "code.version was '0.0.1'", "corpus was '000000000000...'"):
            assert part in str(refused.value)
    assert run(file, ["training.epochs=5"], results=tmp_path, resume=True, dry_run=True, allow_change=True) == 0


def test_one_study_has_one_corpus(tmp_path: Path) -> None:
    sizes = {"train": {"choice": [10, 20]}, "valid": 5, "test": 5}
    file = write(tmp_path, data={"corpus": {"synthetic": sizes}})
    with pytest.raises(SpaceError, match="expected one corpus per study"):
        run(file, results=tmp_path, dry_run=True)


def test_space_yaml_says_what_ran_and_can_run_again(tmp_path: Path) -> None:
    space = load(write(tmp_path, search={"trials": 2}))
    text = study.described(space)
    for name in ("space_hash", "seed", "versions.ray", "versions.torch", "commit", "python", "platform"):
        assert re.search(rf"^# {name}: .", text, re.MULTILINE), name
    (tmp_path / "space.yaml").write_text(text)
    assert load(tmp_path / "space.yaml") == space


def test_a_cluster_is_taken_as_far_as_it_goes() -> None:
    """How many trials run at once, given what is there; on a cluster that may grow, what the user says."""

    def at_once(cpu: float, gpu: float, concurrent: int | None, joined: bool = False, trials: int = 100) -> int:
        wanted = SimpleNamespace(cpus_per_trial=2, gpus_per_trial=0.25, concurrent=concurrent)
        return fitting({"CPU": cpu, "GPU": gpu}, wanted, trials, joined=joined)

    assert at_once(16, 1, None) == 4
    assert at_once(5, 8, None) == 2
    assert at_once(16, 8, 3) == 3
    assert at_once(16, 8, None, trials=1) == 1
    assert at_once(2, 0, 64, joined=True) == 64
    with pytest.raises(
        FlowsearchError, match=r"there are 2 CPU, 0 GPU; a cluster that grows needs resources.concurrent"
    ):
        at_once(2, 0, None, joined=True)


def test_what_travels_to_a_cluster_is_there_and_small() -> None:
    folders = [Path(folder) for folder in away()["runtime_env"]["py_modules"]]
    assert {folder.name for folder in folders} == set(MODULES)
    for folder in folders:
        assert (folder / "__init__.py").is_file()
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 50e6


def test_a_worker_imports_no_more_of_the_search_than_its_task() -> None:
    """Nodes have Ray and torch, not Optuna or Hydra."""
    code = "import sys, flowsearch.search.trainable; print({'optuna', 'hydra', 'omegaconf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.usefixtures("ray_here")
def test_a_trial_that_does_not_fit_is_an_error_before_it_starts(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(resources={"cpus_per_trial": 64})
    with pytest.raises(FlowsearchError, match="a trial needs 64 CPU and 0 GPU; there are 2 CPU, 0 GPU"):
        run_fake(space, tmp_path / "toy")
