"""What descends, and in which order: phases, each moving some modules until its stop says enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from flowsearch.models import VAE, Distribution
from flowsearch.objectives.stops import Stop, after
from flowsearch.text.batches import Batch

EVERYTHING = ("encoder", "posterior", "prior", "decoder")


@dataclass(frozen=True)
class Terms:
    """A loss and what it is made of.

    Args:
        loss: scalar, what descends: the mean over documents, in nats.
        parts: detached scalars, means over documents in nats: `reconstruction`, `kl`, ...
    """

    loss: Float[Tensor, ""]
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """The modules named by `moves` descend `loss`, again and again, until `until` says enough.

    The first repetition sees the batch of the moment, later ones batches drawn at random with replacement.
    """

    moves: tuple[str, ...]
    loss: Callable[[VAE, Batch, int], Terms]
    until: Stop = field(default_factory=lambda: after(1))


class Objective(nn.Module, ABC):
    """A loss on a VAE, and the phases in which it descends. Whatever it remembers is in its `state_dict`."""

    @abstractmethod
    def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
        """The loss of a batch at an (outer) step of training."""

    def phases(self, step: int) -> Sequence[Phase]:
        """What moves for one batch, in order: everything, once."""
        return (Phase(EVERYTHING, self),)

    def observe(self, values: Mapping[str, float]) -> None:
        """Hear what was measured on the validation set."""

    def checks_per_epoch(self) -> int:
        """How often within an epoch it wants to hear of the mutual information; 0: with the epoch's metrics only."""
        return 0

    def views(self, vae: VAE) -> Mapping[str, VAE]:
        """Other ways to use the model that are measured as well, by the suffix of their metrics: none."""
        return {}

    def describe(self, step: int) -> Mapping[str, float]:
        """What a reading of the training split should say of the objective's state."""
        return {}


Weight = Callable[[int], float]
KLTerm = Callable[[Tensor, Distribution], Tensor]


class Loss(Objective, ABC):
    """An objective that `objective.loss` can name: built from the weight of its KL and what it counts as its KL.

    Args:
        weight: step -> weight of the KL.
        kl_term: (kl [n, B], q) -> [n, B], what the loss counts for the KL (free bits).
    """

    def __init__(self, weight: Weight, kl_term: KLTerm) -> None:
        super().__init__()
        self.weight, self.kl_term = weight, kl_term

    def describe(self, step: int) -> Mapping[str, float]:
        return {"kl_weight": self.weight(step)}
