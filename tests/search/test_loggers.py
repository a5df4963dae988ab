"""Loggers copy what was measured: TensorBoard for real, the others to modules that take notes."""

from __future__ import annotations

import struct
import sys
import types
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import simulation
from toy_spaces import MakeSpace
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput
from flowsearch.results import Reading, read
from flowsearch.search import loggers
from flowsearch.search.asktell import Trial
from flowsearch.search.loggers import LOGGERS, check, opened


class Notebook:
    """Stands in for a library: every call of anything is written down, and gives another like it."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str = "") -> None:
        self._calls, self._name = calls, name

    def __getattr__(self, name: str) -> Notebook:
        if name.startswith("__"):
            raise AttributeError(name)
        return Notebook(self._calls, f"{self._name}.{name}".lstrip("."))

    def __call__(self, *given: Any, **named: Any) -> Notebook:
        self._calls.append((self._name, given, named))
        return Notebook(self._calls, self._name)


def fake(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """A library of this name that takes notes."""
    calls: list[tuple[Any, ...]] = []
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__getattr__ = Notebook(calls).__getattr__  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, module)
    return calls


def scalars(file: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of every scalar in an event file, read by the format's own framing."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    return found


def test_tensorboard_has_every_scalar_of_every_epoch(make_space: MakeSpace, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "toy"
    with opened(["tensorboard", "tensorboard"], "toy", folder, pytest.fail) as [logger]:
        simulation.simulate(make_space(search={"trials": 2}), folder, watcher=logger)
    for event in read(folder / "journal.jsonl").events:
        if event["event"] == "report":
            [file] = (folder / "logs" / "tensorboard" / str(event["trial"])).iterdir()
            there = {(tag, step): value for tag, step, value in scalars(file)}
            for reading in event["readings"]:
                for name, value in reading["values"].items():
                    assert there[f"{reading['split']}/{name}", event["epoch"]] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", LOGGERS)
def test_every_logger_has_a_run_for_each_trial(
    make_space: MakeSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A law: nine epochs of two trials are begun once, written nine times and ended once."""
    calls = fake(monkeypatch, LOGGERS[name].module)
    done: Counter[str] = Counter()

    def counting(verb: str, real: Any) -> Any:
        def step(*given: Any) -> Any:
            done[verb] += 1
            return real(*given)

        return step

    for verb in ("begin", "write", "end"):
        monkeypatch.setattr(LOGGERS[name], verb, counting(verb, getattr(LOGGERS[name], verb)))
    with opened([name], "toy", tmp_path / "toy", pytest.fail) as [logger]:
        simulation.simulate(make_space(search={"trials": 2}), tmp_path / "toy", watcher=logger)
    assert done == {"begin": 2, "write": 18, "end": 2}
    assert calls


def trial(number: int = 3, state: str = "RUNNING") -> Trial:
    return Trial(number, {"objective.beta": 0.5}, {}, 7, "VAE [red]", state=state)


READINGS = [Reading(2, "train", {"elbo": -8.0}), Reading(2, "valid", {"elbo": -9.0, "kl": 1.5})]


def test_mlflow_is_told_parameters_metrics_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake(monkeypatch, "mlflow")
    with opened(["mlflow"], "toy", tmp_path, pytest.fail) as [logger]:
        logger.measured(trial(), READINGS)
        logger.finished(trial(state="FAIL"))
        logger.measured(trial(4), READINGS)
    client = {"tracking_uri": f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}"}
    assert calls[0] == ("MlflowClient", (), client)
    told = [(name.rpartition(".")[2], given[1:], named) for name, given, named in calls]
    assert ("log_param", ("objective.beta", 0.5), {}) in told
    metrics = [(given[1:], named) for name, given, named in calls if name.endswith("log_metric")]
    assert metrics[:3] == [
        (("train/elbo", -8.0), {"step": 2}),
        (("valid/elbo", -9.0), {"step": 2}),
        (("valid/kl", 1.5), {"step": 2}),
    ]
    ends = [named["status"] for name, _, named in calls if name.endswith("set_terminated")]
    assert ends == ["FAILED", "KILLED"]


def test_wandb_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    calls = fake(monkeypatch, "wandb")
    with opened(["wandb"], "toy", tmp_path, pytest.fail) as [logger]:
        logger.measured(trial(), READINGS)
        logger.finished(trial(state="COMPLETE"))
    (name, _, begun), (_, logged, step), (_, _, end) = calls[1:]
    assert calls[0] == ("Settings", (), {"silent": True})
    assert name == "init"
    assert {key: begun[key] for key in ("project", "name", "dir", "mode")} == {
        "project": "toy",
        "name": "toy-3",
        "dir": str(tmp_path / "logs"),
        "mode": "offline",
    }
    assert begun["config"] == {"objective.beta": 0.5, "label": "VAE [red]", "seed": 7, "trial": 3}
    assert (logged, step) == (({"train/elbo": -8.0, "valid/elbo": -9.0, "valid/kl": 1.5},), {"step": 2})
    assert end == {"exit_code": 0}


def test_a_logger_that_fails_says_so_once_and_the_search_goes_on(
    make_space: MakeSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, "wandb")

    def fails(self: Any, *given: Any) -> None:
        raise ConnectionError("gone\nfor good")

    monkeypatch.setattr(LOGGERS["wandb"], "write", fails)
    said: list[str] = []
    with opened(["wandb"], "toy", tmp_path, said.append) as [logger]:
        search = simulation.simulate(make_space(search={"trials": 2}), tmp_path / "toy", watcher=logger)
    assert [one.state for one in search.trials] == ["COMPLETE"] * 2
    assert said == ["WandB logs no more: ConnectionError: gone"]


def test_a_library_that_cannot_be_used_is_said_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said: list[str] = []
    with opened(["mlflow"], "toy", tmp_path, said.append) as found:
        assert found == []
    assert said[0].startswith("MLflow logs nothing: ModuleNotFoundError: ")


def test_what_is_missing_is_one_line_and_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--log: 'tensorbord'; did you mean 'tensorboard'"):
        check(["tensorbord"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name in LOGGERS:
        done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "no.yaml"), "--log", name])
        assert done.exit_code == 2
        assert done.stderr == (
            f"flowsearch: --log {name}: {LOGGERS[name].module} is not installed; pip install 'flowsearch[{name}]'\n"
        )
    check([])
