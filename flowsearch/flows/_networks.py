"""What the networks behind several flow steps share."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform

from flowsearch.flows._base import Flow
from flowsearch.flows.iaf import LOG_SCALE_BOUND


def seen(z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"], context_size: int) -> Float[Tensor, "*n B C"]:
    """What a network sees beside z: the context or, without one, a constant (C = 1), so that D = 1 has something."""
    known = h[..., :context_size] if context_size else z.new_ones(1)
    return known.expand(*z.shape[:-1], -1)


def silence(network: nn.Sequential) -> None:
    """Zero the last layer, so that the network's outputs are 0 until it has learned something."""
    last: Any = network[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def bounded(raw: Tensor) -> Tensor:
    """A log-scale between -5 and 5, smoothly; near 0 it is `raw` itself."""
    return LOG_SCALE_BOUND * torch.tanh(raw / LOG_SCALE_BOUND)


class Autoregressive(Flow):
    """z'_i = f(z_i; MADE_i(z_<i, h)) for an increasing f of one variable; the MADE's outputs start at zero.

    Args:
        latent_size: D.
        context_size: H.
        hidden: units of the MADE's one hidden layer.
        univariate: makes f, a `torch.distributions.Transform`, of parameters with these shapes.
        shapes: of one dimension's parameters.
    """

    def __init__(
        self, latent_size: int, context_size: int, hidden: int, univariate: Any, shapes: list[tuple[int, ...]]
    ) -> None:
        super().__init__(latent_size, context_size)
        self.transform = MaskedAutoregressiveTransform(
            latent_size,
            context_size or 1,
            univariate=univariate,
            shapes=shapes,
            hidden_features=(hidden,),
            activation=nn.ELU,
        )
        silence(self.transform.hyper)

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        moved, ladj = self.transform(seen(z, h, self.context_size)).call_and_ladj(z)
        return moved, ladj

    def inverse(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        transform = self.transform(seen(z, h, self.context_size))
        origin = transform.inv(z)
        return origin, -transform.log_abs_det_jacobian(origin, z)
