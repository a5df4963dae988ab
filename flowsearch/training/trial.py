"""A trial: one VAE, one objective, one corpus, from (configuration, seed) to readings; it knows nothing of any search.

All randomness of an epoch follows from (seed, epoch), so a trial that goes on from the checkpoint of an epoch is bit
for bit the trial that never stopped.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowsearch import metrics, objectives, text
from flowsearch.errors import Diverged
from flowsearch.models import DECODERS, ENCODERS, POSTERIORS, PRIORS, VAE
from flowsearch.objectives.annealing import Annealing, Pace
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.results.documents import write_documents
from flowsearch.results.reading import UNITS, Reading
from flowsearch.text import Corpus, WordDropout
from flowsearch.text.batches import Batch, Batches
from flowsearch.training import checkpoint, config, optimizers
from flowsearch.training.clip import CLIPS
from flowsearch.training.config import BATCHINGS, TrialConfig
from flowsearch.training.decay import DECAYS, Decay
from flowsearch.training.loop import Tally, train
from flowsearch.training.precision import fastest_float32

Readings = list[Reading]


def run_trial(
    tree: Mapping[str, Any], report: Callable[[Readings], None], *, directory: Path, corpus: Corpus | None = None
) -> None:
    """Train a trial to its end and report after every epoch; see `readings`."""
    for measured in readings(tree, directory=directory, corpus=corpus):
        report(measured)


def readings(tree: Mapping[str, Any], *, directory: Path, corpus: Corpus | None = None) -> Iterator[Readings]:
    """Train epoch by epoch and yield what was measured after each: train, valid, and test where valid was the best yet.

    Once trained, a trial that asks for importance samples yields the test reading of its best epoch again, with
    `iw_nll` in it.

    Args:
        tree: a plain configuration, as `config.parse` reads it.
        directory: the trial's folder: `last.pt` is continued if it is there, the best model is kept there. The epoch of
            a continued checkpoint is yielded once more, for whoever did not hear of it.
        corpus: the text, already loaded; None loads what the configuration names.

    Raises:
        SpaceError: the configuration is wrong.
        CorpusError: the corpus is.
        Diverged: a loss or a gradient is not finite.
    """
    settings = config.parse(tree)
    directory.mkdir(parents=True, exist_ok=True)
    trial = Trial.start(settings, corpus or load_corpus(settings.data))
    state = checkpoint.load_last(directory, trial.device)
    if state is not None:
        trial.restore(state)
        yield trial.latest
    while trial.epoch < settings.training.epochs and not trial.finished:
        trial.next_epoch(directory)
        checkpoint.save_last(directory, trial.state())
        yield trial.latest
    if settings.metrics.importance_samples:
        yield [trial.importance_weighted(directory)]


def load_corpus(data: config.Data) -> Corpus:
    """The corpus that a configuration names."""
    return text.load(
        config.plain(data.corpus),
        root=data.root,
        vocabulary_size=data.vocabulary_size,
        min_count=data.min_count,
        max_words=data.max_words,
    )


def build_vae(model: config.Model, vocabulary_size: int, *, bf16: bool = False) -> VAE:
    """The VAE that a configuration describes, freshly initialised from the global generator."""
    encoder = model.encoder.build(ENCODERS, vocabulary_size)
    posterior = model.posterior.build(POSTERIORS, model.latent_size, encoder.state_size)
    prior = model.prior.build(PRIORS, model.latent_size)
    decoder = model.decoder.build(DECODERS, vocabulary_size, model.latent_size)
    return VAE(encoder, posterior, prior, decoder, bf16=bf16)


def build_objective(settings: config.Objective, pace: Pace) -> objectives.Objective:
    """The loss, its KL weight and free bits, and lagging inference around it where it is asked for."""
    annealing: Annealing = settings.annealing.build(objectives.ANNEALINGS, settings.warmup_epochs, pace)
    kl_term = settings.free_bits.build(objectives.FREE_BITS) if settings.free_bits else no_free_bits
    loss: objectives.Objective = settings.loss.build(
        objectives.LOSSES, partial(kl_weight, settings.beta, annealing), kl_term
    )
    if not settings.lagging_updates:
        return loss
    return objectives.Lagging(loss, settings.lagging_updates, settings.lagging_stop.build(objectives.LAGGING_STOPS))


def kl_weight(beta: float, annealing: Annealing, step: int) -> float:
    """beta times the share that the warm-up has reached."""
    return beta * annealing.share(step)


def stream(seed: int, epoch: int, purpose: int) -> np.random.SeedSequence:
    """Where the randomness of one purpose in one epoch comes from."""
    return np.random.SeedSequence((seed, epoch, purpose))


def seed_torch(seed: int, epoch: int) -> None:
    """Seed torch for an epoch; epoch 0 is initialisation."""
    torch.manual_seed(int(stream(seed, epoch, 0).generate_state(1, np.uint64)[0]))


@dataclass
class Trial:
    """A trial between two epochs."""

    settings: TrialConfig
    corpus: Corpus
    device: torch.device
    vae: VAE
    objective: objectives.Objective
    batches: Mapping[str, Batches]
    optimizers: Mapping[str, torch.optim.Optimizer]
    decay: Decay
    epoch: int = 0
    step: int = 0
    best_elbo: float = -torch.inf
    best_epoch: int = 0
    finished: bool = False
    latest: Readings = field(default_factory=list)
    best_test: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def start(cls, settings: TrialConfig, corpus: Corpus) -> Trial:
        """Everything built and initialised from the seed."""
        training = settings.training
        name = {"auto": "cuda" if torch.cuda.is_available() else "cpu"}.get(training.device, training.device)
        device = torch.device(name)
        fastest_float32(device.type)
        batches = {
            split: settings.data.batching.build(BATCHINGS, documents, settings.data.batch_size)
            for split, documents in corpus.splits.items()
        }
        pace = Pace(len(batches["train"]), len(corpus.splits["train"]) / settings.data.batch_size)
        seed_torch(settings.seed, 0)
        vae = build_vae(settings.model, len(corpus.vocabulary), bf16=training.precision == "bf16").to(device)
        decay: Decay = training.decay.build(DECAYS, settings.objective.warmup_epochs, training.epochs)
        objective = build_objective(settings.objective, pace)
        movers = scaled(fresh_optimizers(vae, training), decay.first)
        return cls(settings, corpus, device, vae, objective, batches, movers, decay)

    def next_epoch(self, directory: Path) -> None:
        """Train one epoch, measure it, keep the model if it is the best, and settle the learning rate."""
        epoch = self.epoch + 1
        learned = self.train_epoch(epoch)
        valid = self.measure("valid")
        if not np.isfinite(valid["elbo"]):
            raise Diverged(self.step, "validation elbo")
        self.latest = [Reading(epoch, "train", learned), Reading(epoch, "valid", valid)]
        self.objective.observe(valid)
        if valid["elbo"] > self.best_elbo:
            self.best_elbo, self.best_epoch, self.best_test = valid["elbo"], epoch, self.measure("test", directory)
            self.latest.append(Reading(epoch, "test", self.best_test))
            checkpoint.save_best(directory, self.vae.state_dict(), config.plain(self.settings))
        self.settle(epoch, -valid["elbo"], directory)
        self.epoch = epoch

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train on every document once; what a reading of the training split says."""
        seed_torch(self.settings.seed, epoch)
        order, random = (np.random.default_rng(stream(self.settings.seed, epoch, purpose)) for purpose in (1, 2))
        batches = self.batches["train"]
        tally, started = Tally(self.step), time.perf_counter()
        looks = self.look_after(len(batches))
        self.vae.train()
        epoch_batches, more = map(self.ready, batches.epoch(order)), map(self.ready, batches.random(random))
        clip = CLIPS[self.settings.training.clip](self.settings.training.clip_norm)
        accumulate = self.settings.training.accumulate
        for now in train(self.vae, self.objective, epoch_batches, more, self.optimizers, clip, tally, accumulate):
            if now.step - self.step in looks:
                self.objective.observe(self.information())
        first, self.step = self.step, tally.step
        return self.learned(tally, self.step - first, time.perf_counter() - started)

    def look_after(self, batches: int) -> set[int]:
        """After which batches of an epoch the objective wants to hear the mutual information, its end aside."""
        checks = self.objective.checks_per_epoch()
        return {batches * check // checks for check in range(1, checks)} if checks else set()

    def learned(self, tally: Tally, outer: int, seconds: float) -> dict[str, float]:
        """The means of an epoch, and what it cost."""
        means = tally.means()
        elbo = -(means["reconstruction"] + means["kl"])
        return {
            "elbo": elbo,
            **means,
            "ppl": metrics.perplexity(-elbo * tally.documents, tally.tokens),
            **self.objective.describe(max(self.step - 1, 0)),
            "lr": self.lr,
            "steps": float(outer),
            "inner_steps": float(tally.steps - outer),
            "documents": float(tally.documents),
            "tokens": float(tally.tokens),
            "seconds": seconds,
            "tokens_per_second": tally.worked / seconds,
            "peak_memory": float(peak_memory(self.device)),
        }

    @property
    def lr(self) -> float:
        """The learning rate, one for all modules."""
        rate: float = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        return rate

    def ready(self, batch: Batch) -> Batch:
        """On the device, with word dropout."""
        noise = WordDropout(self.settings.objective.word_dropout, self.corpus.vocabulary.unk)
        return noise(batch.to(self.device))

    def measure(self, split: str, directory: Path | None = None) -> dict[str, float]:
        """Every metric of a split, from one pass over it, whose documents are kept in a directory that is given."""
        started = time.perf_counter()
        truth = self.corpus.splits[split].log_probability
        known = None if truth is None else torch.from_numpy(np.array(truth))
        evaluation = metrics.evaluate(self.vae, self.batches[split].epoch(), true_log_probability=known)
        wanted = metrics.METRICS + metrics.INFORMATION[self.settings.metrics.mutual_information]
        values = {name: value for metric in wanted for name, value in metric(evaluation).items()}
        for suffix, view in self.objective.views(self.vae).items():
            seen = metrics.evaluate(view, self.batches[split].epoch())
            named = {f"{name}_{suffix}": value for metric in metrics.OF_VIEWS for name, value in metric(seen).items()}
            values |= {name: value for name, value in named.items() if name in UNITS}
        if directory is not None:
            write_documents(directory, metrics.by_document(evaluation))
        return {**values, "seconds": time.perf_counter() - started}

    def information(self) -> dict[str, float]:
        """What the encoder alone says of the validation set: KL and mutual information."""
        evaluation = metrics.information_only(self.vae, self.batches["valid"].epoch())
        return {**metrics.likelihood(evaluation), **metrics.mutual_information(evaluation)}

    def settle(self, epoch: int, loss: float, directory: Path) -> None:
        """Let the decay rule have its say on the learning rate."""
        verdict = self.decay.judge(epoch, loss)
        self.finished = verdict.stop
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        if verdict.reload:
            self.vae.load_state_dict(checkpoint.load_best(directory, self.device))
            self.optimizers = fresh_optimizers(self.vae, self.settings.training)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * verdict.factor

    def importance_weighted(self, directory: Path) -> Reading:
        """The test reading of the best epoch, with the importance-weighted bound of the best model."""
        self.vae.load_state_dict(checkpoint.load_best(directory, self.device))
        wanted = self.settings.metrics
        bound = partial(
            metrics.importance_weighted, samples=wanted.importance_samples, proposal=wanted.importance_proposal
        )
        values = {**self.best_test, **bound(self.vae, self.batches["test"].epoch())}
        for suffix, view in self.objective.views(self.vae).items():
            values[f"iw_nll_{suffix}"] = bound(view, self.batches["test"].epoch())["iw_nll"]
        return Reading(self.best_epoch, "test", values)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors and plain values."""
        return {
            "vae": self.vae.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "decay": self.decay.state_dict(),
            "latest": [(reading.epoch, reading.split, dict(reading.values)) for reading in self.latest],
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the trial that `state` was taken of."""
        self.vae.load_state_dict(state["vae"])
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.decay.load_state_dict(state["decay"])
        self.latest = [Reading(*reading) for reading in state["latest"]]
        vars(self).update({name: state[name] for name in COUNTERS})


COUNTERS = ("epoch", "step", "best_elbo", "best_epoch", "finished", "best_test")


def fresh_optimizers(vae: VAE, training: config.Training) -> dict[str, torch.optim.Optimizer]:
    """One optimiser for each part that has something to learn, by the part's name."""
    choices = {"critic": training.critic_optimizer}
    return {
        name: choices.get(name, training.optimizer).build(optimizers.OPTIMIZERS, module.parameters())
        for name, module in vae.parts().items()
        if next(module.parameters(), None) is not None
    }


def scaled(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> Mapping[str, torch.optim.Optimizer]:
    """The same optimisers, their learning rates multiplied."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] *= factor
    return optimizers


def peak_memory(device: torch.device) -> int:
    """Bytes at most so far: of the device, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
