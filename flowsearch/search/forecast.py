"""What a study will cost, forecast from two training steps of a few of its configurations on this machine.

Configurations of one space differ in cost mostly by how often each batch is gone through: lagging inference takes up to
`lagging_updates` encoder steps before each decoder step, and a loss such as semi-amortized inference takes steps of its
own. So the cheapest and the costliest by that count are probed first, then what lies between, as far as `PATIENCE`
goes; other configurations are taken to cost what their count says, between the probed ones on a straight line.

1. A forecast takes no account of pruning, of trials that end early, or of trials that slow each other down.
2. The probes run in a process of their own, whose memory is that of one trial; it writes nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import fmean
from typing import Any

import numpy as np
import optuna
import torch

from flowsearch.errors import FlowsearchError, SpaceError
from flowsearch.search.asktell import AskTell
from flowsearch.search.cluster import fitting, processors
from flowsearch.search.label import label
from flowsearch.search.space import Space, branches, draw, size
from flowsearch.text import Corpus
from flowsearch.training.config import TrialConfig, parse
from flowsearch.training.probe import Probe, probe

PATIENCE = 20.0
"""Seconds for all probes together, once their process has started."""

STARTING = 60.0
"""Seconds for their process to start, at most: it imports torch."""

PROBES, SAMPLE = 6, 200
"""Configurations to probe, and to draw for the mean over the space, at most."""

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Probed:
    """A configuration and what its probe found.

    Args:
        label: the model's name in a table.
        updates: passes over each batch beyond the first.
        cost: of a trial.
    """

    label: str
    updates: int
    cost: Probe


@dataclass(frozen=True)
class Forecast:
    """What a study costs without pruning.

    Args:
        probed: what it was forecast from.
        missed: what there was no time for, by its label, if that is costlier than all that was probed.
        trial_seconds: of a trial of mean cost.
        trials: of the study, those that confirm included.
        grid: trials of the full grid; None where a range is continuous.
        concurrent: trials at once on this machine.
    """

    probed: Sequence[Probed]
    missed: str | None
    trial_seconds: float
    trials: int
    grid: int | None
    concurrent: int

    @property
    def total_seconds(self) -> float:
        """Trial-seconds of the whole study."""
        return self.trials * self.trial_seconds


def updates(config: TrialConfig) -> int:
    """How often each batch is gone through beyond the first time, at most.

    1. Counted are the steps of lagging inference, and the whole numbers among the knobs of the loss, which are numbers
       of steps: 20 for `SemiAmortized: {steps: 20}`.
    """
    of_loss = [value for value in config.objective.loss.knobs.values() if type(value) is int]
    return config.objective.lagging_updates + sum(of_loss)


def candidates(space: Space) -> list[tuple[int, Tree]]:
    """Configurations to probe with their `updates`: the space's first, then one for each other count, the costliest
    before the others, then whatever else the space can become."""
    corners = [{"seed": space.tree["seed"], **corner} for _, root in branches(space) for corner in root.corners()]
    counted = [(updates(parse(tree)), tree) for tree in corners]
    first: dict[int, Tree] = {}
    for count, tree in counted:
        first.setdefault(count, tree)
    one_each = [counted[0], *sorted(((n, first[n]) for n in first if n != counted[0][0]), key=lambda pair: -pair[0])]
    return [*one_each, *(pair for pair in counted if pair not in one_each)][:PROBES]


def told(space: Space, corpus: Corpus) -> Iterator[str]:
    """The forecast of a study on this machine in words, or why there is none."""
    there = {"CPU": float(processors()), "GPU": float(torch.cuda.device_count())}
    try:
        concurrent = fitting(there, space.resources, AskTell(space, 0).total, joined=False)
        yield from lines(forecast(space, corpus, concurrent))
    except FlowsearchError as error:
        yield f"no forecast: {error}"


def forecast(space: Space, corpus: Corpus, concurrent: int, *, patience: float = PATIENCE) -> Forecast:
    """Probe as many candidates as there is time for, and add them up.

    Args:
        space: the study's.
        corpus: its text.
        concurrent: trials at once.
        patience: seconds for all probes together.

    Raises:
        FlowsearchError: not even the first two steps were made in that time, or they failed.
    """
    trials = AskTell(space, 0).total
    chosen = candidates(space)
    costs = probes([tree for _, tree in chosen], corpus, threads(space), patience)
    probed = [Probed(label(tree), count, cost) for (count, tree), cost in zip(chosen, costs, strict=False)]
    count, costliest = max(chosen, key=lambda pair: pair[0])
    points = size(space)
    return Forecast(
        probed,
        label(costliest) if count > max(one.updates for one in probed) else None,
        mean_seconds(space, probed),
        trials,
        None if points is None else points * int(space.search.seeds),
        concurrent,
    )


def threads(space: Space) -> int:
    """Threads of a trial."""
    return max(1, int(space.resources.cpus_per_trial))


def mean_seconds(space: Space, probed: Sequence[Probed]) -> float:
    """Seconds of a trial, the mean over configurations drawn at random; each costs what its count of updates says."""
    by_count: dict[int, list[float]] = {}
    for one in probed:
        by_count.setdefault(one.updates, []).append(one.cost.seconds_per_epoch)
    counts = sorted(by_count)
    seconds = [fmean(by_count[count]) for count in counts]
    each = [float(np.interp(updates(one), counts, seconds)) * one.training.epochs for one in sampled(space)]
    return fmean(each) if each else fmean(one.cost.seconds for one in probed)


def sampled(space: Space) -> Iterator[TrialConfig]:
    """Configurations drawn at random, those that cannot be combined left out."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(SAMPLE):
        try:
            yield parse(draw(space, study.ask()))
        except SpaceError:
            continue


def probes(trees: Sequence[Tree], corpus: Corpus, threads: int, patience: float) -> list[Probe]:
    """What each configuration costs, in order, as far as the time goes.

    Raises:
        FlowsearchError: one failed, or there was no time for the first.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=probing, args=(theirs, trees, corpus, threads), daemon=True)
    process.start()
    theirs.close()
    found: list[Probe] = []
    try:
        received(ours, STARTING)
        deadline = time.monotonic() + patience
        while len(found) < len(trees) and (one := received(ours, deadline - time.monotonic())) is not None:
            if isinstance(one, str):
                raise FlowsearchError(f"two steps of {label(trees[len(found)])} failed: {one}")
            found.append(one)
    finally:
        process.kill()
        process.join()
        ours.close()
    if not found:
        raise FlowsearchError(f"two steps of {label(trees[0])} take more than {patience:g} s here")
    return found


def received(connection: Connection, seconds: float) -> Any:
    """The next message; None if none comes in time, or the other end has gone."""
    try:
        return connection.recv() if connection.poll(max(seconds, 0)) else None
    except EOFError:
        return None


def probing(connection: Connection, trees: Sequence[Tree], corpus: Corpus, threads: int) -> None:
    """The process that probes: it says that it is there, then what each configuration costs, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the driver ends this process
    torch.set_num_threads(threads)
    connection.send("ready")
    for tree in trees:
        try:
            connection.send(probe(tree, corpus))
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}".partition("\n")[0])
            return


def lines(found: Forecast) -> Iterator[str]:
    """A forecast in words."""
    few = len(found.probed)
    yield f"forecast from 2 training steps of {few} configuration(s) on this machine, without pruning or early ends:"
    for one in found.probed:
        cost = one.cost
        yield (
            f"  {one.label}: {spelled(cost.seconds_per_epoch)} per epoch, {spelled(cost.seconds)} per trial of "
            f"{cost.epochs} epochs, {cost.memory / 1e9:.2f} GB of memory ({cost.device}), checkpoints of "
            f"{cost.checkpoint_bytes / 1e6:.1f} MB"
        )
    if found.missed:
        yield f"  {found.missed}: not probed in {PATIENCE:g} s, so everything below is too small"
    kept = fmean(one.cost.checkpoint_bytes for one in found.probed)
    wall = found.total_seconds / min(found.concurrent, found.trials)
    yield (
        f"  the search: {found.trials} trials of {spelled(found.trial_seconds)} in the mean, "
        f"{found.total_seconds / 3600:.3g} trial-hours, about {spelled(wall)} with {found.concurrent} at once; "
        f"checkpoints of {found.trials * kept / 1e9:.2g} GB"
    )
    if found.grid is not None:
        hours = found.grid * found.trial_seconds / 3600
        yield f"  the full grid: {found.grid} trials, {hours:.3g} trial-hours"


def spelled(seconds: float) -> str:
    """A length of time, in the unit that suits it.

    >>> spelled(0.04), spelled(90), spelled(5400), spelled(7.2e5)
    ('0.04 s', '90 s', '90 min', '200 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
