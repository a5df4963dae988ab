"""q(z|x) of a batch: something that draws z with its own log-density in one pass, and knows what it can of its KL."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.flows import Chain

LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(z: Tensor, mean: Tensor | float = 0.0, logvar: Tensor | float = 0.0) -> Tensor:
    """log N(z; mean, exp(logvar) I), summed over the last dimension, in nats.

    >>> round(gaussian_log_prob(torch.zeros(1, 2)).item() + LOG_2PI, 6)
    0.0
    """
    scale = torch.as_tensor(logvar, dtype=z.dtype, device=z.device)
    return -0.5 * ((z - mean).square() * (-scale).exp() + scale + LOG_2PI).sum(-1)


@dataclass(frozen=True)
class Draw:
    """n samples for each of B documents.

    Args:
        z: [n, B, D].
        origin: [n, B, D], the point z_0 of the base Gaussian that z was carried from (z itself without a flow).
        log_q: [n, B], log q(z|x) of each, in nats; None where there is no density (an implicit posterior).
    """

    z: Float[Tensor, "n B D"]
    origin: Float[Tensor, "n B D"]
    log_q: Float[Tensor, "n B"] | None

    @property
    def log_density(self) -> Float[Tensor, "n B"]:
        """log q(z|x), where it is needed.

        Raises:
            Intractable: there is none.
        """
        if self.log_q is None:
            raise Intractable("an implicit posterior has no density")
        return self.log_q


class Density(Protocol):
    """What a KL needs of p(z)."""

    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        """log p(z) in nats."""

    def sample(self, n: int) -> Float[Tensor, "n D"]:
        """n points."""


class Distribution(ABC):
    """q(z|x) for a batch of B documents."""

    base: DiagonalGaussian | None
    """The Gaussian that z_0 is drawn from: the distribution itself where there is no flow, None where z is no
    invertible function of a Gaussian."""

    @abstractmethod
    def draw(self, n: int) -> Draw:
        """n samples per document, differentiable (reparametrised)."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*n B D"]) -> Float[Tensor, "*n B"]:
        """log q(z|x) of given points, in nats.

        Raises:
            Intractable: the flow has no closed-form inverse.
        """

    def kl(self, draw: Draw) -> Float[Tensor, "n B"]:
        """KL(q || N(0, I)) in nats per document: exact where it has a closed form, else one estimate per sample.

        An estimate, log q0(z0) - ladj - log p(zK), can be negative; its mean over samples is not.
        """
        return draw.log_density - gaussian_log_prob(draw.z)

    def kl_to(self, prior: Density, draw: Draw) -> Float[Tensor, "n B"]:
        """KL(q || p) in nats per document for any p, one estimate per sample."""
        return draw.log_density - prior.log_prob(draw.z)

    def kl_per_dimension(self) -> Float[Tensor, "B D"]:
        """KL of each dimension to N(0, 1), in nats.

        Raises:
            Intractable: the dimensions are dependent.
        """
        raise Intractable(f"{type(self).__name__} has no KL per dimension")


class DiagonalGaussian(Distribution):
    """N(mean, diag(exp(logvar))).

    Args:
        mean: [B, D].
        logvar: [B, D].

    >>> q = DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2))
    >>> q.kl(q.draw(3)).tolist()
    [[1.0], [1.0], [1.0]]
    """

    base: DiagonalGaussian

    def __init__(self, mean: Float[Tensor, "B D"], logvar: Float[Tensor, "B D"]) -> None:
        self.mean, self.logvar = mean, logvar
        self.base = self

    def draw(self, n: int) -> Draw:
        noise = torch.randn(n, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        z = self.mean + (0.5 * self.logvar).exp() * noise
        return Draw(z, z, -0.5 * (noise.square() + self.logvar + LOG_2PI).sum(-1))

    def log_prob(self, z: Float[Tensor, "*n B D"]) -> Float[Tensor, "*n B"]:
        return gaussian_log_prob(z, self.mean, self.logvar)

    def kl(self, draw: Draw) -> Float[Tensor, "n B"]:
        return self.kl_per_dimension().sum(-1).expand(draw.z.shape[:-1])

    def kl_per_dimension(self) -> Float[Tensor, "B D"]:
        return 0.5 * (self.mean.square() + self.logvar.exp() - self.logvar - 1)


class Transported(Distribution):
    """A Gaussian carried through a chain of flow steps: log q(z_k|x) = log q0(z_0|x) - sum of ladj.

    Args:
        base: q0(z_0|x).
        chain: the steps.
        context: [B, H], what they depend on.
    """

    base: DiagonalGaussian

    def __init__(self, base: DiagonalGaussian, chain: Chain, context: Float[Tensor, "B H"]) -> None:
        self.base, self.chain, self.context = base, chain, context

    def draw(self, n: int) -> Draw:
        start = self.base.draw(n)
        z, ladj = self.chain(start.z, self.context)
        return Draw(z, start.z, start.log_density - ladj)

    def log_prob(self, z: Float[Tensor, "*n B D"]) -> Float[Tensor, "*n B"]:
        origin, ladj = self.chain.inverse(z, self.context)
        return self.base.log_prob(origin) + ladj
