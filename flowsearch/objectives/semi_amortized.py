"""Semi-amortised inference: the encoder's guess at q(z|x) is refined by gradient steps on the document's own bound.

Semi-Amortized Variational Autoencoders (Kim, Wiseman, Miller, Sontag & Rush, 2018), algorithm 1. Training descends the
bound at the refined parameters, through the refinement: the encoder learns to start well, the decoder to be refined
well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from flowsearch.models import VAE, Distribution, twice_differentiable
from flowsearch.objectives._base import KLTerm, Loss, Terms, Weight
from flowsearch.text.batches import Batch

Bound = Callable[[Tensor], Tensor]
"""phi [B, P] -> [B], the loss of each document in nats, with the noise of the moment."""

Last = Callable[[Tensor], Tensor]
"""phi [B, P] -> scalar, the mean loss in nats."""


@dataclass(frozen=True)
class Descent:
    """Gradient descent with momentum on phi, each document by itself: the result does not depend on the batch.

    Args:
        steps: K.
        lr: per document. Kim's code takes steps of 1 on the mean of 32 documents, which is 1 / 32 on each.
        momentum: of the steps.
        clip: largest norm of a document's gradient; the factor that it takes counts as a constant.
    """

    steps: int
    lr: float
    momentum: float
    clip: float

    def scale(self, gradient: Float[Tensor, "B R"]) -> Float[Tensor, "B 1"]:
        """What each document's gradient is multiplied by."""
        norm = gradient.detach().norm(dim=-1, keepdim=True)
        return self.clip / norm.clamp(min=self.clip)


class Differentiation(ABC):
    """How the loss at the last step's phi reaches the first one, and the model's parameters, through the steps."""

    @abstractmethod
    def loss(self, bound: Bound, last: Last, phi: Float[Tensor, "B P"], moves: int, descent: Descent) -> Tensor:
        """A scalar with the value of `last(phi_K)` and its gradient.

        Args:
            bound: the loss of each document that the steps descend; every call draws new noise.
            last: the loss that training descends.
            phi: phi_0.
            moves: how many of its leading entries are refined.
            descent: the steps.
        """


class Exact(Differentiation):
    """Automatic differentiation, twice: exact, with the graph of every step in memory."""

    def loss(self, bound: Bound, last: Last, phi: Float[Tensor, "B P"], moves: int, descent: Descent) -> Tensor:
        refined, rest = phi[:, :moves], phi[:, moves:]
        velocity = torch.zeros_like(refined)
        with twice_differentiable():
            for _ in range(descent.steps):
                losses = bound(torch.cat([refined, rest], dim=1))
                (gradient,) = torch.autograd.grad(losses.sum(), refined, create_graph=True)
                velocity = descent.momentum * velocity + descent.scale(gradient) * gradient
                refined = refined - descent.lr * velocity
        return last(torch.cat([refined, rest], dim=1))


class FiniteDifference(Differentiation):
    """Products with second derivatives as central differences of the first along the adjoint (Kim et al., 2018,
    section 3): the fast kernels, which have first derivatives only, are enough.

    1. Every difference meets the noise of its own step again.
    2. Its width is relative to the length of a document's adjoint. The published code moves by 1e-5 of the adjoint
       itself, where in float32 the difference drowns in rounding.
    """

    WIDTH = 1e-2

    def loss(self, bound: Bound, last: Last, phi: Float[Tensor, "B P"], moves: int, descent: Descent) -> Tensor:
        rest = phi[:, moves:]
        path, end = descend(bound, phi.detach(), moves, descent)
        leaf = end.requires_grad_()
        total = last(torch.cat([leaf, rest], dim=1))
        (adjoint,) = torch.autograd.grad(total, leaf, retain_graph=True)
        momentum = torch.zeros_like(adjoint)
        for refined, scale, noise in reversed(path):
            momentum = descent.momentum * momentum - descent.lr * adjoint
            along = scale * momentum
            length = along.norm(dim=-1, keepdim=True)
            step = self.WIDTH * along / length.clamp(min=torch.finfo(along.dtype).tiny)
            sides = [(refined + sign * step).requires_grad_() for sign in (1, -1)]
            losses, slopes = [], []
            for side in sides:
                with noise.again():
                    losses.append(bound(torch.cat([side, rest], dim=1)))
                slopes.append(torch.autograd.grad(losses[-1].sum(), side, retain_graph=True)[0])
            weight = length / (2 * self.WIDTH)
            adjoint = adjoint + weight * (slopes[0] - slopes[1])
            total = total + silent((weight.squeeze(-1) * (losses[0] - losses[1])).sum())
        return total + silent((phi[:, :moves] * adjoint).sum())


def silent(value: Tensor) -> Tensor:
    """Zero, with the gradient of `value`."""
    return value - value.detach()


def descend(
    bound: Bound, phi: Float[Tensor, "B P"], moves: int, descent: Descent
) -> tuple[list[tuple[Tensor, Tensor, Noise]], Float[Tensor, "B R"]]:
    """The steps from phi_0 without a graph: (entries, scale of the gradient, noise) before each, and where they end."""
    refined, rest = phi[:, :moves], phi[:, moves:]
    velocity, path = torch.zeros_like(refined), []
    for _ in range(descent.steps):
        noise, here = Noise(phi.device), refined.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(bound(torch.cat([here, rest], dim=1)).sum(), here)
        path.append((refined, descent.scale(gradient), noise))
        velocity = descent.momentum * velocity + descent.scale(gradient) * gradient
        refined = refined - descent.lr * velocity
    return path, refined


class Noise:
    """The generators' states at a moment, to draw the same numbers again."""

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """In this block the generators stand where they stood."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


DIFFERENTIATIONS: Mapping[str, Differentiation] = {"exact": Exact(), "finite_difference": FiniteDifference()}


class SemiAmortized(Loss):
    """Mean over documents of -log p(x|z) + weight KL(q || p) at the refined q, in nats.

    1. The steps descend the same weighted loss, dropout and one new sample of z in each.
    2. Of a flow's parameters the Gaussian base is refined, not the context of the steps.
    3. `elbo` is measured at the encoder's own q and `elbo_refined` after refinement, on any split: refining uses the
       document that is being scored, which users of such tables dispute, so both are shown.

    Args:
        weight, kl_term: as of every loss.
        steps: K.
        lr: of a step, per document.
        momentum: of the steps.
        clip: largest norm of a document's gradient.
        through: how training differentiates the steps, `exact` or `finite_difference`.
    """

    def __init__(
        self,
        weight: Weight,
        kl_term: KLTerm,
        *,
        steps: PositiveInt = 20,
        lr: PositiveFloat = 0.03125,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        clip: PositiveFloat = 5.0,
        through: Literal["exact", "finite_difference"] = "exact",
    ) -> None:
        super().__init__(weight, kl_term)
        self.descent = Descent(steps, lr, momentum, clip)
        self.through = DIFFERENTIATIONS[through]

    def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
        parts: dict[str, Tensor] = {}

        def bound(phi: Tensor) -> Tensor:
            return self.terms(vae, batch, phi, self.weight(step))[0]

        def last(phi: Tensor) -> Tensor:
            loss, reconstruction, kl = self.terms(vae, batch, phi, self.weight(step))
            parts.update(reconstruction=reconstruction.detach().mean(), kl=kl.detach().mean())
            return loss.mean()

        loss = self.through.loss(bound, last, vae.amortize(batch), vae.posterior.refines, self.descent)
        return Terms(loss, parts)

    def terms(self, vae: VAE, batch: Batch, phi: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reconstruction and KL of each document, [B], one sample of z."""
        q = vae.posterior.at(phi)
        draw = q.draw(1)
        reconstruction, kl = -vae.decode(draw.z, batch)[0], vae.kl(q, draw)
        return reconstruction + weight * self.kl_term(kl, q)[0], reconstruction, kl[0]

    def refine(self, vae: VAE, batch: Batch, phi: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """phi after the steps, which descend -ELBO itself, KL weight 1; without a graph."""

        def bound(phi: Tensor) -> Tensor:
            q = vae.posterior.at(phi)
            draw = q.draw(1)
            return (vae.kl(q, draw) - vae.decode(draw.z, batch))[0]

        with torch.backends.cudnn.flags(enabled=vae.training):  # cuDNN's LSTMs go backward in training mode only
            _, refined = descend(bound, phi.detach(), vae.posterior.refines, self.descent)
        return torch.cat([refined, phi[:, vae.posterior.refines :]], dim=1).detach()

    def views(self, vae: VAE) -> Mapping[str, VAE]:
        return {"refined": Refined(vae, self)}


class Refined(VAE):
    """A view of a VAE whose posteriors are refined on the documents that they are asked for."""

    def __init__(self, vae: VAE, objective: SemiAmortized) -> None:
        super().__init__(vae.encoder, vae.posterior, vae.prior, vae.decoder, bf16=vae.bf16)
        self.training = vae.training
        self.descent = objective.refine

    def encode(self, batch: Batch) -> Distribution:
        """q(z|x) of each document after the steps."""
        return self.posterior.at(self.descent(self, batch, self.amortize(batch)))
