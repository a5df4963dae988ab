"""The search without Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_trials
import pytest
from optuna.trial import TrialState
from simulation import Countdown, Halt, curves, rows, simulate
from toy_spaces import MakeSpace

from flowsearch.errors import FlowsearchError
from flowsearch.results import Journal, fold, read
from flowsearch.search.asktell import AskTell, Verdict
from flowsearch.search.recorder import Recorder, Watcher
from flowsearch.search.resume import replay, unfinished
from flowsearch.search.space import grid, rebuild

PRUNED = {"trials": 12, "pruner": {"ASHA": {"reduction_factor": 2}}}


def test_states_and_values_are_optunas(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(make_space(search=PRUNED), tmp_path / "a", workers=3)
    states = {trial.state for trial in search.study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for ours, theirs in zip(search.trials, search.study.trials, strict=True):
        assert ours.number == theirs.number
        assert ours.state == theirs.state.name
        assert theirs.intermediate_values == ours.elbo
        expected = max(ours.elbo.values()) if ours.state == "COMPLETE" else ours.elbo[ours.last_epoch]
        assert theirs.value == expected
        assert theirs.user_attrs["seed"] == ours.seed
        assert theirs.user_attrs["kl"] == 2.0
        assert theirs.user_attrs["seconds"] == len(ours.elbo)


def test_the_journal_tells_the_same_states(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(make_space(search=PRUNED), tmp_path / "a", workers=3)
    told = fold(read(tmp_path / "a" / "journal.jsonl").events)
    for trial in search.study.trials:
        assert told.trials[trial.number].state == trial.state.name
        assert told.trials[trial.number].params == trial.params
        assert {e for n, e, split in told.readings if n == trial.number and split == "valid"} == set(
            trial.intermediate_values
        )


def test_a_trial_that_reaches_its_last_epoch_is_complete_however_bad(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("training.epochs=4", search={"trials": 6, "pruner": {"ASHA": {"min_epochs": 4}}})
    search = simulate(space, tmp_path / "a")
    assert {trial.state for trial in search.trials} == {"COMPLETE"}


def test_replicates_are_consecutive_and_differ_by_seed_only(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(make_space(search={"trials": 4, "seeds": 3, "sampler": "Random"}, seed=5), tmp_path / "a")
    assert len(search.trials) == 12
    for first in range(0, 12, 3):
        group = search.trials[first : first + 3]
        assert [trial.seed for trial in group] == [5, 6, 7]
        assert len({json.dumps(trial.params) for trial in group}) == 1
        assert [{**trial.config, "seed": 0} for trial in group] == [{**group[0].config, "seed": 0}] * 3
    assert len({json.dumps(trial.params) for trial in search.trials}) == 4


def test_first_comes_first(make_space: MakeSpace, tmp_path: Path) -> None:
    first = [{"model.latent_size": 12, "objective.beta": 0.25}, {"model.latent_size": 30, "objective.beta": 0.5}]
    search = simulate(make_space(search={"trials": 3, "seeds": 2, "first": first}), tmp_path / "a")
    assert [trial.params for trial in search.trials[:4]] == [first[0], first[0], first[1], first[1]]
    assert search.trials[4].params not in first


def test_grid_is_every_point_in_file_order(make_space: MakeSpace, tmp_path: Path) -> None:
    posterior = {"choice": ["Gaussian", {"Planar": {"k": {"int": [1, 3]}}}]}
    model = {"latent_size": {"choice": [8, 4]}, "posterior": posterior}
    space = make_space(model=model, objective={}, search={"sampler": "Grid"})
    search = simulate(space, tmp_path / "a")
    assert [trial.params for trial in search.trials] == grid(space)
    assert len(search.trials) == 8


def test_parameters_of_a_branch_exist_only_in_it(make_space: MakeSpace, tmp_path: Path) -> None:
    posterior = {"choice": ["Gaussian", {"Planar": {"k": {"int": [1, 4]}}}]}
    space = make_space(model={"latent_size": 16, "posterior": posterior}, search={"trials": 30})
    search = simulate(space, tmp_path / "a")
    kinds = {trial.params["model.posterior"] for trial in search.trials}
    assert kinds == {"Gaussian", "Planar"}
    for trial in search.trials:
        assert ("model.posterior.k" in trial.params) == (trial.params["model.posterior"] == "Planar")
        assert {**rebuild(space, trial.params), "seed": trial.seed} == trial.config


@pytest.mark.parametrize("sampler", ["TPE", "Random", "QMC", "CMAES", "Grid"])
@pytest.mark.parametrize("cut", [1, 4, 11, 17])
def test_a_search_that_died_goes_on_as_if_it_had_not(
    make_space: MakeSpace, tmp_path: Path, sampler: str, cut: int
) -> None:
    model = {"latent_size": {"int": [10, 15]}}
    search_section = {**PRUNED, "trials": 10, "sampler": sampler}
    space = make_space(model=model, objective={"beta": {"choice": [0.3, 0.9]}}, search=search_section)
    whole = simulate(space, tmp_path / "whole")
    with pytest.raises(Halt):
        simulate(space, tmp_path / "cut", watcher=Countdown(cut))
    resumed = simulate(space, tmp_path / "cut")
    assert curves(resumed) == curves(whole)
    assert sorted(rows(tmp_path / "cut")) == sorted(rows(tmp_path / "whole"))
    assert [t.system_attrs for t in resumed.study.trials] == [t.system_attrs for t in whole.study.trials]


@pytest.mark.parametrize("lines", range(0, 40, 3))
def test_every_prefix_of_a_journal_can_be_resumed(make_space: MakeSpace, tmp_path: Path, lines: int) -> None:
    space = make_space(search={**PRUNED, "seeds": 2, "trials": 5})
    simulate(space, tmp_path / "a", workers=3)
    journal = tmp_path / "a" / "journal.jsonl"
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:lines])
    journal.write_bytes(kept)
    ended = {n for n, trial in fold(read(journal).events).trials.items() if trial.state != "RUNNING"}
    before = len(rows(tmp_path / "a"))
    search = simulate(space, tmp_path / "a", workers=2)
    assert len(search.trials) == 10
    assert not unfinished(search)
    found = rows(tmp_path / "a")
    assert len(found) == len(set(found))
    assert not ended & {trial for trial, _ in found[before:]}
    for trial in search.trials:
        assert sorted(epoch for number, epoch in found if number == trial.number) == sorted(trial.elbo)


def lose_start(journal: Path, trial: int) -> None:
    """Flip a bit in the first start line of a trial."""
    lines = journal.read_bytes().splitlines(keepends=True)
    place = next(n for n, event in enumerate(read(journal).events) if is_start(event, trial))
    lines[place] = lines[place].replace(b"start", b"stard")
    journal.write_bytes(b"".join(lines))


def is_start(event: Mapping[str, Any], trial: int) -> bool:
    return (event["event"], event.get("trial")) == ("start", trial)


LOST = "its start was lost from the journal"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("trial", [0, 1])
def test_an_unfinished_trial_whose_start_was_lost_fails_on_record(
    make_space: MakeSpace, tmp_path: Path, workers: int, trial: int
) -> None:
    space = make_space(search={"trials": 4})
    with pytest.raises(Halt):
        simulate(space, tmp_path / "a", watcher=Countdown(12), workers=workers)
    journal = tmp_path / "a" / "journal.jsonl"
    states = {number: one.state for number, one in fold(read(journal).events).trials.items()}
    lose_start(journal, trial)
    before = rows(tmp_path / "a")
    search = simulate(space, tmp_path / "a")
    found = fold(read(journal).events).trials
    assert [found[number].state for number in range(4)] == [
        "FAIL" if (number, states.get(number)) == (trial, "RUNNING") else "COMPLETE" for number in range(4)
    ]
    assert (search.trials[trial].state, search.trials[trial].reason) == ("FAIL", LOST)
    assert found[trial].reason == (LOST if states[trial] == "RUNNING" else None)
    after = rows(tmp_path / "a")
    assert after[: len(before)] == before
    assert len(after) == len(set(after))
    assert trial not in {number for number, _ in after[len(before) :]}
    again, verdicts = replay(space, read(journal).events)
    assert (curves(again), verdicts) == (curves(search), {})


@pytest.mark.parametrize("left", [1, 3, None])
def test_any_event_of_a_trial_keeps_its_number(make_space: MakeSpace, tmp_path: Path, left: int | None) -> None:
    """The last trial has lost its start, and has the first of its other lines, or all of them."""
    space = make_space(search={"trials": 3, "sampler": "Random"})
    simulate(space, tmp_path / "a")
    journal = tmp_path / "a" / "journal.jsonl"
    lose_start(journal, 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    start = next(place for place, line in enumerate(lines) if b'"stard"' in line)
    journal.write_bytes(b"".join(lines[: len(lines) if left is None else start + 1 + left]))
    before = rows(tmp_path / "a")
    simulate(make_space(search={"trials": 4, "sampler": "Random"}), tmp_path / "a")
    assert rows(tmp_path / "a") == [*before, *((3, epoch) for epoch in range(1, 10))]
    assert len(fold(read(journal).events).trials) == 4


def test_a_trial_that_was_handed_out_again_is_what_its_other_start_says(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search={"trials": 3, "sampler": "Random"})
    (tmp_path / "a").mkdir()
    journal = tmp_path / "a" / "journal.jsonl"
    search = AskTell(space, 0)
    with Journal(journal) as lines:
        recorder = Recorder(search, lines, tmp_path / "a", Watcher())
        for number in (0, 1):
            task = recorder.next()
            assert task is not None
            recorder.report(number, 1, fake_trials.at(task.config, 1), 1.0)
        recorder.lost(0, "its worker died")
        recorder.next()
    lose_start(journal, 0)
    again, verdicts = replay(space, read(journal).events)
    assert (curves(again), unfinished(again), verdicts) == (curves(search), [0, 1], {})
    assert [trial.attempt for trial in again.trials] == [2, 1]


def test_replicates_of_a_trial_whose_start_was_lost_are_still_those(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search={"trials": 1, "seeds": 3, "sampler": "Random"})
    with pytest.raises(Halt):
        simulate(space, tmp_path / "a", watcher=Countdown(12))
    lose_start(tmp_path / "a" / "journal.jsonl", 1)
    search = simulate(space, tmp_path / "a")
    assert search.trials[1].reason == LOST
    assert (search.trials[2].params, search.trials[2].seed) == (search.trials[0].params, search.trials[0].seed + 2)


def test_an_epoch_that_a_worker_repeats_is_recorded_once(make_space: MakeSpace, tmp_path: Path) -> None:
    def stutters(config: Any, *, directory: Path) -> Any:
        for epoch in (1, 2, 2, 1, 3):
            yield fake_trials.at(config, epoch)

    simulate(make_space(search={"trials": 2}), tmp_path / "a", stutters)
    assert rows(tmp_path / "a") == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]


def test_readings_that_come_late_are_recorded(make_space: MakeSpace, tmp_path: Path) -> None:
    def late(config: Any, *, directory: Path) -> Any:
        yield fake_trials.at(config, 1)
        yield [fake_trials.Reading(1, "test", {"iw_nll": 36.0})]

    search = simulate(make_space(search={"trials": 1}), tmp_path / "a", late)
    told = fold(read(tmp_path / "a" / "journal.jsonl").events)
    assert told.readings[0, 1, "test"] == {"iw_nll": 36.0}
    assert search.study.trials[0].value == fake_trials.at(search.trials[0].config, 1)[1].values["elbo"]


def test_a_search_can_be_made_longer(make_space: MakeSpace, tmp_path: Path) -> None:
    short = simulate(make_space(search={"trials": 4, "sampler": "Random"}), tmp_path / "a")
    longer = simulate(make_space(search={"trials": 9, "sampler": "Random"}), tmp_path / "a")
    at_once = simulate(make_space(search={"trials": 9, "sampler": "Random"}), tmp_path / "b")
    assert curves(longer)[:4] == curves(short)
    assert curves(longer) == curves(at_once)


def test_another_sampler_state_draws_nothing_twice(make_space: MakeSpace, tmp_path: Path) -> None:
    """A journal that the sampler cannot reproduce is still resumed, with fresh random numbers."""
    section = {"trials": 6, "sampler": "Random"}
    drawn = simulate(make_space(search=section, seed=1), tmp_path / "a")
    search = simulate(make_space(search={**section, "trials": 12}, seed=2), tmp_path / "a")
    assert [trial.params for trial in search.trials[:6]] == [trial.params for trial in drawn.trials]
    assert len({json.dumps(trial.params) for trial in search.trials}) == 12


def test_nan_is_a_failure_with_a_reason(make_space: MakeSpace, tmp_path: Path) -> None:
    first = [{"model.latent_size": size, "objective.beta": 0.5} for size in (1, 4, 16)]
    space = make_space(model={"latent_size": {"int": [1, 32]}}, search={"trials": 3, "first": first})
    search = simulate(space, tmp_path / "a", fake_trials.bad)
    assert [(trial.state, trial.reason) for trial in search.trials] == [
        ("FAIL", "kl is not finite at step 12"),
        ("FAIL", "elbo is not finite at epoch 2"),
        ("COMPLETE", None),
    ]
    assert search.study.trials[0].state is TrialState.FAIL
    assert search.study.best_trial.number == 2
    assert curves(replay(space, read(tmp_path / "a" / "journal.jsonl").events)[0])[2] == curves(search)[2]


def test_collapse_is_flagged_once_and_only_after_warm_up(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(
        model={"latent_size": 5}, objective={"warmup_epochs": 4, "beta": {"choice": [1.0]}}, search={"trials": 1}
    )
    watcher = Countdown()
    search = simulate(space, tmp_path / "a", fake_trials.bad, watcher)
    assert watcher.collapses == [(0, 5)]
    assert search.study.trials[0].user_attrs["collapsed_at"] == 5
    assert list(search.study.trials[0].intermediate_values) == [1, 2, 3, 4, 5]


def test_a_worker_that_dies_again_and_again_fails_its_trial(make_space: MakeSpace, tmp_path: Path) -> None:
    search = AskTell(make_space(search={"trials": 1}, resources={"max_failures": 2}), 0)
    (tmp_path / "a").mkdir()
    with Journal(tmp_path / "a" / "journal.jsonl") as journal:
        recorder = Recorder(search, journal, tmp_path / "a", Watcher())
        for attempt in range(1, 12):
            task = recorder.next()
            assert task is not None
            assert (task.trial, search.trials[0].attempt) == (0, attempt)
            recorder.lost(0, "its node was lost", counts=False)
        for _ in range(3):
            assert recorder.next() is not None
            recorder.lost(0, "its worker died")
        assert recorder.next() is None
    assert (search.trials[0].state, search.trials[0].reason) == ("FAIL", "its worker died (3 times)")
    causes = [event["cause"] for event in read(tmp_path / "a" / "journal.jsonl").events if event["event"] == "lost"]
    assert causes == ["node"] * 11 + ["worker"] * 2


def test_a_trial_without_memory_gets_one_more_attempt_in_halves(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("training.accumulate=3", search={"trials": 1})
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "journal.jsonl"
    with Journal(path) as journal:
        recorder = Recorder(AskTell(space, 0), journal, tmp_path / "a", Watcher())
        first = recorder.next()
        recorder.out_of_memory(0, "trace")
        second = recorder.next()
    assert first is not None
    assert second is not None
    assert [task.config["training"]["accumulate"] for task in (first, second)] == [3, 6]
    assert {**first.config, "training": None} == {**second.config, "training": None}
    assert [event["halved"] for event in read(path).events if event["event"] == "start"] == [False, True]
    search, _ = replay(space, read(path).events)  # the driver died; what it knew, the journal knows
    with Journal(path) as journal:
        recorder = Recorder(search, journal, tmp_path / "a", Watcher(), unfinished(search))
        again = recorder.next()
        assert again is not None
        assert again.config == second.config
        recorder.out_of_memory(0, "trace")
        assert recorder.next() is None
    assert search.trials[0].reason == "out of memory, with half the batch at a time as well"


@pytest.mark.parametrize(
    ("number", "said"), [(28, "disk full, 0 rows safe; make room"), (5, r"disk failed \(no\), 0 rows safe; mend it")]
)
def test_a_disk_that_refuses_stops_the_search_with_advice(
    make_space: MakeSpace, tmp_path: Path, number: int, said: str
) -> None:
    class Refusing:
        def append(self, event: Any) -> None:
            raise OSError(number, "no")

    recorder = Recorder(AskTell(make_space(), 0), Refusing(), tmp_path, Watcher())  # type: ignore[arg-type]
    with pytest.raises(FlowsearchError, match=rf"{said} and --resume"):
        recorder.next()
    assert recorder.error is not None


def test_a_checkpoint_goes_when_its_trial_has_ended(make_space: MakeSpace, tmp_path: Path) -> None:
    (tmp_path / "trials" / "0").mkdir(parents=True)
    kept, gone = (tmp_path / "trials" / "0" / name for name in ("best.safetensors", "last.pt"))
    for path in (kept, gone):
        path.touch()
    with Journal(tmp_path / "journal.jsonl") as journal:
        recorder = Recorder(AskTell(make_space(search={"trials": 1}), 0), journal, tmp_path, Watcher())
        recorder.next()
        recorder.lost(0, "its worker died")
        assert gone.exists()
        recorder.next()
        recorder.finish(0, Verdict("FAIL", "kl is not finite at step 12"))
    assert (kept.exists(), gone.exists()) == (True, False)


def test_values_that_do_not_combine_fail_alone(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(objective={"warmup_epochs": {"choice": [0, 5]}}, search={"trials": 8, "sampler": "Random"})
    broken = type(space)(
        space.study,
        {**space.tree, "training": {**space.tree["training"], "epochs": 4}},
        space.search,
        space.resources,
        "",
    )
    search = simulate(broken, tmp_path / "a")
    assert {(trial.params["objective.warmup_epochs"], trial.state) for trial in search.trials} == {
        (0, "COMPLETE"),
        (5, "FAIL"),
    }
    assert all("fewer than training.epochs" in (t.reason or "") for t in search.trials if t.state == "FAIL")
    assert curves(replay(broken, read(tmp_path / "a" / "journal.jsonl").events)[0]) == curves(search)
