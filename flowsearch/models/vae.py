"""A text VAE: p(x, z) = p(z) p(x|z) with an amortised posterior q(z|x) (Kingma & Welling, 2013)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.models.decoders import Decoder
from flowsearch.models.distributions import Distribution, Draw
from flowsearch.models.encoders import Encoder
from flowsearch.models.posteriors import Posterior
from flowsearch.models.priors import Prior
from flowsearch.text.batches import Batch


class VAE(nn.Module):
    """Encoder, posterior, prior and decoder; what moves in a phase of training is named by `parts`.

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

    def parts(self) -> dict[str, nn.Module]:
        """What a phase may move, by name: each has an optimiser of its own."""
        return {"encoder": self.encoder, **self.posterior.parts(), "prior": self.prior, "decoder": self.decoder}

    def amortize(self, batch: Batch) -> Float[Tensor, "B P"]:
        """phi, the variational parameters of each document."""
        with self.precision(batch):
            h = self.encoder(batch)
        wide = torch.promote_types(h.dtype, torch.float32)
        return self.posterior.amortize(h.to(wide))

    def encode(self, batch: Batch) -> Distribution:
        """q(z|x) of each document."""
        return self.posterior.at(self.amortize(batch))

    def kl(self, q: Distribution, draw: Draw) -> Float[Tensor, "n B"]:
        """KL(q(z|x) || p(z)) in nats per document: exact where it has a closed form, else one estimate per sample."""
        return self.prior.kl(q, draw)

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
