"""Families of p(z)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.models.distributions import Distribution, Draw, gaussian_log_prob


class Prior(nn.Module, ABC):
    """p(z) over D dimensions."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        """log p(z) in nats."""

    @abstractmethod
    def sample(self, n: int) -> Float[Tensor, "n D"]:
        """n points."""

    def kl(self, q: Distribution, draw: Draw) -> Float[Tensor, "n B"]:
        """KL(q(z|x) || p(z)) in nats per document, one estimate per sample unless the prior knows better."""
        return draw.log_q - self.log_prob(draw.z)


class StandardNormal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        return gaussian_log_prob(z)

    def sample(self, n: int) -> Float[Tensor, "n D"]:
        return torch.randn(n, self.latent_size)

    def kl(self, q: Distribution, draw: Draw) -> Float[Tensor, "n B"]:
        return q.kl(draw)
