"""What the loss counts instead of the KL, so that the posterior says something: free bits, or a target.

Free bits: a KL below its target costs nothing (Kingma et al., 2016, appendix C.8). There the term is constant, so its
gradient is zero. A committed rate, the least KL that delta-VAEs (Razavi et al., 2019) build into their posteriors, is
asked for in the same way.

Targets: what counts is the distance of the KL from the target, so a KL below it is pulled up. Understanding
disentangling in beta-VAE (Burgess et al., 2018), where the weight gamma is `objective.beta` here.

The names say over what the target holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from flowsearch.models import Distribution

__all__ = ["BatchMean", "PerDimension", "PerDocument", "TargetPerDimension", "TargetPerDocument", "no_free_bits"]


def no_free_bits(kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
    """The KL itself."""
    return kl


class FreeBits(ABC):
    """Replaces the KL in the loss, never in a metric.

    Args:
        nats: the target.
    """

    def __init__(self, *, nats: PositiveFloat) -> None:
        self.nats = nats

    @abstractmethod
    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        """What the loss counts instead of kl, in nats per document."""


class PerDocument(FreeBits):
    """max(target, KL) of each document."""

    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        return kl.clamp(min=self.nats)


class PerDimension(FreeBits):
    """The sum over dimensions of max(target, KL of the dimension averaged over the batch); needs a Gaussian posterior.

    Raises:
        Intractable: the posterior's dimensions are dependent (a flow).
    """

    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        return q.kl_per_dimension().mean(0).clamp(min=self.nats).sum().expand(kl.shape)


class BatchMean(FreeBits):
    """max(target, KL averaged over the batch)."""

    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        return torch.clamp(kl.mean(), min=self.nats).expand(kl.shape)


class Target(FreeBits):
    """The distance of the KL from `nats`, instead of the KL."""


class TargetPerDocument(Target):
    """|KL - target| of each document."""

    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        return (kl - self.nats).abs()


class TargetPerDimension(Target):
    """The sum over dimensions of |KL of the dimension averaged over the batch - target|; needs a Gaussian posterior.

    Raises:
        Intractable: the posterior's dimensions are dependent (a flow).
    """

    def __call__(self, kl: Float[Tensor, "n B"], q: Distribution) -> Float[Tensor, "n B"]:
        return (q.kl_per_dimension().mean(0) - self.nats).abs().sum().expand(kl.shape)
