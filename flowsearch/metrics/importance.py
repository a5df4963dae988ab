"""The importance-weighted bound on -log p(x), tighter than the ELBO (Burda, Grosse & Salakhutdinov, 2015)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from flowsearch.metrics.likelihood import perplexity
from flowsearch.models import VAE
from flowsearch.text.batches import Batch

SEQUENCES = 1024
"""Sequences decoded at once."""


@torch.no_grad()
def importance_weighted(vae: VAE, batches: Iterable[Batch], samples: int, *, seed: int = 0) -> Mapping[str, float]:
    """`iw_nll` in nats per document, `iw_ppl`, and `iw_samples`, K, with the model in evaluation mode.

    Args:
        vae: left in the mode it was in.
        batches: each document once.
        samples: K.
        seed: of the noise; the global generator is left as it was.
    """
    device = next(vae.parameters()).device
    training = vae.training
    vae.eval()
    total = tokens = documents = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches:
            total += iw_nll(vae, batch.to(device), samples).double().sum().item()
            tokens += batch.lengths.sum().item()
            documents += len(batch.lengths)
    vae.train(training)
    return {"iw_nll": total / documents, "iw_ppl": perplexity(total, tokens), "iw_samples": float(samples)}


def iw_nll(vae: VAE, batch: Batch, samples: int) -> Float[Tensor, " B"]:
    """-log (1/K) sum_k p(x, z_k) / q(z_k|x) of each document, in nats; every one of the K samples counts."""
    q = vae.encode(batch)
    at_once = max(1, SEQUENCES // len(batch.lengths))
    weights = []
    for start in range(0, samples, at_once):
        draw = q.draw(min(at_once, samples - start))
        weights.append(vae.decode(draw.z, batch) + vae.prior.log_prob(draw.z) - draw.log_density)
    return math.log(samples) - torch.cat(weights).logsumexp(0)
