"""The copy of a study that runs: it follows, it never stands in the way, and another node can go on from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs as pafs
from rich.console import Console
from toy_spaces import TINY, MakeSpace

from flowsearch.results import load
from flowsearch.results.mirror import Mirror, Place, fetch, place
from flowsearch.search import copies, trialcopy
from flowsearch.search.copies import Copies, copying
from flowsearch.search.study import run_space
from flowsearch.search.task import Task
from flowsearch.search.trainable import TrialActor


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (copies, trialcopy):
        monkeypatch.setattr(module, "EVERY", 0.0)


class Broken(Mirror):
    """Refuses for a while."""

    def __init__(self, folder: Path, failures: int, pause: float = 0.0) -> None:
        super().__init__(folder, Place(pafs._MockFileSystem(), "bucket"))
        self.failures, self.pause, self.pushed = failures, pause, 0

    def push(self) -> None:
        time.sleep(self.pause)
        self.failures -= 1
        if self.failures >= 0:
            raise OSError("no route to host\nat all")
        self.pushed += 1


def settled(copying: Copies) -> None:
    assert copying._sending is not None
    copying._sending.exception(10)


@pytest.mark.usefixtures("at_once")
def test_a_place_that_refuses_is_told_of_once_and_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    mirror = Broken(tmp_path, failures=3)
    copying = Copies(mirror, said.append)
    for _ in range(6):
        copying.finished(None)  # type: ignore[arg-type]
        settled(copying)
    copying.close()
    assert said == ["bucket: not copied: no route to host"]
    assert mirror.pushed >= 3


@pytest.mark.usefixtures("at_once")
def test_a_slow_place_holds_nothing_up_and_gets_everything_at_the_end(tmp_path: Path) -> None:
    mirror = Broken(tmp_path, failures=0, pause=0.3)
    copying = Copies(mirror, print)
    began = time.monotonic()
    for _ in range(100):
        copying.measured(None, [])  # type: ignore[arg-type]
    assert time.monotonic() - began < 0.2
    copying.close()
    assert mirror.pushed == 2


def test_between_two_copies_there_is_time(tmp_path: Path) -> None:
    mirror = Broken(tmp_path, failures=0)
    copying = Copies(mirror, print)
    for _ in range(10):
        copying.finished(None)  # type: ignore[arg-type]
    assert copying._sending is None
    copying.close()
    assert mirror.pushed == 1


def test_without_a_mirror_there_is_nothing(tmp_path: Path) -> None:
    with copying(tmp_path, None, print) as watchers:
        assert watchers == []


def steps(folder: Path, where: tuple[str, str], *, node: str, count: int) -> Iterator[dict[str, Any]]:
    """What an actor of a node with a disk of its own reports."""
    config = {"training": {"epochs": 6}, "model": {"latent_size": 8}, "objective": {"beta": 1.0}, "seed": 0}
    actor = object.__new__(TrialActor)
    task = Task(0, config, str(folder / node / "trials" / "0"), "toy-0")
    actor.setup({"task": task}, readings="fake_trials:curve", mirror=where)
    for _ in range(count):
        yield actor.step()
    actor.cleanup()


@pytest.mark.usefixtures("at_once")
def test_another_node_goes_on_where_no_disk_is_shared(tmp_path: Path) -> None:
    where = ((tmp_path / "bucket").as_uri(), "toy/trials")
    first = [step["epoch"] for step in steps(tmp_path, where, node="a", count=3)]
    other = [step["epoch"] for step in steps(tmp_path, where, node="b", count=3)]
    assert first == [1, 2, 3]
    assert other == [3, 4, 5]  # the epoch of a checkpoint is said again
    assert (tmp_path / "bucket" / "toy" / "trials" / "0" / "last.txt").read_text() == "5"


@pytest.mark.parametrize(("heard", "epochs"), [(0, [1, 2, 3, 4]), (2, [1, 2, 3, 4]), (3, [4, 5, 6]), (4, [4, 5, 6])])
def test_a_checkpoint_that_is_ahead_of_the_journal_leaves_no_hole(
    tmp_path: Path, heard: int, epochs: list[int]
) -> None:
    """The journal's copy may be older than the checkpoint's, by as many epochs as fit between two copies."""
    trial = tmp_path / "trials" / "0"
    trial.mkdir(parents=True)
    (trial / "last.pt").write_text('{"epoch": 4}')
    config = {"training": {"epochs": 6}, "model": {"latent_size": 8}, "objective": {"beta": 1.0}, "seed": 0}
    actor = object.__new__(TrialActor)
    actor.setup({"task": Task(0, config, str(trial), "toy-0", heard)}, readings="fake_trials:resumable")
    found = [actor.step() for _ in range(4)]
    assert [step["epoch"] for step in found if "epoch" in step] == epochs


def test_a_trial_that_ends_has_sent_its_model_before_it_says_so(tmp_path: Path) -> None:
    where = ((tmp_path / "bucket").as_uri(), "toy/trials")
    actor = steps(tmp_path, where, node="a", count=7)
    assert [next(actor) for _ in range(7)][-1]["state"] == "COMPLETE"
    assert (tmp_path / "bucket" / "toy" / "trials" / "0" / "last.txt").read_text() == "6"


def test_a_trial_whose_copy_fails_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bucket").write_text("a file, not a folder")
    where = ((tmp_path / "bucket").as_uri(), "toy/trials")
    assert [step["epoch"] for step in steps(tmp_path, where, node="a", count=2)] == [1, 2]
    assert f"{tmp_path}/bucket/toy/trials/0: " in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_study_and_its_models_are_there_when_it_ends(make_space: MakeSpace, tmp_path: Path) -> None:
    """What is fetched is what was left, and another machine can go on with it."""
    model = {**TINY["model"], "latent_size": {"choice": [10, 11]}}
    space = make_space("training.epochs=2", model=model, objective={}, search={"trials": 2, "sampler": "Grid"})
    uri = (tmp_path / "bucket").as_uri()
    told = {"mirror": uri, "readings": "fake_trials:curve"}
    assert run_space(space, folder=tmp_path / "toy", console=Console(file=StringIO()), **told) == 0
    (folder,) = fetch(place(uri), ["toy"], tmp_path / "elsewhere", heavy=True)
    for name in ("journal.jsonl", "trials.parquet", "metrics.parquet", "space.yaml", "trials/0/last.txt"):
        assert (folder / name).read_bytes() == (tmp_path / "toy" / name).read_bytes(), name
    assert load(folder).notes == ()
    assert run_space(space, folder=folder, resume=True, console=Console(file=StringIO()), **told) == 0
