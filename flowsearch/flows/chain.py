"""A chain of k flow steps, one after another, with the order of the dimensions reversed between them.

The reversal is Kingma et al.'s (2016, section 4): an autoregressive step cannot move the first dimension by the last
one, the next step can. Reversing on the way in and on the way out keeps identity and log-determinants as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.flows._base import Flow


class Chain(nn.Module):
    """k steps z_0 -> z_1 -> ... -> z_k; every second one sees the dimensions in reversed order.

    Args:
        make: makes one step.
        k: how many.
    """

    def __init__(self, make: Callable[[], Flow], k: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(make() for _ in range(k))

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        """z_k and the sum of the steps' ladj."""
        total = z.new_zeros(z.shape[:-1])
        for index, step in enumerate(self.steps):
            z, ladj = step(z.flip(-1), h) if index % 2 else step(z, h)
            z = z.flip(-1) if index % 2 else z
            total = total + ladj
        return z, total

    def inverse(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        """z_0 and log |det| of the inverse map.

        Raises:
            Intractable: a step has no closed-form inverse.
        """
        total = z.new_zeros(z.shape[:-1])
        for index, step in reversed(list(enumerate(self.steps))):
            assert isinstance(step, Flow)
            z, ladj = step.inverse(z.flip(-1), h) if index % 2 else step.inverse(z, h)
            z = z.flip(-1) if index % 2 else z
            total = total + ladj
        return z, total
