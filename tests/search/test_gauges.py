"""Gauges: what is set for which event, what Ray's endpoint serves of it, and that Grafana asks for nothing else."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import simulation
from rich.console import Console
from toy_spaces import MakeSpace

from flowsearch.results import Reading
from flowsearch.search.asktell import AskTell, Trial, Verdict
from flowsearch.search.gauges import GAUGES, PREFIX, REFRESH, Gauges
from flowsearch.search.recorder import Watcher
from flowsearch.search.study import run_space
from flowsearch.search.watchers import Watchers

GRAFANA = Path(__file__).parents[2] / "cluster" / "grafana" / "flowsearch.json"


class Dial:
    """Stands in for Ray's gauge."""

    all: dict[str, Dial] = {}

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self.description, self.tag_keys = description, tag_keys
        self.all[name] = self

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.values[tuple(tags[key] for key in self.tag_keys)] = value


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> dict[str, Dial]:
    monkeypatch.setattr("ray.util.metrics.Gauge", Dial)
    monkeypatch.setattr(Dial, "all", {})
    return Dial.all


def test_gauges_say_what_the_search_knows(make_space: MakeSpace, dials: dict[str, Dial]) -> None:
    space = make_space(search={"trials": 3}, resources={"gpus_per_trial": 0.5})
    search = AskTell(space, 0)
    gauges = Gauges(search)
    for _ in range(2):
        gauges.started(search.ask())  # type: ignore[arg-type]
    search.report(0, 1, [Reading(1, "valid", {"elbo": -9.0, "kl": 2.0, "active_units": 4.0})], 30.0)
    gauges.reported(search.trials[0], 1)
    search.report(1, 1, [Reading(1, "valid", {"elbo": -8.0})], 10.0)
    gauges.reported(search.trials[1], 1)
    search.finish(0, Verdict("PRUNED", "x"))
    gauges.finished(search.trials[0])
    assert set(dials) == set(GAUGES)
    assert all(dial.description for dial in dials.values())
    assert dials["flowsearch_validation_elbo"].values == {("toy", "0"): -9.0, ("toy", "1"): -8.0}
    assert dials["flowsearch_validation_kl"].values == {("toy", "0"): 2.0}
    assert dials["flowsearch_active_units"].values == {("toy", "0"): 4.0}
    counts = {"COMPLETE": 0, "PRUNED": 1, "FAIL": 0, "RUNNING": 1}
    assert dials["flowsearch_trials"].values == {("toy", state): count for state, count in counts.items()}
    assert dials["flowsearch_gpu_seconds"].values == {("toy",): 20.0}
    assert dials["flowsearch_best_validation_elbo"].values == {("toy",): -8.0}


def test_what_lasts_is_set_again(make_space: MakeSpace, dials: dict[str, Dial]) -> None:
    """Ray forgets what was not set for a while; a trial that has ended may be forgotten."""
    search, now = AskTell(make_space(search={"trials": 2}), 0), [0.0]
    gauges = Gauges(search, lambda: now[0])
    for number in range(2):
        gauges.started(search.ask())  # type: ignore[arg-type]
        search.report(number, 1, [Reading(1, "valid", {"elbo": -9.0 + number})], 30.0)
        gauges.reported(search.trials[number], 1)
    search.finish(1, Verdict("PRUNED", "x"))
    gauges.finished(search.trials[1])
    for dial in dials.values():
        dial.values.clear()
    now[0] = REFRESH - 0.1
    gauges.tick()
    assert not any(dial.values for dial in dials.values())
    now[0] = REFRESH
    gauges.tick()
    assert dials["flowsearch_validation_elbo"].values == {("toy", "0"): -9.0}
    assert dials["flowsearch_best_validation_elbo"].values == {("toy",): -8.0}
    assert dials["flowsearch_trials"].values[("toy", "RUNNING")] == 1
    assert dials["flowsearch_gpu_seconds"].values == {("toy",): 0.0}


def test_grafana_asks_for_gauges_that_there_are_with_tags_that_they_have() -> None:
    """Every metric that the dashboard queries, every label by which it chooses or groups; and every gauge is drawn."""
    board = json.loads(GRAFANA.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    seen = set()
    for query in asked:
        names = re.findall(rf"{PREFIX}(\w+)", query)
        assert names, query
        seen |= set(names)
        labels = [
            *re.findall(r"(\w+)=~", query),
            *re.findall(r"by \((\w+)\)", query),
            *re.findall(r", (\w+)\)$", query),
        ]
        assert labels, query
        assert set(labels) <= set(GAUGES[names[0]])
    assert seen == set(GAUGES)
    legends = {
        tag for panel in board["panels"] for t in panel["targets"] for tag in re.findall(r"{(\w+)}", t["legendFormat"])
    }
    assert legends <= {"study", "trial", "state"}
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)


class Listener(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def started(self, trial: Trial) -> None:
        self.told.append(("started", trial.number))

    def measured(self, trial: Trial, readings: Any) -> None:
        self.told.append(("measured", trial.number, [one.split for one in readings]))

    def reported(self, trial: Trial, epoch: int) -> None:
        self.told.append(("reported", trial.number, epoch))

    def collapsed(self, trial: Trial, epoch: int) -> None:
        self.told.append(("collapsed", trial.number, epoch))

    def lost(self, trial: Trial, reason: str) -> None:
        self.told.append(("lost", trial.number, reason))

    def finished(self, trial: Trial) -> None:
        self.told.append(("finished", trial.number))


def test_several_watchers_are_told_the_same(make_space: MakeSpace, tmp_path: Path) -> None:
    one, two = Listener(), Listener()
    both = Watchers([one, Watchers([two])])
    search = simulation.simulate(make_space(search={"trials": 2}), tmp_path / "toy", watcher=both)
    both.collapsed(search.trials[0], 2)
    both.lost(search.trials[0], "x")
    assert one.told == two.told
    kinds = [kind for kind, *_ in one.told]
    assert set(kinds) == {name for name in vars(Watcher) if not name.startswith("_")}
    assert kinds.count("measured") == kinds.count("reported") == 18


def tagged(line: str) -> str:
    """The tags of a sample that are ours, in the order of their names."""
    return ",".join(sorted(re.findall(r'((?:state|study|trial)="[^"]*")', line)))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_prometheus_finds_the_gauges_of_a_study(make_space: MakeSpace, tmp_path: Path) -> None:
    """A study on a real Ray, and the port that Ray tells Prometheus of."""
    import ray

    console = Console(file=StringIO())
    space = replace(make_space(search={"trials": 3}), study="gauged")  # other tests of this process have left theirs
    assert run_space(space, folder=tmp_path / "gauged", readings="fake_trials:curve", console=console) == 0
    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = {PREFIX + name for name in GAUGES}
    for _ in range(90):
        with urlopen(url, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith(f"{PREFIX}flowsearch_")]
        complete = [
            float(line.rpartition(" ")[2]) for line in lines if 'state="COMPLETE",study="gauged"' in tagged(line)
        ]
        if {line.partition("{")[0] for line in lines} == wanted and complete == [3]:
            break
        time.sleep(1)
    assert {line.partition("{")[0] for line in lines} == wanted
    assert complete == [3]
    trials = {found for line in lines for found in re.findall(r'study="gauged",trial="(\d+)"', tagged(line))}
    assert trials == {"0", "1", "2"}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_gauge_outlasts_a_long_epoch(make_space: MakeSpace, tmp_path: Path) -> None:
    space, folder = replace(make_space("training.epochs=2", search={"trials": 1}), study="long"), tmp_path / "long"
    told = {"readings": "fake_trials:patient"}
    assert run_space(space, folder=folder, console=Console(file=StringIO()), **told) == 0
    seen = (folder / "trials" / "0" / "metrics").read_text().splitlines()
    names = {line.partition("{")[0] for line in seen if 'study="long"' in line}
    assert names == {PREFIX + name for name in GAUGES}
