"""Requirements, objectives and resources: the laws of the search hold with each, and each does what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fake_trials
import optuna
import pytest
from optuna.trial import TrialState
from simulation import Countdown, Halt, curves, rows, simulate
from toy_spaces import MakeSpace

from flowsearch.errors import SpaceError
from flowsearch.report.status import best
from flowsearch.results import Reading, fold, load, read
from flowsearch.search import goals
from flowsearch.search.asktell import AskTell
from flowsearch.search.constraints import Limit, broken
from flowsearch.search.resume import replay
from flowsearch.search.samplers import CONSTRAINED, SAMPLERS, SINGLE

WARMUPS = {"warmup_epochs": {"int": [0, 3]}, "beta": {"choice": [0.3, 0.9]}}
TWO = {"elbo": "maximize", "active_units": "maximize"}
AT_LEAST_16 = {"active_units": {"min": 16}}
ASHA = {"reduction_factor": 2}
GOALS: dict[str, dict[str, Any]] = {
    "epochs": {"pruner": {"ASHA": {**ASHA, "resource": "epochs"}}},
    "seconds": {"pruner": {"ASHA": {**ASHA, "resource": "seconds"}}},
    "after the longest warm-up": {"pruner": {"ASHA": {**ASHA, "after_longest_warmup": True}}},
    "required": {"require": AT_LEAST_16},
    "required, with patience": {"require": {"active_units": {"min": 16, "after": 2}}, "pruner": {"ASHA": ASHA}},
    "two objectives": {"objectives": TWO},
    "two objectives, confirmed": {"objectives": TWO, "confirm": {"best": 2, "seeds": 1}},
    "two objectives, required": {"objectives": TWO, "require": {"active_units": {"max": 20}}},
}


def goal_space(make_space: MakeSpace, goal: str, **search: Any) -> Any:
    return make_space(objective=WARMUPS, search={"trials": 7, **GOALS[goal], **search})


def told(search: AskTell) -> list[Any]:
    return [(t.state, t.values, t.constraints, t.intermediate_values) for t in search.study.trials]


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("sampler", "cut"), [("TPE", 2), ("TPE", 17), ("Random", 9)])
def test_a_search_that_died_goes_on_as_if_it_had_not(
    make_space: MakeSpace, tmp_path: Path, goal: str, sampler: str, cut: int
) -> None:
    model = {"latent_size": {"int": [14, 18]}}
    space = make_space(model=model, objective=WARMUPS, search={"trials": 8, "sampler": sampler, **GOALS[goal]})
    whole = simulate(space, tmp_path / "whole")
    with pytest.raises(Halt):
        simulate(space, tmp_path / "cut", watcher=Countdown(cut))
    resumed = simulate(space, tmp_path / "cut")
    assert curves(resumed) == curves(whole)
    assert told(resumed) == told(whole)
    assert sorted(rows(tmp_path / "cut")) == sorted(rows(tmp_path / "whole"))


@pytest.mark.parametrize("goal", GOALS)
def test_a_journal_gives_the_same_state_again(make_space: MakeSpace, tmp_path: Path, goal: str) -> None:
    space = goal_space(make_space, goal, seeds=2)
    search = simulate(space, tmp_path / "a", workers=3)
    again, verdicts = replay(space, read(tmp_path / "a" / "journal.jsonl").events)
    assert not verdicts
    assert curves(again) == curves(search)
    assert told(again) == told(search)
    assert [trial.broken for trial in again.trials] == [trial.broken for trial in search.trials]
    assert [trial.number for trial in again.pareto()] == [trial.number for trial in search.pareto()]


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("lines", [5, 26])
def test_every_prefix_of_a_journal_can_be_resumed(make_space: MakeSpace, tmp_path: Path, goal: str, lines: int) -> None:
    space = goal_space(make_space, goal)
    simulate(space, tmp_path / "a", workers=3)
    journal = tmp_path / "a" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    ended = {n for n, trial in fold(read(journal).events).trials.items() if trial.state != "RUNNING"}
    before = len(rows(tmp_path / "a"))
    search = simulate(space, tmp_path / "a", workers=2)
    found = rows(tmp_path / "a")
    assert all(trial.state != "RUNNING" for trial in search.trials)
    assert len(found) == len(set(found))
    assert not ended & {trial for trial, _ in found[before:]}


@pytest.mark.parametrize("goal", GOALS)
def test_states_are_optunas(make_space: MakeSpace, tmp_path: Path, goal: str) -> None:
    search = simulate(goal_space(make_space, goal), tmp_path / "a", workers=3)
    for ours, theirs in zip(search.of("search"), search.study.trials, strict=True):
        assert ours.state == theirs.state.name
        if ours.state == "COMPLETE":
            assert theirs.values == [ours.best[name] for name in search.space.search.objectives]


def test_a_limit_stops_a_trial_after_its_warm_up_and_says_so(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(goal_space(make_space, "required"), tmp_path / "a")
    poor = [trial for trial in search.trials if trial.params["model.latent_size"] < 16]
    assert poor
    for trial in poor:
        epoch = trial.params["objective.warmup_epochs"] + 1
        assert (trial.state, trial.reason) == ("PRUNED", f"requires active_units >= 16 at epoch {epoch}")
        assert trial.broken == "active_units >= 16"
    assert {trial.state for trial in search.trials if trial not in poor} == {"COMPLETE"}
    for trial in search.study.trials:
        assert trial.constraints == {"active_units": 16.0 - trial.params["model.latent_size"]}


def test_patience_is_counted_from_the_end_of_the_warm_up(make_space: MakeSpace, tmp_path: Path) -> None:
    goal = {"require": {"active_units": {"min": 99, "after": 2}}}
    space = make_space("training.epochs=5", objective=WARMUPS, search={"trials": 8, **goal})
    for trial in simulate(space, tmp_path / "a").trials:
        stop = trial.params["objective.warmup_epochs"] + 3
        assert trial.last_epoch == min(stop, 5)
        assert trial.state == ("PRUNED" if stop < 5 else "COMPLETE")  # its last epoch stops nothing
        assert trial.broken == "active_units >= 99"


def test_a_trial_that_breaks_a_limit_is_never_first(make_space: MakeSpace, tmp_path: Path) -> None:
    """Here the best ELBO is that of 16 dimensions, and only fewer are allowed."""
    first = [{"model.latent_size": size, "objective.beta": 0.5} for size in (16, 12, 10)]
    search = {"trials": 3, "first": first, "require": {"active_units": {"max": 12, "after": 99}}}
    space = make_space(search={**search, "confirm": {"best": 2, "seeds": 1}})
    done = simulate(space, tmp_path / "a")
    assert goals.best(done)[0].number == 1
    assert goals.best(done)[-1].number == 0
    assert [trial.params["model.latent_size"] for trial in done.of("confirm")] == [12, 10]
    lines = list(goals.concluded(done, lambda values: f"{values['elbo']:.2f}"))
    assert [line.endswith("breaks active_units <= 12") for line in lines] == [False] * (len(lines) - 1) + [True]
    assert done.study.best_trial.number == 1  # Optuna knows it, too


@pytest.mark.parametrize("objectives", [{"elbo": "maximize"}, {"elbo": "maximize", "kl": "maximize"}], ids=len)
def test_an_estimate_that_is_no_bound_comes_after_all_that_are(
    make_space: MakeSpace, tmp_path: Path, objectives: dict[str, str]
) -> None:
    """Here the highest value is that of 16 dimensions, and a critic has measured it."""
    first = [{"model.latent_size": size, "objective.beta": 0.5} for size in (16, 12, 10)]
    search = {"trials": 3, "first": first, "objectives": objectives, "confirm": {"best": 2, "seeds": 1}}

    def by_critic(config: Mapping[str, Any], *, directory: Path) -> Iterator[list[Reading]]:
        for train, valid in fake_trials.curve(config, directory=directory):
            is_bound = float(config["model"]["latent_size"] != 16)
            yield [train, Reading(valid.epoch, "valid", {**valid.values, "kl_is_bound": is_bound})]

    folder = tmp_path / "a"
    done = simulate(make_space(search=search), folder, by_critic)
    assert max(done.of("search"), key=lambda trial: trial.best["elbo"]).number == 0
    assert goals.best(done)[0].params["model.latent_size"] == 12
    assert [trial.params["model.latent_size"] for trial in done.of("confirm")] == [12, 10]
    lines = list(goals.concluded(done, lambda values: f"{values['elbo']:.2f}"))
    assert [line.endswith("; no bound") for line in lines].count(True) == (len(objectives) == 1)
    shown, _, value = best(load(folder))
    assert shown is not None
    assert (shown.number, value) == (1, -done.trials[1].best["elbo"])


def test_the_sampler_learns_from_a_limit(make_space: MakeSpace, tmp_path: Path) -> None:
    """TPE goes where the ELBO is best, at 16 dimensions, unless at least 26 are required."""

    def share(name: str, **section: Any) -> float:
        space = make_space("training.epochs=1", search={"trials": 50, **section})
        later = simulate(space, tmp_path / name).trials[20:]
        return sum(trial.params["model.latent_size"] >= 26 for trial in later) / len(later)

    assert share("required", require={"active_units": {"min": 26, "after": 99}}) > 0.4
    assert share("free") < 0.2


def test_two_objectives_are_of_one_epoch_the_one_with_the_best_elbo(make_space: MakeSpace, tmp_path: Path) -> None:
    def falls(config: Any, *, directory: Path) -> Any:
        for epoch in range(1, 6):
            train, valid = fake_trials.at(config, epoch)
            elbo = -40.0 - abs(epoch - 2)
            yield [train, fake_trials.Reading(epoch, "valid", {**valid.values, "elbo": elbo, "kl": 5.0 - epoch})]

    space = make_space(search={"trials": 1, "objectives": {"elbo": "maximize", "kl": "maximize"}})
    assert simulate(space, tmp_path / "a", falls).study.trials[0].values == [-40.0, 3.0]


def test_the_front_is_optunas_and_what_the_end_tells(make_space: MakeSpace, tmp_path: Path) -> None:
    search = simulate(goal_space(make_space, "two objectives", trials=20), tmp_path / "a")
    front = search.pareto()
    assert sorted(trial.number for trial in front) == [trial.number for trial in search.study.best_trials]
    assert 1 < len(front) < 20
    head, *lines = goals.concluded(search, lambda values: f"{values['elbo']:.2f}")
    assert head == f"Pareto front of elbo, active_units: {len(front)} trial(s)"
    assert [int(line.split()[1]) for line in lines] == [trial.number for trial in front]


def test_an_objective_that_was_not_measured_fails_the_trial(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space(search={"trials": 2, "objectives": {"elbo": "maximize", "mutual_information": "maximize"}})
    search = simulate(space, tmp_path / "a")
    reason = "mutual_information was not measured, or is not finite, at its best epoch"
    assert [(trial.state, trial.reason) for trial in search.trials] == [("FAIL", reason)] * 2
    assert {trial.state for trial in search.study.trials} == {TrialState.FAIL}


def test_trials_that_lack_an_objective_asked_for_later_are_not_compared(make_space: MakeSpace, tmp_path: Path) -> None:
    simulate(make_space(search={"trials": 3, "sampler": "Random"}), tmp_path / "a")
    sought = {"elbo": "maximize", "mutual_information": "maximize"}
    later = {"trials": 5, "sampler": "Random", "objectives": sought, "confirm": {"best": 9, "seeds": 1}}

    def informed(config: Mapping[str, Any], *, directory: Path) -> Iterator[list[Reading]]:
        for train, valid in fake_trials.curve(config, directory=directory):
            yield [train, Reading(valid.epoch, "valid", {**valid.values, "mutual_information": 1.0})]

    search = simulate(make_space(search=later), tmp_path / "a", informed)
    assert [trial.state for trial in search.trials] == ["COMPLETE"] * 7
    front = [trial.number for trial in search.pareto()]
    assert front
    assert set(front) <= {3, 4}
    assert len(list(goals.concluded(search, lambda values: f"{values['elbo']:.2f}"))) == 1 + len(front)
    assert {str(trial.params) for trial in search.of("confirm")} == {str(trial.params) for trial in search.trials[3:5]}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"objectives": TWO, "pruner": "ASHA"}, "search.pruner: 'ASHA'; expected null: a search of several objectives"),
        ({"objectives": TWO, "sampler": "CMAES"}, "search.sampler: 'CMAES'; expected a sampler of several objectives"),
        ({"objectives": {"elbo": "minimize"}}, "search.objectives: {'elbo': 'minimize'}; expected `elbo: maximize`"),
        ({"objectives": {"elbo": "maximize", "kll": "maximize"}}, "search.objectives.kll: 'kll'; unknown metric"),
        ({"objectives": {"elbo": "maximize", "kl": "up"}}, "search.objectives.kl: 'up'; input should be 'maximize'"),
        ({"require": {"active_unit": {"min": 1}}}, "unknown metric; did you mean 'active_units'?"),
        ({"require": {"kl": {}}}, "search.require.kl: {}; expected {min: A}, {max: B} or both"),
        ({"require": {"kl": {"min": 2, "max": 1}}}, "search.require.kl.min: 2.0; expected min to be at most max, 1"),
        ({"require": {"kl": {"least": 2}}}, "search.require.kl.least: 2; unknown key"),
        ({"pruner": {"ASHA": {"resource": "hours"}}}, "search.pruner.resource: 'hours'; input should be"),
    ],
)
def test_what_does_not_go_together_is_one_line(make_space: MakeSpace, section: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        make_space(search={"trials": 2, **section})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_said_of_a_sampler_is_true(sampler: str) -> None:
    """Draws change with the constraints for those that are said to learn them, and for no other; those that are said
    to seek one objective refuse two."""

    def drawn(limit: float, directions: list[str]) -> list[float]:
        study = optuna.create_study(directions=directions, sampler=SAMPLERS[sampler](0))
        for _ in range(30):
            trial = study.ask()
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
            trial.set_constraint("x", x - limit)
            study.tell(trial, [x + y] * len(directions))
        return [trial.params["x"] for trial in study.trials]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert (drawn(0.3, ["maximize"]) != drawn(2.0, ["maximize"])) == (sampler in CONSTRAINED)
    if sampler in SINGLE:
        with pytest.raises(ValueError, match="multi-objective"):
            drawn(2.0, ["maximize"] * 2)
    else:
        assert len(drawn(2.0, ["maximize"] * 2)) == 30


def test_a_plan_says_what_is_sought(make_space: MakeSpace) -> None:
    section = {"sampler": "Random", "objectives": TWO, "require": {"kl": {"min": 0.1}, "active_units": {"min": 1}}}
    assert list(goals.planned(make_space(search={"trials": 1, **section}).search)) == [
        "objectives: maximize elbo, maximize active_units, each at the epoch of the best elbo; the best trials are the "
        "Pareto front",
        "required after warm-up: 0.1 <= kl, 1 <= active_units; the sampler Random does not learn it",
    ]
    assert list(goals.planned(make_space(search={"trials": 1}).search)) == []


def test_a_metric_that_was_not_measured_breaks_nothing_and_one_that_is_no_number_does() -> None:
    require = {"kl": Limit(min=0.1)}
    assert broken(require, {"elbo": -3.0}) is None
    assert broken(require, {"kl": float("nan")}) == "kl >= 0.1"
