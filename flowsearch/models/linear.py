"""A linear layer that may read nothing, as where a language model has no z."""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """`nn.Linear`, whose initialisation warns of a layer without weights; here it is what was meant."""

    def reset_parameters(self) -> None:
        """As usual, where there is something to set."""
        if self.weight.numel():
            super().reset_parameters()
