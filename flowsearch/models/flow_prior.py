"""A learned prior: the chain of flow steps that carries p(z) to a standard normal.

Variational Lossy Autoencoder (Chen et al., 2017) learns its prior so; the flows are those of the posteriors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from flowsearch.flows import FLOWS, Chain, Flow
from flowsearch.models.posteriors import by
from flowsearch.models.priors import Prior, StandardNormal


class FlowPrior(Prior):
    """log p(z) = log N(z_0; 0, I) + ladj, where z_0 = chain(z): one pass for a density, the inverse for a sample.

    1. The chain is the identity at initialisation, so training starts from N(0, I).
    2. Only a flow with an inverse is a prior by name, for the others could not be sampled.
    3. Read in this direction an IAF is a masked autoregressive flow (Papamakarios et al., 2017): D passes for a sample.

    Args:
        flow: the step's class; its steps have no context.
        latent_size: D.
        k: steps in the chain.
        knobs: the step's own.

    >>> p = FlowPrior(FLOWS["RealNVP"], 4, k=2)
    >>> p.log_prob(p.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, flow: type[Flow], latent_size: int, *, k: PositiveInt = 1, **knobs: Any) -> None:
        super().__init__(latent_size)
        self.base = StandardNormal(latent_size)
        self.chain = Chain(partial(flow, latent_size, 0, **knobs), k)

    def log_prob(self, z: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        origin, ladj = self.chain(z, z.new_zeros(0))
        return self.base.log_prob(origin) + ladj

    def sample(self, n: int) -> Float[Tensor, "n D"]:
        origin = self.base.sample(n)
        z, _ = self.chain.inverse(origin, origin.new_zeros(0))
        return z


FLOW_PRIORS: dict[str, Callable[..., Prior]] = {
    name: by(flow, FlowPrior) for name, flow in FLOWS.items() if flow.inverse is not Flow.inverse
}
