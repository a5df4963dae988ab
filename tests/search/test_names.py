"""Trials under readable names in Ray's dashboard: what its actors are called and what their logs say."""

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
