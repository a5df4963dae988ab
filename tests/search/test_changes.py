"""A study goes on as what it was, unless it is meant to change; then it says so, and keeps what it measured."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from rich.console import Console
from simulation import Countdown, Halt, rows, simulate
from toy_spaces import MakeSpace

from flowsearch.errors import StudyError
from flowsearch.results import Journal, read
from flowsearch.results import load as load_tables
from flowsearch.search import study
from flowsearch.search.changes import ABSENT, Change, changes, refuse
from flowsearch.search.resume import replay, unfinished
from flowsearch.search.space import Space
from flowsearch.search.study import run_space

CODE = {"version": "0.1.0", "commit": "a" * 40}
SECTION = {"trials": 6, "sampler": "Random"}


def began(space: Space, folder: Path, reports: int = 13) -> None:
    """A study that was killed after some reports."""
    folder.mkdir()
    (folder / "space.yaml").write_text(study.described(space))
    with Journal(folder / "journal.jsonl") as journal:
        versions = {"flowsearch": CODE["version"]}
        journal.append({"event": "study", "versions": versions, "commit": CODE["commit"], "corpus_checksum": "0" * 64})
    with pytest.raises(Halt):
        simulate(space, folder, watcher=Countdown(reports))


def goes_on(space: Space, folder: Path, changed: list[Change]) -> None:
    """Resume without Ray: what `searched` would hand to workers goes to a loop."""

    def searched(*_: Any) -> None:
        simulate(space, folder)

    with mock.patch.object(study, "searched", searched):
        run_space(space, folder=folder, resume=True, changed=changed, console=Console(file=StringIO()))


def test_what_is_as_it_was_is_no_change(make_space: MakeSpace, tmp_path: Path) -> None:
    began(make_space(search=SECTION), tmp_path / "toy")
    longer = make_space("search.trials=9", "resources.concurrent=1", search=SECTION)
    assert changes(tmp_path / "toy", longer, "0" * 64, CODE) == []
    assert changes(tmp_path / "toy", longer, None, {"version": None, "commit": None}) == []
    refuse(tmp_path / "toy", [])


def test_a_key_that_an_older_version_did_not_have_is_no_change(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search=SECTION)
    began(space, tmp_path / "toy")
    file = tmp_path / "toy" / "space.yaml"
    text = file.read_text()
    file.write_text("".join(line for line in text.splitlines(keepends=True) if "accumulate" not in line))
    assert file.read_text() != text
    assert changes(tmp_path / "toy", space, None, CODE) == []
    new = make_space("training.accumulate=2", search=SECTION)
    assert changes(tmp_path / "toy", new, None, CODE) == [Change("training.accumulate", ABSENT, 2)]


def test_every_change_is_named_and_refused(make_space: MakeSpace, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    began(make_space(search=SECTION), folder)
    other = make_space("training.epochs=5", "model.posterior={IAF:{k:2}}", "search.sampler=TPE", search=SECTION)
    found = changes(folder, other, "1" * 64, {"version": "0.2.0", "commit": "b" * 40})
    with pytest.raises(StudyError) as refused:
        refuse(folder, found)
    said = str(refused.value)
    assert "\n" not in said
    for part in (
        "training.epochs was 9 and is 5; ",
        "model.posterior.IAF.k was absent and is 2; ",
        "code.version was '0.1.0' and is '0.2.0'; ",
        "code.commit was 'aaaaaaaaaaaa...' and is 'bbbbbbbbbbbb...'; ",
        "corpus was '000000000000...' and is '111111111111...'; ",
        "--allow-change goes on with it all the same",
    ):
        assert part in said


def test_a_space_file_that_cannot_be_read_is_a_change(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search=SECTION)
    began(space, tmp_path / "toy")
    (tmp_path / "toy" / "space.yaml").write_text("training: {epoch: 3}\n")
    (change,) = changes(tmp_path / "toy", space, None, CODE)
    assert (change.path, change.now) == ("space.yaml", "what this version reads")


def test_an_allowed_change_is_recorded_and_asked_for_once(make_space: MakeSpace, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    began(make_space(search=SECTION), folder)
    new = make_space("search.pruner={ASHA:{reduction_factor:2}}", search=SECTION)
    changed = changes(folder, new, None, CODE)
    goes_on(new, folder, changed)
    (event,) = [event for event in read(folder / "journal.jsonl").events if event["event"] == "change"]
    assert event["changes"] == {path: [before, now] for path, before, now in changed}
    assert changes(folder, new, None, study.code()) == []
    assert not [event for event in read(folder / "journal.jsonl").events if "changed" in str(event.get("reason"))]


def test_a_narrower_space_keeps_what_was_measured_and_ends_what_does_not_fit(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    """A trial that ran under other values cannot go on as if nothing had happened, and is not thrown away either."""
    folder = tmp_path / "toy"
    wide = make_space(search=SECTION)
    began(wide, folder, reports=15)
    before = rows(folder)
    new = make_space("training.epochs=5", "objective.beta={uniform:[2.0,3.0]}", search={**SECTION, "trials": 8})
    goes_on(new, folder, changes(folder, new, None, CODE))
    search, _ = replay(new, read(folder / "journal.jsonl").events)
    assert not unfinished(search)
    assert rows(folder)[: len(before)] == before
    assert len(search.trials) == 8
    assert [trial.state for trial in search.trials[:2]] == ["COMPLETE", "FAIL"]
    assert search.trials[1].reason == "its configuration or its corpus was changed while it ran"
    assert all(trial.params["objective.beta"] < 2 for trial in search.trials[:2])
    assert all(trial.params["objective.beta"] >= 2 for trial in search.trials[2:])
    assert len(search.trials[0].elbo) == 9
    assert {len(trial.elbo) for trial in search.trials[2:]} == {5}
    assert {trial.state for trial in load_tables(folder).trials.values()} == {"COMPLETE", "FAIL"}


def test_another_corpus_ends_what_was_running(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search=SECTION)
    began(space, tmp_path / "toy")
    goes_on(space, tmp_path / "toy", changes(tmp_path / "toy", space, "1" * 64, CODE))
    found = [trial.state for trial in load_tables(tmp_path / "toy").trials.values()]
    assert found == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
