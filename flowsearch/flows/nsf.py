"""The neural spline flow: every dimension is bent by a monotonic rational-quadratic spline that those before it shape.

Neural Spline Flows (Durkan et al., 2019), the autoregressive form, with the spline of zuko (Rozet et al., 2022).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from zuko.transforms import MonotonicRQSTransform

from flowsearch.flows._networks import Autoregressive


class NSF(Autoregressive):
    """z'_i = spline(z_i; MADE_i(z_<i, h)) on [-5, 5]; beyond it z'_i = z_i.

    1. Equal bins and slopes of 1, where the MADE's last layer starts, make the spline the identity.
    2. Widths, heights and slopes of the bins are bounded smoothly, so that no bin vanishes.
    3. The inverse takes D passes.

    Args:
        latent_size: D.
        context_size: H.
        bins: of the spline.
        hidden: units of the MADE's one hidden layer.

    >>> import torch
    >>> step = NSF(3, 4, bins=4, hidden=8)
    >>> torch.allclose(step(torch.ones(2, 3), torch.ones(2, 4))[0], torch.ones(2, 3))
    True
    """

    abbreviation = "NSF"

    def __init__(
        self,
        latent_size: int,
        context_size: int,
        *,
        bins: Annotated[int, Field(ge=2)] = 8,
        hidden: PositiveInt = 320,
    ) -> None:
        super().__init__(latent_size, context_size, hidden, MonotonicRQSTransform, [(bins,), (bins,), (bins - 1,)])
