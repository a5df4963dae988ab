"""What a trial costs, from two training steps of it: nothing is written, and nothing that is learned is kept.

1. The first step is not timed: it allocates, and it chooses kernels.
2. Both are on the batch whose size is nearest to the mean, so that an epoch costs as many times the second as it has
   batches, whatever the lengths of the others.
3. Lagging inference is taken to make all its updates at every step to the end of training, and every epoch to be the
   best so far, whose test split is measured, too: a probe errs towards more. Writing a checkpoint is not counted.
4. Of lagging updates a probe makes `FEW`, and none: as many as there are cost so many times the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsearch import metrics
from flowsearch.text import Corpus
from flowsearch.text.batches import Batch, Batches
from flowsearch.training import config
from flowsearch.training.clip import CLIPS
from flowsearch.training.config import TrialConfig
from flowsearch.training.loop import Tally, train
from flowsearch.training.trial import Trial, peak_memory, seed_torch

FEW = 4
"""Encoder updates that a probe makes before a step, at most."""

LAGGING = "lagging_updates"


@dataclass(frozen=True)
class Probe:
    """What two steps say of a trial.

    Args:
        seconds_per_epoch: training and measuring, expected.
        epochs: at most.
        memory: bytes, high-water mark of the process (CPU) or of the device (GPU).
        checkpoint_bytes: of the trial's files, last and best.
        device: where it ran.
    """

    seconds_per_epoch: float
    epochs: int
    memory: int
    checkpoint_bytes: int
    device: str

    @property
    def seconds(self) -> float:
        """Of the whole trial."""
        return self.seconds_per_epoch * self.epochs


def probe(tree: Mapping[str, Any], corpus: Corpus) -> Probe:
    """Train a configuration for two steps, and measure a batch twice.

    Args:
        tree: a plain configuration, as `config.parse` reads it.
        corpus: its text.

    Raises:
        SpaceError: the configuration is wrong.
        Diverged: a loss is not finite within two steps.
    """
    settings = config.parse(tree)
    updates = settings.objective.lagging_updates
    trial = Trial.start(with_updates(settings, min(updates, FEW)), corpus)
    seconds = training(trial)
    if updates > FEW:
        plain = training(Trial.start(with_updates(settings, 0), corpus))
        seconds = plain + max(seconds - plain, 0.0) * updates / FEW
    state = trial.state()
    return Probe(
        seconds + sum(measuring(trial, split) for split in ("valid", "test")),
        settings.training.epochs,
        peak_memory(trial.device),
        size(state) + size(state["vae"]),
        trial.device.type,
    )


def with_updates(settings: TrialConfig, updates: int) -> TrialConfig:
    """The configuration with another number of lagging updates."""
    return settings.model_copy(update={"objective": settings.objective.model_copy(update={LAGGING: updates})})


def training(trial: Trial) -> float:
    """Seconds of an epoch's training."""
    batches = trial.batches["train"]
    clip = CLIPS[trial.settings.training.clip](trial.settings.training.clip_norm)
    more = map(trial.ready, batches.random(np.random.default_rng(0)))
    batch, tally = trial.ready(typical(batches)), Tally(0)

    def step() -> None:
        for _ in train(trial.vae, trial.objective, [batch], more, trial.optimizers, clip, tally):
            pass

    seed_torch(trial.settings.seed, 1)
    trial.vae.train()
    return len(batches) * second_time(step, trial.device)


def measuring(trial: Trial, split: str) -> float:
    """Seconds of measuring a split once."""
    batches = trial.batches[split]
    batch = typical(batches)

    def step() -> None:
        evaluation = metrics.evaluate(trial.vae, [batch])
        for metric in metrics.METRICS:
            metric(evaluation)
        for view in trial.objective.views(trial.vae).values():
            metrics.evaluate(view, [batch])

    return len(batches) * second_time(step, trial.device)


def typical(batches: Batches) -> Batch:
    """The batch whose number of tokens is nearest to the mean over batches."""
    tokens = np.array([batches.split.lengths[documents].sum() for documents in batches.fixed])
    return Batch.gather(batches.split, batches.fixed[int(np.abs(tokens - tokens.mean()).argmin())])


def second_time(step: Callable[[], object], device: torch.device) -> float:
    """Seconds that a step takes when it has been made once before."""
    step()
    began = now(device)
    step()
    return now(device) - began


def now(device: torch.device) -> float:
    """The time once the device has done what it was told, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def size(state: Any) -> int:
    """Bytes of all tensors in a tree.

    >>> size({"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.float64), "text", 1]})
    28
    """
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(size, state.values()))
    return sum(map(size, state)) if isinstance(state, Iterable) and not isinstance(state, str) else 0
