"""One pass over a split serves every metric: it leaves a row per document, and metrics are functions of the rows.

The pass has its own seed, so the same model measured twice gives the same numbers, and two models see the same noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowsearch.models import VAE, Distribution, Draw
from flowsearch.text.batches import Batch

SAMPLES = 16
"""Samples of z per document behind the active units of a flow or of an implicit posterior."""


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on N documents, in the order of the split, float64 on the CPU.

    Args:
        log_likelihood: [N], log p(x|z) of one sample of z, in nats.
        kl: [N], KL(q(z|x) || p(z)), in nats: exact where it has a closed form, one-sample where not.
        tokens: [N], targets: words and `</s>`.
        mean: [N, D], of the Gaussian base q0(z_0|x); [N, 0] where there is none (an implicit posterior, or no z).
        logvar: [N, D], of the same.
        origin: [N, D], one sample of z_0.
        expected: [N, D], E[z|x] at the end of the flow: exact for a Gaussian, else over `SAMPLES` samples.
        expected_variance: [N, D], sampling variance of that mean.
        batch: [N], which batch the document was in.
        true_log_probability: [N], log p(x) of the source, in nats, where the corpus knows it.
        is_bound: whether `elbo` is a lower bound on log p(x); with an implicit posterior, whose KL is a critic's
            estimate from below, it is not.
    """

    log_likelihood: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    tokens: Int[Tensor, " N"]
    mean: Float[Tensor, "N D"]
    logvar: Float[Tensor, "N D"]
    origin: Float[Tensor, "N D"]
    expected: Float[Tensor, "N D"]
    expected_variance: Float[Tensor, "N D"]
    batch: Int[Tensor, " N"]
    true_log_probability: Float[Tensor, " N"] | None = field(default=None, kw_only=True)
    is_bound: bool = field(default=True, kw_only=True)

    @property
    def elbo(self) -> Float[Tensor, " N"]:
        """The bound of each document, KL weight 1, in nats."""
        return self.log_likelihood - self.kl


@torch.no_grad()
def evaluate(
    vae: VAE, batches: Iterable[Batch], *, seed: int = 0, true_log_probability: Float[Tensor, " N"] | None = None
) -> Evaluation:
    """Measure a model on the documents of some batches, in evaluation mode.

    Args:
        vae: left in the mode it was in.
        batches: each document once.
        seed: of the noise; the global generator is left as it was.
        true_log_probability: passed on.
    """
    device = next(vae.parameters()).device
    training = vae.training
    vae.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        parts = [rows(vae, batch.to(device), index) for index, batch in enumerate(batches)]
    vae.train(training)
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    order = columns[0].argsort()
    documents = [column[order].double() if column.is_floating_point() else column[order] for column in columns[1:]]
    is_bound = vae.posterior.has_density
    return replace(Evaluation(*documents), true_log_probability=true_log_probability, is_bound=is_bound)


@torch.no_grad()
def information_only(vae: VAE, batches: Iterable[Batch], *, seed: int = 0) -> Evaluation:
    """The same pass without the decoder: enough for mutual information and active units."""
    return evaluate(EncoderOnly(vae), batches, seed=seed)


class EncoderOnly(VAE):
    """A view of a VAE whose decoder is not asked."""

    def __init__(self, vae: VAE) -> None:
        super().__init__(vae.encoder, vae.posterior, vae.prior, vae.decoder, bf16=vae.bf16)
        self.training = vae.training

    def decode(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        return z.new_zeros(z.shape[:2])


def rows(vae: VAE, batch: Batch, index: int) -> tuple[Tensor, ...]:
    """The columns of an `Evaluation` for one batch, after the documents' own indices."""
    q = vae.encode(batch)
    draw = q.draw(1)
    kl = vae.kl(q, draw)[0]
    log_likelihood = vae.decode(draw.z, batch)[0]
    where = torch.full_like(batch.lengths, index)
    return (batch.documents, log_likelihood, kl, batch.lengths, *base(q, draw), *expectation(q), where)


def base(q: Distribution, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, logvar and the sample of the Gaussian base; no columns where there is none."""
    if q.base is None:
        none = draw.z.new_empty(draw.z.shape[1], 0)
        return none, none, none
    return q.base.mean, q.base.logvar, draw.origin[0]


def expectation(q: Distribution) -> tuple[Tensor, Tensor]:
    """E[z|x] and the sampling variance of its estimate.

    For a flow only E[z_k - z_0|x] comes from samples, so one near the identity is measured without noise.
    """
    if q.base is q:
        return q.base.mean, torch.zeros_like(q.base.mean)
    more = q.draw(SAMPLES)
    moved = more.z if q.base is None else more.z - more.origin
    start = 0.0 if q.base is None else q.base.mean
    return start + moved.mean(0), moved.var(0) / SAMPLES
