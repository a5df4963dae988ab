"""A study goes on as what it was, unless it is meant to change; then it says so, and keeps what it measured."""

from __future__ import annotations

from collections.abc import Mapping
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
from flowsearch.results.journal import encode
from flowsearch.search import study
from flowsearch.search.budget import driven
from flowsearch.search.changes import ABSENT, Change, changes, refuse, stranded
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


def goes_on(space: Space, folder: Path, changed: list[Change], checksum: str | None = None) -> None:
    """Resume without Ray: what `searched` would hand to workers goes to a loop."""

    def searched(*_: Any) -> None:
        simulate(space, folder)

    def facts(*arguments: Any) -> dict[str, Any]:
        return {**known(*arguments), "corpus_checksum": checksum}

    known = study.facts
    with mock.patch.multiple(study, searched=searched, facts=facts):
        run_space(space, folder=folder, resume=True, changed=changed, console=Console(file=StringIO()))


def test_what_is_as_it_was_is_no_change(make_space: MakeSpace, tmp_path: Path) -> None:
    began(make_space(search=SECTION), tmp_path / "toy")
    longer = make_space("search.trials=9", "resources.concurrent=1", "data.root=elsewhere", search=SECTION)
    assert changes(tmp_path / "toy", longer, "0" * 64, CODE) == []
    assert changes(tmp_path / "toy", longer, None, {"version": None, "commit": None}) == []
    refuse(tmp_path / "toy", [])


def test_moved_texts_strand_no_trial(make_space: MakeSpace, tmp_path: Path) -> None:
    """What they say has a checksum; another change was meant beside."""
    began(make_space(search=SECTION), tmp_path / "toy")
    moved = make_space("data.root=elsewhere", search=SECTION)
    search, _ = replay(moved, read(tmp_path / "toy" / "journal.jsonl").events)
    left = unfinished(search)
    assert left
    assert stranded(tmp_path / "toy", search, left, [Change("search.seeds", 1, 2)]) == []


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


class Killed(Exception):
    """The driver dies here."""


@pytest.mark.parametrize("at", range(5))
def test_a_driver_killed_while_it_takes_up_a_change_asks_for_it_again(
    make_space: MakeSpace, tmp_path: Path, at: int
) -> None:
    """Whenever it dies, a stranded trial has ended or the change is still one."""
    space, folder = make_space(search=SECTION), tmp_path / "toy"
    began(space, folder)
    append, left = Journal.append, iter(range(at, -1, -1))

    def dies(self: Journal, event: Mapping[str, Any]) -> None:
        if not next(left):
            raise Killed
        append(self, event)

    with mock.patch.object(Journal, "append", dies), pytest.raises(Killed):
        goes_on(space, folder, changes(folder, space, "1" * 64, CODE), checksum="1" * 64)
    search, _ = replay(space, read(folder / "journal.jsonl").events)
    left_over = changes(folder, space, "1" * 64, study.code())
    assert unfinished(search) == ([1] if at < 3 else [])
    assert [change.path for change in left_over if change.path == "corpus"] == (["corpus"] if at < 4 else [])


def test_the_night_before_a_change_is_not_paid_for(make_space: MakeSpace, tmp_path: Path) -> None:
    """Trials that a change has stranded end before the journal has the new facts, and a budget counts sessions."""
    space, folder = make_space(search=SECTION), tmp_path / "toy"
    began(space, folder)
    journal = folder / "journal.jsonl"
    early = [{**event, "time": event["time"] - 36000} for event in read(journal).events]
    journal.write_bytes(b"".join(map(encode, early)))
    goes_on(space, folder, changes(folder, space, "1" * 64, CODE))
    assert driven(read(journal).events) < 3600


def test_a_study_that_began_while_another_driver_waited_is_not_begun_again(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    space, folder = make_space(search=SECTION), tmp_path / "toy"
    began(space, folder)
    before = (folder / "journal.jsonl").read_bytes()
    with (
        mock.patch.object(study, "searched", side_effect=Killed),
        pytest.raises(StudyError, match="this study exists; --resume goes on with it"),
    ):
        run_space(space, folder=folder, console=Console(file=StringIO()))
    assert (folder / "journal.jsonl").read_bytes() == before


def test_another_corpus_ends_what_was_running(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search=SECTION)
    began(space, tmp_path / "toy")
    goes_on(space, tmp_path / "toy", changes(tmp_path / "toy", space, "1" * 64, CODE))
    found = [trial.state for trial in load_tables(tmp_path / "toy").trials.values()]
    assert found == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
