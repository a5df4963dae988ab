"""A learned prior: a mixture of Gaussians, the simplest that is not one.

VAE with a VampPrior (Tomczak & Welling, 2018) compares with it; a VampPrior's components are the posteriors of learned
pseudo-inputs, and a pseudo-document of discrete words cannot be learned by descent.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from flowsearch.models.distributions import gaussian_log_prob
from flowsearch.models.priors import Prior

SPREAD = 0.1


class Mixture(Prior):
    """p(z) = sum_c w_c N(z; mean_c, diag(exp(logvar_c))), all of them learned.

    1. Equal weights, unit variances and means from N(0, 0.1^2 I) at initialisation: near N(0, I), but no two components
       alike, for those would stay alike.

    Args:
        latent_size: D.
        components: how many.

    >>> p = Mixture(4, components=3)
    >>> p.log_prob(p.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, latent_size: int, *, components: PositiveInt = 10) -> None:
        super().__init__(latent_size)
        self.mean = nn.Parameter(SPREAD * torch.randn(components, latent_size))
        self.logvar = nn.Parameter(torch.zeros(components, latent_size))
        self.log_weight = nn.Parameter(torch.zeros(components))

    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        each = gaussian_log_prob(z.unsqueeze(-2), self.mean, self.logvar)
        return (self.log_weight.log_softmax(-1) + each).logsumexp(-1)

    def sample(self, n: int) -> Float[Tensor, "n D"]:
        chosen = torch.multinomial(self.log_weight.softmax(-1), n, replacement=True)
        noise = torch.randn_like(self.mean[chosen])
        return self.mean[chosen] + (0.5 * self.logvar[chosen]).exp() * noise
