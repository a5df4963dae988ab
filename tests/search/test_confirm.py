"""`search.confirm`: the best configurations again, with fresh seeds, when the search is over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

import fake_trials
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from simulation import Countdown, Halt, curves, rows, simulate
from toy_spaces import MakeSpace

from flowsearch.errors import SpaceError
from flowsearch.results import compact, fold, load, read
from flowsearch.search.asktell import AskTell, Trial, Verdict
from flowsearch.search.changes import comparable
from flowsearch.search.resume import replay, unfinished
from flowsearch.search.study import run_space

PRUNED = {"trials": 6, "seeds": 2, "sampler": "Random", "pruner": {"ASHA": {"reduction_factor": 2}}}
CONFIRM = {"best": 2, "seeds": 3}
SECTION = {**PRUNED, "confirm": CONFIRM}


def phases(search: AskTell) -> list[str]:
    return [trial.phase for trial in search.trials]


def of(search: AskTell, phase: str) -> list[Trial]:
    return [trial for trial in search.trials if trial.phase == phase]


def keys(trials: Iterable[Trial]) -> list[tuple[str, int]]:
    """What each trial trains: its configuration and its seed."""
    return [(json.dumps(dict(trial.params), sort_keys=True), trial.seed) for trial in trials]


def ranked(trials: Iterable[Trial]) -> list[str]:
    """Configurations by their mean objective, best first."""
    values: dict[str, list[float]] = {}
    for trial, (params, _) in zip(trials, keys(trials), strict=True):
        if trial.state == "COMPLETE":
            values.setdefault(params, []).append(trial.value or 0.0)
    return sorted(values, key=lambda params: -fmean(values[params]))


def test_the_best_are_trained_to_the_end_with_seeds_that_were_not_used(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(make_space(search=SECTION, seed=5), tmp_path / "a", workers=3)
    assert phases(search) == ["search"] * 12 + ["confirm"] * 6
    assert [trial.number for trial in search.trials] == list(range(18))
    confirmed = of(search, "confirm")
    assert [trial.seed for trial in confirmed] == [7, 8, 9] * 2
    first, second = ranked(of(search, "search"))[:2]
    assert [params for params, _ in keys(confirmed)] == [first] * 3 + [second] * 3
    assert "PRUNED" in {trial.state for trial in of(search, "search")}
    assert {(trial.state, trial.last_epoch) for trial in confirmed} == {("COMPLETE", 9)}
    source = next(trial for trial in search.trials if keys([trial])[0][0] == first)
    assert confirmed[0].config == {**source.config, "seed": 7}
    assert confirmed[0].label == source.label
    assert search.total == 18


def test_optuna_hears_of_the_search_alone(make_space: MakeSpace, tmp_path: Path) -> None:
    plain = simulate(make_space(search=PRUNED), tmp_path / "a", workers=2)
    search = simulate(make_space(search=SECTION), tmp_path / "b", workers=2)
    assert curves(search)[:12] == curves(plain)
    assert [(t.params, t.state, t.value) for t in search.study.trials] == [
        (t.params, t.state, t.value) for t in plain.study.trials
    ]


def test_nothing_is_confirmed_while_the_search_goes_on(make_space: MakeSpace) -> None:
    search = AskTell(make_space(search={"trials": 3, "sampler": "Random", "confirm": {"best": 1, "seeds": 2}}), 0)
    for number in range(3):
        assert search.ask() is not None
        search.report(number, 1, fake_trials.at(search.trials[number].config, 1))
    for number in (0, 2):
        assert search.ask() is None
        search.finish(number, Verdict("COMPLETE"))
    assert search.ask() is None
    assert search.total == 5
    search.finish(1, Verdict("COMPLETE"))
    assert [(trial.phase, trial.number, trial.seed) for trial in (search.ask(), search.ask()) if trial] == [
        ("confirm", 3, 1),
        ("confirm", 4, 2),
    ]
    assert search.ask() is None


def test_a_mean_beats_a_lucky_seed(make_space: MakeSpace) -> None:
    sizes = [{"model.latent_size": size, "objective.beta": 0.5} for size in (10, 20, 30)]
    space = make_space(search={"trials": 3, "seeds": 2, "first": sizes, "confirm": {"best": 1, "seeds": 1}})
    search = AskTell(space, 0)
    for number, elbo in enumerate([-10.0, -50.0, -20.0, -22.0, -5.0, -6.0]):
        assert search.ask() is not None
        search.report(number, 1, [fake_trials.Reading(1, "valid", {"elbo": elbo})])
        search.finish(number, Verdict("COMPLETE" if number < 4 else "PRUNED"))
    confirmed = search.ask()
    assert confirmed is not None
    assert confirmed.params == sizes[1]


def test_a_configuration_that_was_drawn_twice_is_confirmed_once(make_space: MakeSpace, tmp_path: Path) -> None:
    model = {"latent_size": {"int": [15, 16]}}
    section = {"trials": 8, "sampler": "Random", "confirm": {"best": 5, "seeds": 2}}
    search = simulate(make_space(model=model, objective={}, search=section), tmp_path / "a")
    assert len(set(keys(of(search, "search")))) == 2
    assert len(keys(of(search, "confirm"))) == len(set(keys(of(search, "confirm")))) == 4
    assert search.total == len(search.trials) == 12


def test_where_nothing_completed_nothing_is_confirmed(make_space: MakeSpace, tmp_path: Path) -> None:
    first = [{"model.latent_size": size, "objective.beta": 0.5} for size in (1, 4)]
    section = {"trials": 2, "first": first, "confirm": {"best": 2, "seeds": 2}}
    search = simulate(make_space(model={"latent_size": {"int": [1, 32]}}, search=section), tmp_path, fake_trials.bad)
    assert phases(search) == ["search"] * 2
    assert search.total == 2


def test_a_confirming_trial_may_fail_and_is_not_tried_again(make_space: MakeSpace, tmp_path: Path) -> None:
    def unlucky(config: Any, *, directory: Path) -> Any:
        for epoch in range(1, 4):
            yield fake_trials.is_nan(epoch) if config["seed"] == 2 else fake_trials.at(config, epoch)

    space = make_space(search={"trials": 2, "confirm": {"best": 1, "seeds": 3}})
    search = simulate(space, tmp_path / "a", unlucky)
    assert [(trial.seed, trial.state) for trial in of(search, "confirm")] == [
        (1, "COMPLETE"),
        (2, "FAIL"),
        (3, "COMPLETE"),
    ]
    again = simulate(space, tmp_path / "a", unlucky)
    assert [(trial.seed, trial.state) for trial in again.trials] == [(t.seed, t.state) for t in search.trials]


@pytest.mark.parametrize("sampler", ["TPE", "Grid"])
@pytest.mark.parametrize("from_the_end", [1, 8, 20, 26])
def test_killed_while_confirming_it_goes_on_as_if_it_had_not(
    make_space: MakeSpace, tmp_path: Path, sampler: str, from_the_end: int
) -> None:
    model = {"latent_size": {"int": [10, 13]}}
    section = {**SECTION, "sampler": sampler, "trials": 4}
    space = make_space(model=model, objective={}, search=section)
    whole = simulate(space, tmp_path / "whole")
    cut = len(rows(tmp_path / "whole")) - from_the_end
    with pytest.raises(Halt):
        simulate(space, tmp_path / "cut", watcher=Countdown(cut))
    assert "confirm" in phases(replay(space, read(tmp_path / "cut" / "journal.jsonl").events)[0])
    resumed = simulate(space, tmp_path / "cut")
    assert curves(resumed) == curves(whole)
    assert phases(resumed) == phases(whole)
    assert sorted(rows(tmp_path / "cut")) == sorted(rows(tmp_path / "whole"))


def test_every_prefix_of_a_journal_can_be_resumed(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("training.epochs=3", search={**SECTION, "trials": 3, "confirm": {"best": 2, "seeds": 2}})
    whole = simulate(space, tmp_path / "a")
    lines = (tmp_path / "a" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(0, len(lines), 4):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:count]))
        search = simulate(space, folder)
        assert not unfinished(search)
        assert curves(search) == curves(whole)


def test_a_search_made_longer_is_confirmed_anew_and_nothing_twice(make_space: MakeSpace, tmp_path: Path) -> None:
    short = simulate(make_space(search=SECTION, seed=3), tmp_path / "a")
    longer = simulate(make_space(search={**SECTION, "trials": 12}, seed=3), tmp_path / "a")
    plain = simulate(make_space(search={**PRUNED, "trials": 12}, seed=3), tmp_path / "b")
    assert curves(longer)[:18] == curves(short)
    assert curves(longer)[18:30] == curves(plain)[12:]  # the sampler drew what it would have drawn
    assert phases(longer)[18:30] == ["search"] * 12
    assert [trial.seed for trial in of(longer, "search")] == [3, 4] * 12
    found = keys(of(longer, "confirm"))
    assert len(found) == len(set(found))
    best = ranked(of(longer, "search"))[:2]
    assert {params for params, _ in found} == {*best, *ranked(of(short, "search"))[:2]}
    assert best != ranked(of(short, "search"))[:2]
    assert longer.total == len(longer.trials)
    again = simulate(make_space(search={**SECTION, "trials": 12}, seed=3), tmp_path / "a")
    assert curves(again) == curves(longer)


def test_a_search_made_longer_while_it_was_being_confirmed(make_space: MakeSpace, tmp_path: Path) -> None:
    with pytest.raises(Halt):
        simulate(
            make_space(search=SECTION), tmp_path / "a", watcher=Countdown(len_of_search(make_space, tmp_path) + 12)
        )
    search = simulate(make_space(search={**SECTION, "trials": 8}), tmp_path / "a", workers=2)
    assert not unfinished(search)
    found = keys(of(search, "confirm"))
    assert len(found) == len(set(found))
    assert {(params, seed) for params in ranked(of(search, "search"))[:2] for seed in (2, 3, 4)} <= set(found)


def len_of_search(make_space: MakeSpace, tmp_path: Path) -> int:
    simulate(make_space(search=PRUNED), tmp_path / "plain")
    return len(rows(tmp_path / "plain"))


def test_confirming_can_be_asked_for_later_and_no_more(make_space: MakeSpace, tmp_path: Path) -> None:
    plain, asked = make_space(search=PRUNED), make_space(search=SECTION)
    assert comparable(plain) == comparable(asked)
    simulate(plain, tmp_path / "a")
    search = simulate(asked, tmp_path / "a")
    assert phases(search) == ["search"] * 12 + ["confirm"] * 6
    without = simulate(plain, tmp_path / "a")
    assert curves(without) == curves(search)
    assert without.total == 18
    assert phases(simulate(make_space(search={**PRUNED, "trials": 7}), tmp_path / "a"))[18:] == ["search"] * 2


def test_a_sampler_that_differs_keeps_what_was_confirmed(make_space: MakeSpace, tmp_path: Path) -> None:
    before = simulate(make_space(search=SECTION, seed=1), tmp_path / "a")
    events = read(tmp_path / "a" / "journal.jsonl").events
    search, _ = replay(make_space(search={**SECTION, "sampler": "TPE", "trials": 7}, seed=1), events)
    assert curves(search) == curves(before)
    assert phases(search) == phases(before)
    nextly = search.ask()
    assert nextly is not None
    assert (nextly.phase, nextly.number) == ("search", 18)


def test_a_damaged_start_leaves_the_numbers_as_they_are(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search=SECTION)
    simulate(space, tmp_path / "a")
    events = [e for e in read(tmp_path / "a" / "journal.jsonl").events if (e["event"], e.get("trial")) != ("start", 13)]
    search, _ = replay(space, events)
    assert (search.trials[13].state, search.trials[13].phase) == ("FAIL", "confirm")
    assert phases(search) == ["search"] * 12 + ["confirm"] * 6
    again = search.ask()  # what was lost
    assert again is not None
    assert (again.number, again.seed, again.params) == (18, 3, search.trials[12].params)


def test_the_tables_know_the_phase(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(make_space(search=SECTION), tmp_path / "a")
    told = fold(read(tmp_path / "a" / "journal.jsonl").events)
    assert [trial.phase for trial in told.trials.values()] == phases(search)
    compact(tmp_path / "a")
    assert [trial.phase for trial in load(tmp_path / "a").trials.values()] == phases(search)
    (tmp_path / "a" / "journal.jsonl").unlink()
    assert [trial.phase for trial in load(tmp_path / "a").trials.values()] == phases(search)
    earlier = pq.read_table(tmp_path / "a" / "trials.parquet").drop_columns(["phase"])  # as written before phases
    pq.write_table(earlier, tmp_path / "a" / "trials.parquet", write_page_checksum=True)
    assert {trial.phase for trial in load(tmp_path / "a").trials.values()} == {"search"}


@pytest.mark.parametrize(
    ("confirm", "message"),
    [
        ({"best": 0, "seeds": 1}, "search.confirm.best: 0; input should be greater than 0"),
        ({"best": 1, "seeds": 1, "seed": 1}, "search.confirm.seed: 1; unknown key; did you mean 'seeds'?"),
        ({"best": 1}, "search.confirm.seeds: missing"),
        (3, "search.confirm: 3; input should be"),
    ],
)
def test_what_is_no_way_to_confirm_is_one_line(make_space: MakeSpace, confirm: Any, message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        make_space(search={"trials": 2, "confirm": confirm})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_command_line_can_ask_for_it(make_space: MakeSpace) -> None:
    space = make_space("search.confirm={best: 2, seeds: 3}")
    assert space.search.confirm == make_space(search={"trials": 1, "confirm": CONFIRM}).search.confirm
    assert make_space("search.confirm=null", search=SECTION).search.confirm is None


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_study_confirms_at_its_end(make_space: MakeSpace, tmp_path: Path) -> None:
    out = Console(file=StringIO(), width=200)
    folder = tmp_path / "toy"
    code = run_space(make_space(search=SECTION), folder=folder, readings="fake_trials:curve", console=out)
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert code == 0
    trials = load(folder).trials
    assert [trial.phase for trial in trials.values()] == ["search"] * 12 + ["confirm"] * 6
    assert {trial.state for trial in trials.values() if trial.phase == "confirm"} == {"COMPLETE"}
    assert "trial 12 starts to confirm: " in said
    assert "18 of 18 trials ended" in said
    assert said.count("  confirmed  ") == 2
    assert "nats/doc over 3 fresh seeds" in said
