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
        """n points, on the prior's device."""

    def kl(self, q: Distribution, draw: Draw) -> Float[Tensor, "n B"]:
        """KL(q(z|x) || p(z)) in nats per document, one estimate per sample unless the prior knows better."""
        return q.kl_to(self, draw)


class StandardNormal(Prior):
    """N(0, I)."""

    origin: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__(latent_size)
        self.register_buffer("origin", torch.zeros(latent_size), persistent=False)  # says where, and how precise

    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        return gaussian_log_prob(z)

    def sample(self, n: int) -> Float[Tensor, "n D"]:
        return torch.randn_like(self.origin.expand(n, -1))

    def kl(self, q: Distribution, draw: Draw) -> Float[Tensor, "n B"]:
        return q.kl(draw)
