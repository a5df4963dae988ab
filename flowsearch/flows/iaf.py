"""The inverse autoregressive flow: every dimension is shifted and scaled by functions of those before it.

Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), with the masked network of
MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from zuko.nn import MaskedMLP

from flowsearch.flows._base import Flow

LOG_SCALE_BOUND = 5.0


class IAF(Flow):
    """z'_i = mu_i(z_<i, h) + exp(s_i(z_<i, h)) z_i, with ladj = sum_i s_i: one pass whatever D is.

    1. mu and s come from a MADE with one hidden layer that also sees the context h (the thesis: "one-layer MADE").
    2. s is bounded smoothly to (-5, 5), for a chain of steps overflows otherwise; near 0 it is the network's output.
    3. The last layer starts at zero: the identity at initialisation. Kingma's gate, sigmoid(s + 2), is not.
    4. The inverse takes D passes.
    5. Without a context the MADE sees a constant in its place, so that D = 1 leaves it something to see.

    Args:
        latent_size: D.
        context_size: H.
        hidden: units of the hidden layer.

    >>> step = IAF(3, 4, hidden=8)
    >>> z, h = torch.randn(2, 3), torch.randn(2, 4)
    >>> torch.allclose(step.inverse(step(z, h)[0], h)[0], z)
    True
    """

    abbreviation = "IAF"

    def __init__(self, latent_size: int, context_size: int, *, hidden: PositiveInt = 320) -> None:
        super().__init__(latent_size, context_size)
        before = torch.ones(latent_size, latent_size).tril(-1).bool()
        sees = torch.cat([before, torch.ones(latent_size, context_size or 1, dtype=torch.bool)], dim=1)
        self.made = MaskedMLP(sees.repeat(2, 1), hidden_features=(hidden,), activation=nn.ELU)
        nn.init.zeros_(self.made[-1].weight)
        nn.init.zeros_(self.made[-1].bias)

    def shift_and_log_scale(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B D"]]:
        """mu and s of every dimension, given those before it."""
        known = h[..., : self.context_size] if self.context_size else z.new_ones(1)
        context = known.expand(*z.shape[:-1], -1)
        shift, raw = self.made(torch.cat([z, context], dim=-1)).chunk(2, dim=-1)
        return shift, LOG_SCALE_BOUND * torch.tanh(raw / LOG_SCALE_BOUND)

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        shift, log_scale = self.shift_and_log_scale(z, h)
        return shift + log_scale.exp() * z, log_scale.sum(-1)

    def inverse(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        origin = torch.zeros_like(z)
        for _ in range(self.latent_size):
            shift, log_scale = self.shift_and_log_scale(origin, h)
            origin = (z - shift) * (-log_scale).exp()
        return origin, -log_scale.sum(-1)
