"""How a gradient is clipped: by one norm over all modules, or by one norm each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Clip(ABC):
    """Scales gradients down to a norm.

    Args:
        norm: the largest allowed.
    """

    def __init__(self, norm: float) -> None:
        self.norm = norm

    @abstractmethod
    def learns(self, moves: Iterable[str], modules: Iterable[str]) -> set[str]:
        """The modules whose gradients a phase needs."""

    @abstractmethod
    def __call__(self, modules: Iterable[nn.Module]) -> Tensor:
        """Clip the gradients of these modules in place; their joint norm before it."""


class Joint(Clip):
    """One norm over every module, also when only some of them move (He et al., 2019).

    The others' gradients enter the norm, so they must be made although nobody steps by them.
    """

    def learns(self, moves: Iterable[str], modules: Iterable[str]) -> set[str]:
        return set(modules)

    def __call__(self, modules: Iterable[nn.Module]) -> Tensor:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        return torch.nn.utils.clip_grad_norm_(parameters, self.norm)


class PerModule(Clip):
    """One norm for each module that moves; the others' gradients are not made: the cheaper inner loop."""

    def learns(self, moves: Iterable[str], modules: Iterable[str]) -> set[str]:
        return set(moves)

    def __call__(self, modules: Iterable[nn.Module]) -> Tensor:
        norms = [
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.norm)
            for module in modules
            if any(parameter.grad is not None for parameter in module.parameters())
        ]
        return torch.stack(norms).norm()


CLIPS: dict[str, type[Clip]] = {"joint": Joint, "per_module": PerModule}
