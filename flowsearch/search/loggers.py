"""Loggers: the readings of every epoch, handed on to a program that draws them: TensorBoard, MLflow, Weights & Biases.

`flowsearch run FILE --log tensorboard` names one; each writes under `results/<study>/logs/`, a run per trial, with the
scalars `train/...`, `valid/...` and `test/...` at each epoch. The journal stays the truth: a logger only copies.

1. A library that is not installed is named before anything starts.
2. A logger that fails says so once and is silent from then on; the search goes on.
3. Nothing leaves the machine unless the environment says so: `WANDB_MODE`, `MLFLOW_TRACKING_URI` and
   `MLFLOW_DISABLE_TELEMETRY` are heeded.
"""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from flowsearch.errors import BadInput, nearest
from flowsearch.results import Reading
from flowsearch.search.asktell import Trial
from flowsearch.search.recorder import Watcher

FOLDER = "logs"
"""The folder of a study that loggers write to."""

Note = Callable[[str], object]


class Logger(Watcher, ABC):
    """A watcher that copies readings, with a run for each trial.

    Args:
        study: its name.
        folder: to write to.
        note: told, once, why it failed.
    """

    module: ClassVar[str]

    def __init__(self, study: str, folder: Path, note: Note = print) -> None:
        self.study, self.folder = study, folder
        self.library = importlib.import_module(self.module)
        self._note, self._failed = note, False
        self._runs: dict[int, Any] = {}

    @abstractmethod
    def begin(self, trial: Trial) -> Any:
        """A run for a trial."""

    @abstractmethod
    def write(self, run: Any, epoch: int, values: Mapping[str, float]) -> None:
        """The scalars of an epoch, by `split/metric`."""

    @abstractmethod
    def end(self, run: Any, state: str) -> None:
        """The end of a run; RUNNING means that the trial is unfinished."""

    def measured(self, trial: Trial, readings: Sequence[Reading]) -> None:
        by_epoch: dict[int, dict[str, float]] = {}
        for one in readings:
            named = {f"{one.split}/{name}": value for name, value in one.values.items()}
            by_epoch.setdefault(one.epoch, {}).update(named)
        for epoch, values in by_epoch.items():
            self._try(partial(self._write, trial, epoch, values))

    def finished(self, trial: Trial) -> None:
        if trial.number in self._runs:
            self._try(partial(self._end, trial.number, trial.state))

    def close(self) -> None:
        """End what is unfinished."""
        for number in list(self._runs):
            self._try(partial(self._end, number, "RUNNING"))

    def _write(self, trial: Trial, epoch: int, values: Mapping[str, float]) -> None:
        if trial.number not in self._runs:
            self._runs[trial.number] = self.begin(trial)
        self.write(self._runs[trial.number], epoch, values)

    def _end(self, number: int, state: str) -> None:
        self.end(self._runs.pop(number), state)

    def _try(self, step: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            step()
        except Exception as error:
            self._failed = True
            reason = str(error).strip().partition("\n")[0]
            self._note(f"{type(self).__name__} logs no more: {type(error).__name__}: {reason}")


class TensorBoard(Logger):
    """Event files, a folder per trial: `tensorboard --logdir results/<study>/logs/tensorboard`."""

    module = "tensorboardX"

    def begin(self, trial: Trial) -> Any:
        return self.library.SummaryWriter(logdir=str(self.folder / "tensorboard" / str(trial.number)))

    def write(self, run: Any, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            run.add_scalar(name, value, global_step=epoch)
        run.flush()

    def end(self, run: Any, state: str) -> None:
        run.close()


class MLflow(Logger):
    """An experiment named as the study: `mlflow ui --backend-store-uri sqlite:///results/<study>/logs/mlflow.db`."""

    module = "mlflow"
    statuses: ClassVar[Mapping[str, str]] = {"COMPLETE": "FINISHED", "FAIL": "FAILED"}

    def __init__(self, study: str, folder: Path, note: Note = print) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        super().__init__(study, folder, note)
        folder.mkdir(parents=True, exist_ok=True)
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        here = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = self.library.MlflowClient(tracking_uri=elsewhere or here)
        self._artifacts = None if elsewhere else (folder / "mlflow").resolve().as_uri()

    def begin(self, trial: Trial) -> Any:
        known = self.client.get_experiment_by_name(self.study)
        experiment = known.experiment_id if known else self._new_experiment()
        tags = {"mlflow.runName": f"{self.study}-{trial.number}", "label": trial.label, "seed": str(trial.seed)}
        run = self.client.create_run(experiment, tags=tags).info.run_id
        for name, value in trial.params.items():
            self.client.log_param(run, name, value)
        return run

    def _new_experiment(self) -> Any:
        return self.client.create_experiment(self.study, artifact_location=self._artifacts)

    def write(self, run: Any, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(run, name, value, step=epoch)

    def end(self, run: Any, state: str) -> None:
        self.client.set_terminated(run, status=self.statuses.get(state, "KILLED"))


class WandB(Logger):
    """A project named as the study, kept on disk: `wandb sync results/<study>/logs/wandb/*` sends it, or
    WANDB_MODE=online does."""

    module = "wandb"

    def begin(self, trial: Trial) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.library.init(
            project=self.study,
            name=f"{self.study}-{trial.number}",
            config={**trial.params, "label": trial.label, "seed": trial.seed, "trial": trial.number},
            dir=str(self.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",
            settings=self.library.Settings(silent=True),
        )

    def write(self, run: Any, epoch: int, values: Mapping[str, float]) -> None:
        run.log(dict(values), step=epoch)

    def end(self, run: Any, state: str) -> None:
        run.finish(exit_code=int(state == "FAIL"))


LOGGERS: Mapping[str, type[Logger]] = {"mlflow": MLflow, "tensorboard": TensorBoard, "wandb": WandB}
"""What `--log` may name."""


def check(names: Sequence[str]) -> None:
    """Refuse loggers that there are not.

    Raises:
        BadInput: with what to do.
    """
    for name in names:
        if name not in LOGGERS:
            raise BadInput(f"--log: '{name}'{nearest(name, LOGGERS)}")
        if find_spec(LOGGERS[name].module) is None:
            raise BadInput(f"--log {name}: {LOGGERS[name].module} is not installed; pip install 'flowsearch[{name}]'")


@contextmanager
def opened(names: Sequence[str], study: str, folder: Path, note: Note) -> Iterator[list[Logger]]:
    """The loggers of these names, each once, closed at the end of the block.

    Args:
        names: of `LOGGERS`.
        study: its name.
        folder: of the study.
        note: told what fails.
    """
    loggers: list[Logger] = []
    for name in dict.fromkeys(names):
        try:
            loggers.append(LOGGERS[name](study, folder / FOLDER, note))
        except Exception as error:
            note(f"{LOGGERS[name].__name__} logs nothing: {type(error).__name__}: {error}")
    try:
        yield loggers
    finally:
        for logger in loggers:
            logger.close()
