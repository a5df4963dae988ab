"""The importance-weighted bound on -log p(x), tighter than the ELBO (Burda, Grosse & Salakhutdinov, 2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from flowsearch.metrics.likelihood import perplexity
from flowsearch.models import VAE, DiagonalGaussian, Distribution
from flowsearch.text.batches import Batch

SEQUENCES = 1024
"""Sequences decoded at once."""

FIT = 64
"""Samples that a proposal is fitted to."""


@torch.no_grad()
def importance_weighted(
    vae: VAE, batches: Iterable[Batch], samples: int, *, proposal: str = "posterior", seed: int = 0
) -> Mapping[str, float]:
    """`iw_nll` in nats per document, `iw_ppl`, and `iw_samples`, K, with the model in evaluation mode.

    Args:
        vae: left in the mode it was in.
        batches: each document once.
        samples: K.
        proposal: of `PROPOSALS`, where the samples come from.
        seed: of the noise; the global generator is left as it was.
    """
    device = next(vae.parameters()).device
    training = vae.training
    vae.eval()
    total = tokens = documents = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches:
            total += iw_nll(vae, batch.to(device), samples, PROPOSALS[proposal]).double().sum().item()
            tokens += batch.lengths.sum().item()
            documents += len(batch.lengths)
    vae.train(training)
    return {"iw_nll": total / documents, "iw_ppl": perplexity(total, tokens), "iw_samples": float(samples)}


Proposal = Callable[[VAE, Distribution, int], tuple[Tensor, Tensor]]
"""(vae, q, n) -> n points z [n, B, D] for each document, and the log-density [n, B] that they were drawn with."""


def own(vae: VAE, q: Distribution, n: int) -> tuple[Tensor, Tensor]:
    """From q(z|x) itself.

    Raises:
        Intractable: it has no density.
    """
    draw = q.draw(n)
    return draw.z, draw.log_density


def fitted(vae: VAE, q: Distribution, n: int) -> tuple[Tensor, Tensor]:
    """From an even mixture of the prior and a Gaussian with the mean and variance of q(z|x), which needs no density.

    Any proposal gives a bound, a poor one a loose bound; with the prior in the mixture no weight exceeds 2 p(x|z).
    """
    known = q.draw(FIT).z
    gaussian = DiagonalGaussian(known.mean(0), known.var(0).clamp(min=1e-6).log())
    near = gaussian.draw(n).z
    far = vae.prior.sample(near.shape[0] * near.shape[1]).view(near.shape)
    z = torch.where(torch.rand_like(near[..., :1]) < 0.5, near, far)
    densities = torch.stack([gaussian.log_prob(z), vae.prior.log_prob(z)])
    return z, densities.logsumexp(0) - math.log(2)


PROPOSALS: Mapping[str, Proposal] = {"posterior": own, "fitted": fitted}


def iw_nll(vae: VAE, batch: Batch, samples: int, proposal: Proposal = own) -> Float[Tensor, " B"]:
    """-log (1/K) sum_k p(x, z_k) / r(z_k|x) of each document, in nats; every one of the K samples counts."""
    q = vae.encode(batch)
    at_once = max(1, SEQUENCES // len(batch.lengths))
    weights = []
    for start in range(0, samples, at_once):
        z, log_r = proposal(vae, q, min(at_once, samples - start))
        weights.append(vae.decode(z, batch) + vae.prior.log_prob(z) - log_r)
    return math.log(samples) - torch.cat(weights).logsumexp(0)
