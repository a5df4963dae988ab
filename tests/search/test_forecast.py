"""A forecast is arithmetic over probes; the probes run in a process of their own and in bounded time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_spaces import TINY, MakeSpace

from flowsearch.errors import FlowsearchError
from flowsearch.search import forecast as room
from flowsearch.search.forecast import (
    Forecast,
    Probed,
    candidates,
    forecast,
    lines,
    mean_seconds,
    probes,
    told,
    updates,
)
from flowsearch.text import Corpus
from flowsearch.training.config import parse
from flowsearch.training.probe import Probe

LAGGING = {"lagging_updates": {"choice": [0, 30, 100]}}


def cost(seconds: float, epochs: int = 9) -> Probe:
    return Probe(seconds, epochs, 10**9, 2 * 10**6, "cpu")


def test_the_first_and_the_costliest_are_probed_before_all_others(make_space: MakeSpace) -> None:
    counts = [count for count, _ in candidates(make_space(objective=LAGGING))]
    assert counts[:3] == [0, 100, 30]
    assert len(counts) <= room.PROBES
    loss = {"choice": ["ELBO", {"SemiAmortized": {"steps": {"int": [5, 20]}}}]}
    counts = [count for count, _ in candidates(make_space(objective={"loss": loss}))]
    assert counts[:3] == [0, 20, 5]


def test_rows_are_candidates_too(make_space: MakeSpace) -> None:
    rows = {"plain": {}, "slow": {"objective.lagging_updates": 50}, "slower": {"objective.lagging_updates": 70}}
    found = candidates(make_space(objective={}, model={**TINY["model"], "latent_size": 8}, search={"rows": rows}))
    assert [count for count, _ in found] == [0, 70, 50]
    assert [updates(parse(tree)) for _, tree in found] == [0, 70, 50]


def test_a_configuration_costs_what_lies_between_those_that_were_probed(make_space: MakeSpace) -> None:
    """Updates 0, 30 and 100, a third of the space each: 1 s, then on the line to 11 s."""
    space = make_space(objective=LAGGING, training={"epochs": 10})
    probed = [Probed("VAE", 0, cost(1.0)), Probed("VAE + Lagging", 100, cost(11.0))]
    assert mean_seconds(space, probed) == pytest.approx(10 * (1 + 4 + 11) / 3, rel=0.15)
    assert mean_seconds(make_space(objective={}), probed) == 9.0
    assert mean_seconds(make_space(objective={}), [*probed, Probed("VAE", 0, cost(3.0))]) == 18.0


def test_what_it_says() -> None:
    probed = [Probed("VAE", 0, cost(60.0, 40)), Probed("VAE + Lagging", 100, cost(600.0, 40))]
    said = list(lines(Forecast(probed, None, 3600.0, 12, 81, 4)))
    assert said[0] == (
        "forecast from 2 training steps of 2 configuration(s) on this machine, without pruning or early ends:"
    )
    assert said[1] == (
        "  VAE: 60 s per epoch, 40 min per trial of 40 epochs, 1.00 GB of memory (cpu), checkpoints of 2.0 MB"
    )
    assert "12 trials of 60 min in the mean, 12 trial-hours, about 3 h with 4 at once" in said[3]
    assert said[4] == "  the full grid: 81 trials, 81 trial-hours"
    fewer = list(lines(Forecast(probed[:1], "VAE + Lagging", 3600.0, 2, None, 4)))
    assert "VAE + Lagging: not probed" in fewer[2]
    assert "about 60 min with 4 at once" in fewer[3]
    assert len(fewer) == 4


def test_a_real_forecast(
    make_space: MakeSpace, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    space = make_space(search={"trials": 5, "seeds": 2, "confirm": {"best": 1, "seeds": 3}}, objective=LAGGING)
    found = forecast(space, corpus, 2)
    assert found.trials == 5 * 2 + 3
    assert found.grid == 23 * 3 * 2
    assert found.total_seconds == 13 * found.trial_seconds
    by_label = {one.label: one.cost for one in found.probed}
    plain, lagging = by_label["VAE(10)"], by_label["VAE(10) + Lagging Inference"]
    assert plain.seconds_per_epoch > 0
    assert lagging.seconds_per_epoch > 0
    assert plain.epochs == lagging.epochs == 9
    assert not list((tmp_path / "here").iterdir())


def test_there_is_no_waiting_longer_than_patience(make_space: MakeSpace, corpus: Corpus) -> None:
    _, tree = candidates(make_space())[0]
    with pytest.raises(FlowsearchError, match="take more than 0 s"):
        probes([tree], corpus, 1, 0.0)


def test_a_probe_that_fails_says_why(make_space: MakeSpace, corpus: Corpus) -> None:
    _, tree = candidates(make_space())[0]
    broken = {**tree, "training": {**tree["training"], "optimizer": {"SGD": {"lr": 1e30}}}}
    with pytest.raises(FlowsearchError, match=r"two steps of β-VAE.* failed: Diverged"):
        probes([broken], corpus, 1, 60.0)


def test_without_a_forecast_there_is_a_line(make_space: MakeSpace, corpus: Corpus, monkeypatch: Any) -> None:
    [said] = told(make_space(resources={"cpus_per_trial": 10_000}), corpus)
    assert said.startswith("no forecast: resources: a trial needs 10000 CPU")

    def fails(*given: Any, **named: Any) -> Forecast:
        raise FlowsearchError("x")

    monkeypatch.setattr(room, "forecast", fails)
    assert list(told(make_space(), corpus)) == ["no forecast: x"]
