"""A flow step: an invertible map of latent space whose log-determinant is cheap (Rezende & Mohamed, 2015)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.errors import Intractable


class Flow(nn.Module, ABC):
    """One step z -> z', the identity at initialisation.

    Args:
        latent_size: D.
        context_size: H, the width of the context h that the step's parameters depend on; 0 makes them plain parameters,
            shared by all documents.
    """

    abbreviation: ClassVar[str]
    """How the thesis' tables name the flow."""

    def __init__(self, latent_size: int, context_size: int) -> None:
        super().__init__()
        self.latent_size, self.context_size = latent_size, context_size

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        """z' and ladj = log |det dz'/dz|."""

    def inverse(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        """The z that `forward` maps to this one, and log |det| of the inverse map.

        Raises:
            Intractable: the step has no closed-form inverse.
        """
        raise Intractable(f"{type(self).__name__} has no closed-form inverse")


class Conditioner(nn.Module):
    """A flow step's parameters as an affine function of the context, zero but for a bias at initialisation.

    Args:
        context_size: H; with 0 the parameters are the bias alone.
        bias: [P], the parameters at initialisation.
    """

    def __init__(self, context_size: int, bias: Float[Tensor, " P"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(bias), context_size))
        self.bias = nn.Parameter(bias.clone())

    def forward(self, h: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        return nn.functional.linear(h[..., : self.weight.shape[1]], self.weight, self.bias)
