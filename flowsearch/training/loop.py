"""One epoch of training: batches, phases, steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from flowsearch.errors import Diverged
from flowsearch.models import VAE
from flowsearch.objectives import Objective, Phase, Terms
from flowsearch.text.batches import Batch
from flowsearch.training.clip import Clip

LOOK_EVERY = 25
"""Steps between looks at whether everything is still finite; each look waits for the device."""

Optimizers = Mapping[str, torch.optim.Optimizer]


class Tally:
    """Running sums of one epoch, kept on the device so that no step waits for it.

    Args:
        step: outer steps before this epoch.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.steps = self.documents = self.tokens = self.worked = 0
        self.sums: dict[str, Tensor] = {}
        self.broken: dict[str, Tensor] = {}

    def watch(self, parts: Mapping[str, Tensor]) -> None:
        """Remember for each part the first step at which it was not finite."""
        for name, value in parts.items():
            now = torch.where(value.isfinite(), torch.inf, float(self.step))
            self.broken[name] = torch.minimum(self.broken.get(name, now), now)

    def look(self) -> None:
        """Raises Diverged with the first part that broke, and its step."""
        steps = {name: step.item() for name, step in self.broken.items()}
        name = min(steps, key=lambda part: steps[part], default="")
        if name and steps[name] < torch.inf:
            raise Diverged(int(steps[name]), name)

    def add(self, batch: Batch, parts: Mapping[str, Tensor]) -> None:
        """Count a batch that has been through all its phases."""
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value * len(batch)
        self.documents += len(batch)
        self.tokens += targets(batch)
        self.step += 1

    def means(self) -> dict[str, float]:
        """Means over documents, in nats."""
        return {name: total.item() / self.documents for name, total in self.sums.items()}


def targets(batch: Batch) -> int:
    """Tokens of a batch, without waiting for a device."""
    return batch.inputs.numel() if not batch.padded else int(batch.lengths.sum())


def train(
    vae: VAE,
    objective: Objective,
    batches: Iterable[Batch],
    more: Iterator[Batch],
    optimizers: Optimizers,
    clip: Clip,
    tally: Tally,
    accumulate: int = 1,
) -> Iterator[Tally]:
    """Train on each batch once, in the objective's phases; yields after every batch.

    Args:
        vae: in training mode.
        objective: what descends.
        batches: the epoch's, in order, noise and device settled.
        more: batches at random, for phases that repeat.
        optimizers: one per part of the VAE, by its name.
        clip: applied before every step.
        tally: sums up the epoch.
        accumulate: parts that a batch is cut into, one at a time in memory.

    Raises:
        Diverged: a loss or a gradient is not finite.
    """
    for batch in batches:
        for phase in objective.phases(tally.step):
            parts = descend(vae, phase, chain([batch], more), optimizers, clip, tally, accumulate)
        tally.add(batch, parts)
        if tally.step % LOOK_EVERY == 0:
            tally.look()
        yield tally
    tally.look()


def descend(
    vae: VAE,
    phase: Phase,
    batches: Iterator[Batch],
    optimizers: Optimizers,
    clip: Clip,
    tally: Tally,
    accumulate: int = 1,
) -> Mapping[str, Tensor]:
    """Repeat a phase until its stop says enough; the parts of its last loss."""
    history: list[tuple[Tensor, int]] = []
    parts = vae.parts()
    with gradients(vae, clip.learns(phase.moves, optimizers)):
        for batch in batches:
            vae.zero_grad(set_to_none=True)
            terms = backward(vae, phase, batch, tally.step, accumulate)
            norm = clip(parts[name] for name in optimizers)
            for name in phase.moves:
                if name in optimizers:
                    optimizers[name].step()
            tally.watch({**terms.parts, "loss": terms.loss, "gradient": norm})
            tally.steps += 1
            tally.worked += targets(batch)
            history.append((terms.loss * len(batch), targets(batch)))
            if phase.until(history):
                break
    return {**terms.parts, "loss": terms.loss}


def backward(vae: VAE, phase: Phase, batch: Batch, step: int, accumulate: int = 1) -> Terms:
    """Add a batch's gradient to its parameters', part by part, and give the loss of the whole batch, detached.

    1. A loss that is a mean over documents has the same gradient in parts. One that couples the documents of a batch
       (free bits of the batch's mean KL, a critic) couples those of a part.

    Args:
        vae: whose gradients have been cleared.
        phase: whose loss it is.
        batch: of B documents.
        step: of training.
        accumulate: parts; each holds its graph in memory alone.
    """
    whole: dict[str, Any] = {}
    for part in batch.parts(accumulate):
        share = len(part) / len(batch)
        terms = phase.loss(vae, part, step)
        (terms.loss * share).backward()
        for name, value in {**terms.parts, "loss": terms.loss.detach()}.items():
            whole[name] = whole.get(name, 0) + value * share
    return Terms(whole.pop("loss"), whole)


@contextmanager
def gradients(vae: VAE, names: set[str]) -> Iterator[None]:
    """Make gradients for these modules only."""
    still = [module for name, module in vae.parts().items() if name not in names]
    for module in still:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in still:
            module.requires_grad_(True)
