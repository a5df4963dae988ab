"""The neural autoregressive flow: every dimension goes through a small monotonic network that those before it weigh.

Neural Autoregressive Flows (Huang et al., 2018), the deep sigmoidal flow with one hidden layer per step.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.nn.functional import logsigmoid

from flowsearch.flows._networks import Autoregressive, bounded

HALVINGS = 64
"""They narrow any bracket of the inverse to the rounding error of float64."""


class Sigmoidal(Transform):
    """y = logit(sum_j w_j sigmoid(a_j x + b_j)), increasing as a_j > 0 and w is on the simplex.

    Args:
        log_slope: [*, J]; log a before it is bounded.
        shift: [*, J]; b.
        weight: [*, J]; w before the softmax.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, log_slope: Tensor, shift: Tensor, weight: Tensor) -> None:
        super().__init__()
        units = shift.shape[-1]
        own = 0.5 + (torch.arange(units, dtype=shift.dtype, device=shift.device) + 0.5) / units
        self.log_slope, self.shift = bounded(own * log_slope), own * shift
        self.log_weight = weight.log_softmax(-1)

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[*, J]; log(w_j s_j) and log(w_j (1 - s_j)), for the sigmoids s_j."""
        at = self.log_slope.exp() * x.unsqueeze(-1) + self.shift
        return self.log_weight + logsigmoid(at), self.log_weight + logsigmoid(-at)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        on, off = self.sides(x)
        above, below = on.logsumexp(-1), off.logsumexp(-1)
        rise = (self.log_slope + on + off - self.log_weight).logsumexp(-1)
        return above - below, rise - above - below

    def _call(self, x: Tensor) -> Tensor:
        on, off = self.sides(x)
        return on.logsumexp(-1) - off.logsumexp(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]

    def _inverse(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            alone = (y.unsqueeze(-1) - self.shift) * (-self.log_slope).exp()  # where each unit by itself would give y
            low, high = alone.amin(-1), alone.amax(-1)
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                short = self._call(middle) < y
                low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        x = (low + high) / 2
        reached, ladj = self.call_and_ladj(x)
        away = y - reached
        # Adds zero, with the gradient that the implicit function theorem gives the root.
        return x + (away - away.detach()) * (-ladj).clamp(max=80).exp().detach()


class NAF(Autoregressive):
    """z'_i = logit(sum_j w_ij sigmoid(a_ij z_i + b_ij)), with w, a and b from MADE_i(z_<i, h).

    1. Computed from logarithms of sigmoids, which neither saturate nor cancel; log a is bounded smoothly to (-5, 5).
    2. The MADE's last layer starts at zero, where all units are a = 1 and b = 0: the identity.
    3. Units that start alike would stay alike: a fixed factor per unit, 1/2 to 3/2, on log a and b parts them at the
       first step.
    4. The inverse takes D passes of bisection, to rounding; its gradient is exact.

    Args:
        latent_size: D.
        context_size: H.
        units: J.
        hidden: units of the MADE's one hidden layer.

    >>> step = NAF(3, 4, units=4, hidden=8)
    >>> torch.allclose(step(torch.ones(2, 3), torch.ones(2, 4))[0], torch.ones(2, 3))
    True
    """

    abbreviation = "NAF"

    def __init__(
        self, latent_size: int, context_size: int, *, units: PositiveInt = 8, hidden: PositiveInt = 320
    ) -> None:
        super().__init__(latent_size, context_size, hidden, Sigmoidal, [(units,)] * 3)
