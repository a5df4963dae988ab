"""An implicit posterior: z = G(h, noise), which can be drawn from but has no density.

Implicit Deep Latent Variable Models for Text Generation (Fang, Li, Gao, Dong & Chen, 2019). Its KL is estimated in its
dual form, KL(q || p) = max_nu E_q[nu] - E_p[exp nu] + 1, by a critic nu(z, h) that is trained beside the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from flowsearch.errors import Intractable
from flowsearch.models.distributions import Density, Distribution, Draw
from flowsearch.models.posteriors import Posterior

REACH = 50.0


class Implicit(Posterior):
    """z = G([h, noise]), noise ~ N(0, I_D). phi = h: P = H.

    1. Without `hidden` G is linear, as published; with it, one hidden layer bends the noise, too.
    2. G and critic are parts of their own: while one learns, the other stays.

    Args:
        latent_size: D.
        state_size: H.
        hidden: units of G's hidden layer; None for a linear G.
        critic_hidden: units of each of the critic's three hidden layers.

    >>> posterior = Implicit(4, 8)
    >>> draw = posterior.at(torch.randn(3, 8)).draw(5)
    >>> draw.z.shape, draw.log_q is None
    (torch.Size([5, 3, 4]), True)
    """

    has_density: ClassVar[bool] = False

    def __init__(
        self,
        latent_size: int,
        state_size: int,
        *,
        hidden: PositiveInt | None = None,
        critic_hidden: PositiveInt = 512,
    ) -> None:
        super().__init__(latent_size, state_size)
        sizes = (state_size + latent_size, *([] if hidden is None else [hidden]), latent_size)
        self.generator = layers(*sizes)
        self.critic = layers(latent_size + state_size, *[critic_hidden] * 3, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"posterior": self.generator, "critic": self.critic}

    def amortize(self, h: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        return h

    def at(self, phi: Float[Tensor, "B P"]) -> Pushforward:
        return Pushforward(self.generator, self.critic, phi)


def layers(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with leaky rectifiers between them."""
    linear = [nn.Linear(*pair) for pair in pairwise(sizes)]
    return nn.Sequential(*(part for layer in linear[:-1] for part in (layer, nn.LeakyReLU())), linear[-1])


class Pushforward(Distribution):
    """The distribution of G(h, noise).

    Args:
        generator: G.
        critic: nu.
        h: [B, H].
    """

    base = None

    def __init__(self, generator: nn.Module, critic: nn.Module, h: Float[Tensor, "B H"]) -> None:
        self.generator, self.critic, self.h = generator, critic, h

    def draw(self, n: int) -> Draw:
        last = self.generator[-1]  # type: ignore[index]  # a Sequential
        noise = self.h.new_empty(n, len(self.h), last.out_features).normal_()
        z = self.generator(torch.cat([self.h.expand(n, -1, -1), noise], dim=-1))
        return Draw(z, z, None)

    def log_prob(self, z: Float[Tensor, "*n B D"]) -> Float[Tensor, "*n B"]:
        raise Intractable("an implicit posterior has no density")

    def kl(self, draw: Draw) -> Float[Tensor, "n B"]:
        return self.dual(draw.z, torch.randn_like(draw.z), self.frozen())

    def kl_to(self, prior: Density, draw: Draw) -> Float[Tensor, "n B"]:
        return self.dual(draw.z, self.of_prior(prior, draw), self.frozen())

    def critic_loss(self, prior: Density, draw: Draw) -> Float[Tensor, ""]:
        """What the critic descends: minus the dual form, its gradient reaching the critic alone."""
        z, h = draw.z.detach(), dict(self.critic.named_parameters())
        return -self.dual(z, self.of_prior(prior, draw).detach(), h).mean()

    def of_prior(self, prior: Density, draw: Draw) -> Float[Tensor, "n B D"]:
        """As many points of the prior."""
        n, documents, _ = draw.z.shape
        return prior.sample(n * documents).view(draw.z.shape)

    def frozen(self) -> Mapping[str, Tensor]:
        """The critic's parameters as constants: the model must not lower its KL by spoiling the critic."""
        return {name: parameter.detach() for name, parameter in self.critic.named_parameters()}

    def dual(self, ours: Tensor, theirs: Tensor, parameters: Mapping[str, Any]) -> Float[Tensor, "n B"]:
        """nu(z_q, h) - exp nu(z_p, h) + 1: for any critic a lower bound of the KL in the mean.

        1. nu is bent smoothly into (-50, 50), so that exp does not overflow; the bound holds for that critic as well.
        """
        return self.score(ours, parameters) - self.score(theirs, parameters).exp() + 1

    def score(self, z: Float[Tensor, "n B D"], parameters: Mapping[str, Any]) -> Float[Tensor, "n B"]:
        """nu(z, h), h a constant."""
        seen = torch.cat([z, self.h.detach().expand(len(z), -1, -1)], dim=-1)
        raw: Tensor = torch.func.functional_call(self.critic, dict(parameters), (seen,))
        return REACH * torch.tanh(raw.squeeze(-1) / REACH)
