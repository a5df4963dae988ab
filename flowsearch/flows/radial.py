"""The radial flow: expand or contract space around one point.

Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), equations 13 and 14 and appendix A.2.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from flowsearch.flows._base import Conditioner, Flow


class Radial(Flow):
    """z' = z + beta (z - z0) / (alpha + r), with r = |z - z0|.

    ladj = (D - 1) log(1 + beta / (alpha + r)) + log(1 + alpha beta / (alpha + r)^2).

    1. alpha > 0 and beta >= -alpha make the step invertible: beta = alpha (softplus(beta_raw + c) - 1).
    2. c = log(e - 1) is ours: beta_raw = 0 then gives beta = 0, the identity at initialisation.
    3. The inverse has no closed form in z.

    Args:
        latent_size: D.
        context_size: H; z0, alpha and beta are functions of the context, or free parameters where H = 0.
    """

    abbreviation = "RF"

    def __init__(self, latent_size: int, context_size: int) -> None:
        super().__init__(latent_size, context_size)
        self.parameters_of = Conditioner(context_size, torch.cat([torch.randn(latent_size), torch.zeros(2)]))

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        centre, alpha_raw, beta_raw = self.parameters_of(h).split([self.latent_size, 1, 1], dim=-1)
        alpha = softplus(alpha_raw)
        beta = alpha * (softplus(beta_raw + math.log(math.e - 1)) - 1)
        away = z - centre
        # The tiny offset keeps the gradient of the norm finite at the centre itself.
        reach = alpha + (away.square().sum(-1, keepdim=True) + 1e-24).sqrt()
        pull = beta / reach
        ladj = (self.latent_size - 1) * torch.log1p(pull) + torch.log1p(pull * alpha / reach)
        return z + pull * away, ladj.squeeze(-1)
