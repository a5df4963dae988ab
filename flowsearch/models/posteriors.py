"""Families of q(z|x): a Gaussian, and a Gaussian carried through a chain of flow steps.

q(z|x) = at(amortize(h)): the encoder's state h becomes variational parameters phi, and phi a distribution. The split is
what semi-amortised inference refines (Kim et al., 2018).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, get_type_hints

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from flowsearch.flows import FLOWS, Chain, Flow
from flowsearch.models.distributions import DiagonalGaussian, Distribution, Transported
from flowsearch.models.linear import Linear


class Posterior(nn.Module, ABC):
    """A family of distributions of z, indexed by variational parameters phi.

    Args:
        latent_size: D.
        state_size: H, the width of the encoder's state.
    """

    has_density: ClassVar[bool] = True
    """Whether log q(z|x) can be computed; without it a KL is a critic's estimate and no bound."""

    refines: int
    """How many of phi's leading entries semi-amortised inference may move; 0: none."""

    def __init__(self, latent_size: int, state_size: int) -> None:
        super().__init__()
        self.latent_size, self.state_size = latent_size, state_size
        self.refines = 0

    def parts(self) -> dict[str, nn.Module]:
        """Its modules that have an optimiser of their own, by name."""
        return {"posterior": self}

    @abstractmethod
    def amortize(self, h: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        """phi of each document from the encoder's state."""

    @abstractmethod
    def at(self, phi: Float[Tensor, "B P"]) -> Distribution:
        """The member of the family at phi."""


class Gaussian(Posterior):
    """N(mean, diag(exp(logvar))), both from one linear layer without bias (He et al., 2019). P = 2 D.

    >>> Gaussian(4, 8).at(torch.zeros(2, 8)).base.mean.shape
    torch.Size([2, 4])
    """

    def __init__(self, latent_size: int, state_size: int) -> None:
        super().__init__(latent_size, state_size)
        self.refines = 2 * latent_size
        self.linear = Linear(state_size, 2 * latent_size, bias=False)
        nn.init.uniform_(self.linear.weight, -0.01, 0.01)

    def amortize(self, h: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        return self.linear(h)

    def at(self, phi: Float[Tensor, "B P"]) -> DiagonalGaussian:
        mean, logvar = phi.chunk(2, dim=-1)
        return DiagonalGaussian(mean, logvar)


class Flowed(Posterior):
    """A Gaussian and k steps of one flow (Rezende & Mohamed, 2015). phi = (mean, logvar, h): P = 2 D + H.

    Args:
        flow: the step's class.
        latent_size: D.
        state_size: H.
        k: steps in the chain.
        conditioned: whether the steps depend on h, or are the same for all documents.
        knobs: the step's own.

    >>> q = Flowed(FLOWS["Planar"], 4, 8, k=2)
    >>> q.at(q.amortize(torch.randn(3, 8))).draw(5).log_q.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        flow: type[Flow],
        latent_size: int,
        state_size: int,
        *,
        k: PositiveInt = 1,
        conditioned: bool = True,
        **knobs: Any,
    ) -> None:
        super().__init__(latent_size, state_size)
        self.gaussian = Gaussian(latent_size, state_size)
        self.refines = self.gaussian.refines
        self.chain = Chain(partial(flow, latent_size, state_size * conditioned, **knobs), k)

    def amortize(self, h: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        return torch.cat([self.gaussian.amortize(h), h], dim=-1)

    def at(self, phi: Float[Tensor, "B P"]) -> Transported:
        parameters, context = phi.split([2 * self.latent_size, self.state_size], dim=-1)
        return Transported(self.gaussian.at(parameters), self.chain, context)


def by(flow: type[Flow], family: Callable[..., Any] = Flowed) -> Callable[..., Any]:
    """The member of a family whose steps are `flow`; its signature is the family's, the step's knobs spelled out."""
    make: Any = partial(family, flow)
    own = inspect.signature(family).parameters.values()
    step = inspect.signature(flow).parameters.values()
    make.__signature__ = inspect.Signature(
        [p for p in own if p.name != "flow" and p.kind is not p.VAR_KEYWORD]
        + [p for p in step if p.kind is p.KEYWORD_ONLY]
    )
    make.hints = get_type_hints(flow.__init__, include_extras=True)
    named: Callable[..., Any] = make
    return named


FLOWED: dict[str, Callable[..., Posterior]] = {name: by(flow) for name, flow in FLOWS.items()}
