"""Optimisers by name: torch's own, with the thesis' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import nn

Momentum = Annotated[float, Field(ge=0, lt=1)]


def SGD(
    parameters: Iterable[nn.Parameter], *, lr: PositiveFloat = 1.0, momentum: Momentum = 0.0
) -> torch.optim.Optimizer:
    """Stochastic gradient descent; the thesis trains with lr 1."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def Adam(
    parameters: Iterable[nn.Parameter], *, lr: PositiveFloat = 1e-3, beta1: Momentum = 0.9, beta2: Momentum = 0.999
) -> torch.optim.Optimizer:
    """Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"Adam": Adam, "SGD": SGD}
