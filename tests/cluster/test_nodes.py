"""A head and two nodes with a GPU each, here: trials spread, a node dies, its trials move, rows stay whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowsearch.results import load, read

NODES = """
import json, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from flowsearch.results import read
from flowsearch.search.space import load
from flowsearch.search.study import run_space

folder = Path(sys.argv[1])
quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick})
nodes = [cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]
cluster.wait_for_nodes()

def reported():
    journal = folder / "journal.jsonl"
    events = read(journal).events if journal.exists() else []
    return {event["trial"] for event in events if event["event"] == "report"}

def lose_a_node():
    while not reported() >= {0, 1, 2, 3}:
        time.sleep(0.05)
    cluster.remove_node(nodes[1], allow_graceful=False)

threading.Thread(target=lose_a_node, daemon=True).start()
code = run_space(load(Path(sys.argv[2])), folder=folder, address=cluster.address, readings="placed:slow")
print(json.dumps({"code": code, "nodes": [node.node_id for node in nodes]}))
cluster.shutdown()
"""
EPOCHS = 10
SPACE = {
    "defaults": ["base", "_self_"],
    "study": "spread",
    "model": {"latent_size": {"choice": [2, 3, 4, 5, 6, 7]}},
    "objective": {"warmup_epochs": 0},
    "training": {"epochs": EPOCHS},
    "search": {"trials": 6, "sampler": "Grid"},
    "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0.5},
}

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def places(folder: Path) -> dict[int, list[list[str]]]:
    """Of each trial: node, GPU and first epoch of every start."""
    files = {int(file.parent.name): file for file in folder.glob("trials/*/nodes.txt")}
    return {trial: [line.split() for line in files[trial].read_text().splitlines()] for trial in sorted(files)}


def check_whole(folder: Path) -> None:
    """Every trial complete, every epoch of it acknowledged and shown once."""
    study = load(folder)
    assert study.notes == ()
    assert [(trial.number, trial.state) for trial in study.trials.values()] == [(n, "COMPLETE") for n in range(6)]
    assert list(zip(study.metrics.trial.tolist(), study.metrics.epoch.tolist(), strict=True)) == [
        (trial, epoch) for trial in range(6) for epoch in range(1, EPOCHS + 1)
    ]
    expected = [
        -50.0 - trial.params["model.latent_size"] + epoch
        for trial in study.trials.values()
        for epoch in range(1, EPOCHS + 1)
    ]
    assert study.metrics.values["elbo"].tolist() == expected
    reports = [event for event in read(folder / "journal.jsonl").events if event["event"] == "report"]
    assert len({(event["trial"], event["epoch"]) for event in reports}) == len(reports) == 6 * EPOCHS


def test_trials_spread_and_when_a_node_dies_they_move(home: Path, told: Callable[..., Any]) -> None:
    (home / "spread.yaml").write_text(yaml.safe_dump(SPACE))
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": paths}
    folder = home / "results" / "spread"
    said = told(NODES, str(folder), str(home / "spread.yaml"), **known)
    assert said["code"] == 0
    check_whole(folder)

    left, lost = said["nodes"]
    found = places(folder)
    first = [found[trial][0][0] for trial in range(4)]
    assert (first.count(left), first.count(lost)) == (2, 2)
    assert {gpu for starts in found.values() for _, gpu, _ in starts} == {"0"}  # two trials on each node's only one

    moved = [starts for starts in found.values() if starts[0][0] == lost]
    assert any(len(starts) > 1 for starts in moved)
    assert all(node == left for starts in moved for node, _, _ in starts[1:])
    assert all(int(epoch) > 1 for starts in moved for _, _, epoch in starts[1:])
    assert all(len(starts) == 1 for starts in found.values() if starts[0][0] == left)
