"""The objective of an implicit posterior: its critic learns first, then the model by the critic's KL.

Implicit Deep Latent Variable Models for Text Generation (Fang, Li, Gao, Dong & Chen, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt

from flowsearch.models import VAE, Pushforward
from flowsearch.objectives._base import EVERYTHING, KLTerm, Phase, Terms, Weight
from flowsearch.objectives.elbo import ELBO
from flowsearch.objectives.stops import after
from flowsearch.text.batches import Batch


class Implicit(ELBO):
    """-log p(x|z) + weight KL, the KL in its dual form: no bound, for a critic finds less than the true KL.

    Args:
        weight, kl_term: as of every loss.
        critic_updates: steps of the critic before each of the model's.
    """

    def __init__(self, weight: Weight, kl_term: KLTerm, *, critic_updates: PositiveInt = 5) -> None:
        super().__init__(weight, kl_term)
        self.critic_updates = critic_updates

    def phases(self, step: int) -> Sequence[Phase]:
        return (Phase(("critic",), self.critic_loss, after(self.critic_updates)), Phase(EVERYTHING, self))

    def critic_loss(self, vae: VAE, batch: Batch, step: int) -> Terms:
        """Minus the KL that the critic sees, in nats."""
        with torch.no_grad():
            q = vae.encode(batch)
            draw = q.draw(1)
        assert isinstance(q, Pushforward)
        return Terms(q.critic_loss(vae.prior, draw))
