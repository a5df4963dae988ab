"""The planar flow: expand or contract space along one direction, at one hyperplane.

Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), equations 10 to 12 and appendix A.1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from flowsearch.flows._base import Conditioner, Flow


class Planar(Flow):
    """z' = z + u_hat tanh(w.z + b), with ladj = log |1 + (1 - tanh^2(w.z + b)) w.u_hat|.

    1. u_hat = u + (softplus(w.u + c) - 1 - w.u) w / |w|^2 keeps w.u_hat > -1, which tanh needs to be invertible.
    2. c = log(e - 1) is ours: u = 0 then gives u_hat = 0, the identity at initialisation.
    3. The inverse has no closed form.

    Args:
        latent_size: D.
        context_size: H; u, w and b are affine in the context, or free parameters where H = 0.

    >>> step = Planar(2, 0)
    >>> z, ladj = step(torch.ones(3, 2), torch.ones(3, 5))
    >>> torch.equal(z, torch.ones(3, 2)), ladj.abs().max().item() < 1e-6
    (True, True)
    """

    abbreviation = "PF"

    def __init__(self, latent_size: int, context_size: int) -> None:
        super().__init__(latent_size, context_size)
        direction = torch.randn(latent_size) / math.sqrt(latent_size)
        self.parameters_of = Conditioner(context_size, torch.cat([torch.zeros(latent_size), direction, torch.zeros(1)]))

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        u, w, b = self.parameters_of(h).split([self.latent_size, self.latent_size, 1], dim=-1)
        along = (w * u).sum(-1, keepdim=True)
        slope = softplus(along + math.log(math.e - 1))  # 1 + w.u_hat, without the cancellation where it is near 0
        u_hat = u + (slope - 1 - along) * w / w.square().sum(-1, keepdim=True)
        activation = torch.tanh((w * z).sum(-1, keepdim=True) + b)
        flat = activation.square()
        ladj = torch.log(flat + (1 - flat) * slope)
        return z + u_hat * activation, ladj.squeeze(-1)
