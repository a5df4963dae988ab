"""The Sylvester flow: a planar flow along M orthogonal directions at once, each bent by those after it.

Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018), equations 13 to 15 and section 3.2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from flowsearch.flows._base import Conditioner, Flow

DIAGONAL_BOUND = 0.999


class Sylvester(Flow):
    """z' = z + Q R tanh(S Q^T z + b), with ladj = sum_i log(1 + (1 - tanh^2(.)_i) r_ii s_ii).

    1. Q [D, M] is the first M columns of a product of Householder reflections, so Q^T Q = I; with M reflections or more
       it can span any M dimensions.
    2. R and S [M, M] are upper triangular, with diagonals inside (-0.999, 0.999) by tanh: r_ii s_ii > -1 makes the
       step invertible, and the margin keeps ladj finite in float32.
    3. R = 0 at initialisation: the identity.
    4. M = min(width, D).
    5. The inverse has no closed form.

    Args:
        latent_size: D.
        context_size: H; all of Q, R, S and b are affine in the context, or free parameters where H = 0.
        width: M at most.
        reflections: Householder reflections that make Q.

    >>> step = Sylvester(4, 0, width=2)
    >>> z, ladj = step(torch.ones(3, 4), torch.ones(3, 5))
    >>> torch.allclose(z, torch.ones(3, 4)), ladj.tolist()
    (True, [0.0, 0.0, 0.0])
    """

    abbreviation = "SF"

    def __init__(
        self, latent_size: int, context_size: int, *, width: PositiveInt = 8, reflections: PositiveInt = 8
    ) -> None:
        super().__init__(latent_size, context_size)
        self.width = m = min(width, latent_size)
        self.sizes = [reflections * latent_size, m * m, m, m]
        normals = torch.randn(reflections * latent_size)
        self.parameters_of = Conditioner(
            context_size, torch.cat([normals, torch.zeros(m * m), torch.ones(m), torch.zeros(m)])
        )

    def forward(
        self, z: Float[Tensor, "*n B D"], h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "*n B D"], Float[Tensor, "*n B"]]:
        normals, square, diagonal, b = self.parameters_of(h).split(self.sizes, dim=-1)
        mirrors = normalize(normals.unflatten(-1, (-1, self.latent_size)), dim=-1).unbind(-2)
        # One square matrix holds both triangles: R in its upper one, S transposed in its lower one.
        square = square.unflatten(-1, (self.width, self.width))
        r = DIAGONAL_BOUND * torch.tanh(square.diagonal(dim1=-2, dim2=-1))
        s = DIAGONAL_BOUND * torch.tanh(diagonal)
        outer, inner = square.triu(1) + torch.diag_embed(r), square.tril(-1).mT + torch.diag_embed(s)

        along = reflect(z, mirrors)[..., : self.width]
        activation = torch.tanh((inner @ along.unsqueeze(-1)).squeeze(-1) + b)
        inside = (outer @ activation.unsqueeze(-1)).squeeze(-1)
        rest = inside.new_zeros(*inside.shape[:-1], self.latent_size - self.width)
        moved = z + reflect(torch.cat([inside, rest], dim=-1), mirrors[::-1])
        return moved, torch.log1p((1 - activation.square()) * r * s).sum(-1)


def reflect(z: Float[Tensor, "*n B D"], mirrors: tuple[Float[Tensor, "B D"], ...]) -> Float[Tensor, "*n B D"]:
    """z reflected at the hyperplanes with these unit normals, one after another."""
    for normal in mirrors:
        z = z - 2 * (normal * z).sum(-1, keepdim=True) * normal
    return z
