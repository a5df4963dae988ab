"""Replay decides as the search would have, and counts what that costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from simulation import simulate
from toy_spaces import MakeSpace

from flowsearch.errors import BadInput, StudyError
from flowsearch.results import Journal
from flowsearch.search.pruning import ASHA, PRUNERS, Curve, Nothing, stops
from flowsearch.search.replay import Recorded, outcome, parsed, permutations, recorded, replay, row, warmup, winner

RESULTS = Path(__file__).parents[2] / "results"
WARMUPS = {"warmup_epochs": {"int": [0, 3]}, "beta": {"choice": [0.3, 0.9]}}


def whole(number: int, *elbo: float, warmup: int = 0, collapsed: bool = False, is_whole: bool = True) -> Recorded:
    return Recorded(number, Curve(elbo, warmup, [10.0] * len(elbo)), is_whole, collapsed)


@pytest.mark.parametrize("resource", ["epochs", "epochs_after_warmup", "seconds"])
@pytest.mark.parametrize("workers", [1, 3])
def test_it_decides_as_the_search_did(make_space: MakeSpace, tmp_path: Path, resource: str, workers: int) -> None:
    """The curves of an unpruned search, replayed in their order, stop where the pruned search stopped them."""
    knobs = {"reduction_factor": 2, "resource": resource}
    section = {"trials": 14, "sampler": "Random"}
    free = simulate(make_space(objective=WARMUPS, search=section), tmp_path / "toy", workers=workers)
    pruned = make_space(objective=WARMUPS, search={**section, "pruner": {"ASHA": knobs}})
    live = simulate(pruned, tmp_path / "pruned", workers=workers)
    (tmp_path / "toy" / "space.yaml").write_text(pruned.text())
    curves, notes = recorded(tmp_path / "toy", everything=False)
    assert not notes
    assert [one.curve.warmup_epochs for one in curves] == [trial.warmup_epochs for trial in free.trials]
    found = stops(ASHA(3, **knobs), [one.curve for one in curves], workers=workers)
    assert found == [trial.last_epoch if trial.state == "PRUNED" else None for trial in live.trials]
    assert any(found)


def test_what_it_counts() -> None:
    curves = [whole(0, -9.0, -5.0), whole(1, -8.0, -6.0, collapsed=True), whole(2, -7.0, -7.0)]
    kept = outcome(curves, [0, 1, 2], [None] * 3)
    assert (kept.epochs, kept.seconds, kept.regret, kept.killed) == (6, 60.0, 0.0, frozenset())
    lost = outcome(curves, [2, 0, 1], [None, 1, 1])
    assert (lost.epochs, lost.seconds, lost.regret, lost.killed) == (4, 40.0, 2.0, frozenset({0, 1}))
    found = row("x", curves, [kept, lost])
    assert found["epochs_saved"] == pytest.approx(100 / 6)
    assert (found["regret"], found["regret_stderr"], found["regret_worst"]) == (1.0, 1.0, 2.0)
    assert (found["winner_killed"], found["killed"]) == (50.0, 1.0)
    assert (found["collapsed_killed"], found["collapsed_left"]) == (50.0, 25.0)


def test_an_order_that_leaves_nobody_counts_what_was_seen() -> None:
    curves = [whole(0, -9.0, -5.0), whole(1, -8.0, -6.0)]
    assert outcome(curves, [0, 1], [1, 1]).regret == 3.0


def test_a_trial_that_was_stopped_takes_part_but_is_neither_winner_nor_regret() -> None:
    curves = [whole(0, -9.0, -5.0), whole(1, -2.0, is_whole=False, collapsed=True)]
    assert winner(curves).number == 0
    found = outcome(curves, [1, 0], [None, 1])
    assert (found.epochs, found.regret) == (2, 4.0)
    assert row("x", curves, [found])["collapsed_left"] is None


def test_no_pruner_saves_and_loses_nothing_and_orders_are_the_same_for_all() -> None:
    orders = permutations(7, 20, 3)
    assert [list(order) for order in orders] == [list(order) for order in permutations(7, 20, 3)]
    assert len({tuple(order) for order in orders}) > 15
    assert stops(Nothing(), [Curve([-1.0]), Curve([-2.0, -3.0])]) == [None, None]


def events(tmp_path: Path, *, state: str = "COMPLETE", trials: int = 3, phase: str = "search") -> Path:
    folder = tmp_path / "demo"
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text("objective: {warmup_epochs: 1}\nsearch: {rows: {}}\n")
    with Journal(folder / "journal.jsonl") as journal:
        for number in range(trials):
            journal.append({"event": "start", "trial": number, "params": {}, "seed": 0, "label": "x", "phase": phase})
            for epoch in (1, 2):
                readings = [{"split": "valid", "values": {"elbo": -9.0 + number, "kl": 1.0}}]
                journal.append(
                    {"event": "report", "trial": number, "epoch": epoch, "readings": readings, "seconds": 2.5}
                )
            journal.append({"event": "finish", "trial": number, "state": state, "reason": None})
    return folder


def test_only_complete_trials_of_the_search_enter_unless_all_are_asked_for(tmp_path: Path) -> None:
    assert len(recorded(events(tmp_path), everything=False)[0]) == 3
    cut = events(tmp_path, state="PRUNED", trials=5)
    assert len(recorded(cut, everything=False)[0]) == 0
    assert len(recorded(cut, everything=True)[0]) == 5
    assert recorded(events(tmp_path, trials=9, phase="confirm"), everything=True)[0] == []


def test_seconds_are_those_that_the_pruner_saw(tmp_path: Path) -> None:
    curves, _ = recorded(events(tmp_path), everything=False)
    assert [one.curve for one in curves] == [Curve([-9.0 + n] * 2, 1, [2.5, 2.5]) for n in range(3)]


def test_damage_is_told_and_what_is_good_is_shown(tmp_path: Path) -> None:
    folder = events(tmp_path)
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], lines[4].replace(b"demo", b"dmeo").replace(b"x", b"y"), *lines[5:]]))
    found = replay(tmp_path, "demo", orders=2)
    assert len(found.rows) == 2
    assert found.notes == [f"{journal}: 1 damaged line(s) skipped"]


def test_a_trial_whose_start_was_lost_does_not_enter(make_space: MakeSpace, tmp_path: Path) -> None:
    """Its warm-up was drawn, and is not known."""
    space = make_space(objective=WARMUPS, search={"trials": 4, "sampler": "Random"})
    simulate(space, tmp_path / "toy")
    (tmp_path / "toy" / "space.yaml").write_text(space.text())
    journal = tmp_path / "toy" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    start = next(place for place, line in enumerate(lines) if b'"event":"start"' in line and b'"trial":2' in line)
    journal.write_bytes(b"".join([*lines[:start], lines[start].replace(b"start", b"stars"), *lines[start + 1 :]]))
    curves, notes = recorded(tmp_path / "toy", everything=True)
    assert [one.number for one in curves] == [0, 1, 3]
    assert notes == [f"{journal}: 1 damaged line(s) skipped"]


def test_the_warm_up_is_that_of_the_trial(make_space: MakeSpace, tmp_path: Path) -> None:
    rows = {"A": {"objective.warmup_epochs": 2}, "B": {"objective.beta": 0.5}}
    space = make_space(
        objective={"warmup_epochs": 3}, model={"latent_size": 16}, search={"rows": rows, "sampler": "Grid"}
    )
    search = simulate(space, tmp_path / "a")
    assert [warmup(trial.params, space.resolved) for trial in search.trials] == [2, 3]
    assert [trial.warmup_epochs for trial in search.trials] == [2, 3]


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_replayed(tmp_path: Path, name: str) -> None:
    events(tmp_path, trials=8)
    text = json.dumps({name: {"max_epochs": 2}} if name == "Hyperband" else name)
    first, again = (replay(tmp_path, "demo", [text], orders=5, seed=1) for _ in range(2))
    assert first == again
    assert [one["pruner"] for one in first.rows] == ["none", text]


def test_the_committed_studies_can_be_replayed() -> None:
    for study, complete in (("iaf-yelp", 2), ("iaf-ptb", 1)):
        found = replay(RESULTS, study, ["ASHA", "{ASHA: {resource: seconds}}"], orders=5, everything=True)
        assert len(found.rows) == 3
        assert found.caption[0].startswith(f"Replayed: {complete} COMPLETE trials of the search, and ")
        assert found.rows[0]["epochs_saved"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ASAH", "--pruner: 'ASAH'; unknown name; did you mean 'ASHA'?"),
        ("{ASHA: {resource: hours}}", "--pruner: resource: 'hours'; input should be"),
        ("{ASHA: {reduction_facto: 2}}", "--pruner: reduction_facto: 2; unknown key; did you mean 'reduction_factor'?"),
        ("{Hyperband: {}}", "--pruner: max_epochs: missing"),
        ("{ASHA: [", "--pruner:2:1: "),
        ("[ASHA]", "--pruner: expected a name or {Name: {knob: value}}"),
    ],
)
def test_a_pruner_that_is_none_is_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parsed(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_without_whole_curves_there_is_nothing_to_replay(tmp_path: Path) -> None:
    events(tmp_path, state="PRUNED")
    with pytest.raises(StudyError, match="no trial of the search is COMPLETE"):
        replay(tmp_path, "demo", everything=True)
    with pytest.raises(StudyError, match="no study 'other'"):
        replay(tmp_path, "other")


def test_it_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from flowsearch.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); "
        "print(*({'torch', 'ray', 'hydra', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    command = ["replay", "iaf-yelp", "--results", str(RESULTS), "--all", "--orders", "2", "--format", "csv"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    head, none, asha = done.stdout.splitlines()
    assert head.startswith("study,pruner,epochs_saved,seconds_saved,regret,regret_stderr,regret_worst,winner_killed")
    assert none.startswith("iaf-yelp,none,0.0,0.0,0.0,0.0,0.0,0.0,0")
    assert asha.startswith("iaf-yelp,ASHA,")
