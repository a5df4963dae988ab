"""Real NVP: one half of the dimensions is shifted and scaled by functions of the other half.

Density Estimation Using Real NVP (Dinh et al., 2017), the affine coupling layer.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from flowsearch.flows._base import Flow
from flowsearch.flows._networks import bounded, seen, silence


class RealNVP(Flow):
    """z'_b = mu(z_a, h) + exp(s(z_a, h)) z_b and z'_a = z_a, with ladj = sum s, for the halves z = (z_a, z_b).

    1. z_a are the first floor(D/2) dimensions. A chain reverses them at every step, so two steps move all of them.
    2. D = 1 leaves z_a empty: the step is affine in z, with a shift and a scale that depend on the context alone.
    3. s is bounded smoothly to (-5, 5), and the network's last layer starts at zero: the identity.
    4. The inverse takes one pass, like the step itself.

    Args:
        latent_size: D.
        context_size: H.
        hidden: units of the network's one hidden layer.

    >>> step = RealNVP(3, 4, hidden=8)
    >>> z, h = torch.randn(2, 3), torch.randn(2, 4)
    >>> torch.allclose(step.inverse(step(z, h)[0], h)[0], z)
    True
    """

    abbreviation = "RealNVP"

    def __init__(self, latent_size: int, context_size: int, *, hidden: PositiveInt = 320) -> None:
        super().__init__(latent_size, context_size)
        self.halves = [latent_size // 2, latent_size - latent_size // 2]
        kept, moved = self.halves
        self.network = nn.Sequential(
            nn.Linear(kept + (context_size or 1), hidden), nn.ELU(), nn.Linear(hidden, 2 * moved)
        )
        silence(self.network)

    def shift_and_log_scale(
        self, kept: Float[Tensor, "*n B A"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B M"], Float[Tensor, "*n B M"]]:
        """mu and s of the half that moves, given the other."""
        shift, raw = self.network(torch.cat([kept, seen(kept, h, self.context_size)], dim=-1)).chunk(2, dim=-1)
        return shift, bounded(raw)

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        kept, moved = z.split(self.halves, dim=-1)
        shift, log_scale = self.shift_and_log_scale(kept, h)
        return torch.cat([kept, shift + log_scale.exp() * moved], dim=-1), log_scale.sum(-1)

    def inverse(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        kept, moved = z.split(self.halves, dim=-1)
        shift, log_scale = self.shift_and_log_scale(kept, h)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=-1), -log_scale.sum(-1)
