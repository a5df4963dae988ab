"""Trials under readable names in Ray's dashboard: what its workers and actors are called and what their logs say."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from toy_spaces import MakeSpace

from flowsearch.search.study import run_space


def logs() -> Path:
    """The folder from which the dashboard serves logs."""
    import ray._private.worker

    return Path(ray._private.worker._global_node.get_logs_dir_path())


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_actors_are_named_by_the_trial_they_began_with_and_log_those_that_follow(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    import ray
    from ray.util.state import list_actors

    space = make_space("study=readable", search={"trials": 5})
    console = Console(file=StringIO())
    assert run_space(space, folder=tmp_path / "readable", readings="fake_trials:curve", console=console) == 0
    address = ray.get_runtime_context().gcs_address
    actors = [actor for actor in list_actors(address, detail=True) if (actor.repr_name or "").startswith("readable-")]
    assert actors
    assert {actor.class_name for actor in actors} == {"TrialActor"}
    assert all(re.fullmatch(r"readable-\d\.\.\.", actor.repr_name) for actor in actors)
    logged = "".join(worker.read_text() for actor in actors for worker in logs().glob(f"worker-*-{actor.pid}.out"))
    assert set(re.findall(r"readable-\d", logged)) == {f"readable-{number}" for number in range(5)}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_worker_has_the_name_of_the_trial_that_it_trains(make_space: MakeSpace, tmp_path: Path) -> None:
    space, told = make_space("study=titled", search={"trials": 4}), {"readings": "fake_trials:introspective"}
    assert run_space(space, folder=tmp_path / "titled", console=Console(file=StringIO()), **told) == 0
    titles = {folder.name: (folder / "title").read_text() for folder in (tmp_path / "titled" / "trials").iterdir()}
    assert titles == {str(number): f"ray::titled-{number}" for number in range(4)}
