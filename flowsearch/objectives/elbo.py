"""The evidence lower bound, with a weight on its KL.

Auto-Encoding Variational Bayes (Kingma & Welling, 2013); the weight: Generating Sentences from a Continuous Space
(Bowman et al., 2015) while it grows, beta-VAE (Higgins et al., 2017) where it stays.
"""

from __future__ import annotations

from flowsearch.models import VAE
from flowsearch.objectives._base import Loss, Terms
from flowsearch.text.batches import Batch


class ELBO(Loss):
    """Mean over documents of -log p(x|z) + weight KL(q(z|x) || p(z)), one sample of z, in nats."""

    def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
        q = vae.encode(batch)
        draw = q.draw(1)
        kl = vae.kl(q, draw)
        reconstruction = -vae.decode(draw.z, batch)
        loss = (reconstruction + self.weight(step) * self.kl_term(kl, q)).mean()
        return Terms(loss, {"reconstruction": reconstruction.detach().mean(), "kl": kl.detach().mean()})
