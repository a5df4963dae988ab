"""A text VAE: p(x, z) = p(z) p(x|z) with an amortised posterior q(z|x) (Kingma & Welling, 2013)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.models.decoders import Decoder
from flowsearch.models.distributions import Distribution
from flowsearch.models.encoders import Encoder
from flowsearch.models.posteriors import Posterior
from flowsearch.models.priors import Prior
from flowsearch.text.batches import Batch


class VAE(nn.Module):
    """Four modules, each with its own optimiser: what moves in a phase of training is named by their names.

    Args:
        encoder, posterior, prior, decoder: the modules.
        bf16: run encoder and decoder in bfloat16; everything about z, and every softmax, stays in float32.
    """

    def __init__(
        self, encoder: Encoder, posterior: Posterior, prior: Prior, decoder: Decoder, *, bf16: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior, self.decoder = encoder, posterior, prior, decoder
        self.bf16 = bf16

    def encode(self, batch: Batch) -> Distribution:
        """q(z|x) of each document."""
        with self.precision(batch):
            h = self.encoder(batch)
        wide = torch.promote_types(h.dtype, torch.float32)
        return self.posterior.at(self.posterior.amortize(h.to(wide)))

    def decode(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        """log p(x|z) in nats per document."""
        with self.precision(batch):
            scores: Tensor = self.decoder(z, batch)
        return scores

    @torch.no_grad()
    def generate(self, z: Float[Tensor, "B D"], *, temperature: float = 1.0, max_words: int = 200) -> list[list[int]]:
        """One document per point, as word ids; temperature 0 is greedy."""
        return self.decoder.generate(z, temperature=temperature, max_words=max_words)

    def precision(self, batch: Batch) -> torch.autocast:
        """bfloat16 where it was asked for."""
        return torch.autocast(batch.tokens.device.type, dtype=torch.bfloat16, enabled=self.bf16)
