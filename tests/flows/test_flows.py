"""Laws of every exported flow, and of chains of its steps.

Every parameter is perturbed first: at initialisation a flow is the identity, which obeys most laws by accident.
"""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import zuko.flows
from torch import Tensor, nn
from torch.distributions import AffineTransform
from zuko.transforms import AutoregressiveTransform, CouplingTransform, DependentTransform

from flowsearch.errors import Intractable
from flowsearch.flows import FLOWS, IAF, NAF, NSF, Chain, Conditioner, Flow, Planar, Radial, RealNVP, Sylvester
from flowsearch.flows.naf import Sigmoidal
from flowsearch.flows.sylvester import reflect

pytestmark = pytest.mark.usefixtures("in_float64")

every_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
every_size = pytest.mark.parametrize("latent_size", [1, 2, 5], ids="D={}".format)
every_context = pytest.mark.parametrize("context_size", [0, 3], ids="H={}".format)
every_length = pytest.mark.parametrize("k", [1, 2, 3, 4, 8], ids="k={}".format)
Step = Flow | Chain


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def perturbed(step: nn.Module, scale: float = 0.3, seed: int = 0) -> nn.Module:
    """The step with normal noise on all its parameters, scaled down where many of them are summed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in step.parameters():
            summed = max(1, parameter.shape[-1]) if parameter.ndim > 1 else 1
            parameter.add_(scale / math.sqrt(summed) * torch.randn_like(parameter))
    return step


def points(latent_size: int, *shape: int) -> tuple[Tensor, Tensor]:
    """z [*shape, D] and a context for the last of those dimensions; a flow without a context is given one too."""
    torch.manual_seed(1)
    return 1.5 * torch.randn(*shape, latent_size), torch.randn(shape[-1], 3)


def slogdet(step: Step, z: Tensor, h: Tensor) -> Tensor:
    """log |det dz'/dz| of every point by differentiating every output by every input."""
    inputs = z.clone().requires_grad_()
    outputs = step(inputs, h)[0]
    rows = [torch.autograd.grad(outputs[..., i].sum(), inputs, retain_graph=True)[0] for i in range(z.shape[-1])]
    return torch.linalg.slogdet(torch.stack(rows, dim=-2)).logabsdet


@every_flow
@every_size
@every_context
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 1, 4)], ids=str)
def test_ladj_is_the_jacobians(flow: type[Flow], latent_size: int, context_size: int, shape: tuple[int, ...]) -> None:
    step = perturbed(flow(latent_size, context_size))
    z, h = points(latent_size, *shape)
    moved, ladj = step(z, h)
    assert moved.shape == z.shape
    assert ladj.shape == z.shape[:-1]
    torch.testing.assert_close(ladj, slogdet(step, z, h), rtol=1e-9, atol=1e-10)
    assert ladj.abs().max() > 1e-3  # the perturbation moved something


@every_flow
@every_size
@every_context
def test_identity_at_initialisation(flow: type[Flow], latent_size: int, context_size: int) -> None:
    z, h = points(latent_size, 3, 4)
    moved, ladj = flow(latent_size, context_size)(z, h)
    torch.testing.assert_close(moved, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(ladj, torch.zeros(3, 4), rtol=0, atol=1e-12)


@every_flow
@every_size
@every_context
def test_documents_do_not_see_each_other(flow: type[Flow], latent_size: int, context_size: int) -> None:
    step = perturbed(flow(latent_size, context_size))
    z, h = points(latent_size, 3, 4)
    together, ladj = step(z, h)
    for document in range(4):
        alone, own = step(z[:, document : document + 1], h[document : document + 1])
        torch.testing.assert_close(alone[:, 0], together[:, document])
        torch.testing.assert_close(own[:, 0], ladj[:, document])
    if context_size:
        assert not torch.allclose(step(z, h.flip(0))[0], together)
    else:
        torch.testing.assert_close(step(z, h.flip(0))[0], together)


@every_flow
@every_size
@every_context
@every_length
def test_inverse_undoes_or_says_that_it_cannot(flow: type[Flow], latent_size: int, context_size: int, k: int) -> None:
    chain = perturbed(Chain(lambda: flow(latent_size, context_size), k), scale=0.1)
    z, h = points(latent_size, 3, 4)
    moved, ladj = chain(z, h)
    if flow.inverse is Flow.inverse:  # it never promised one
        with pytest.raises(Intractable, match=f"{flow.__name__} has no closed-form inverse"):
            chain.inverse(moved, h)
        return
    back, inverse_ladj = chain.inverse(moved, h)
    torch.testing.assert_close(back, z, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(inverse_ladj, -ladj, rtol=1e-8, atol=1e-8)


@every_flow
@every_size
@every_context
@pytest.mark.parametrize("scale", [3.0, 10.0])
def test_nothing_overflows_under_large_parameters(
    flow: type[Flow], latent_size: int, context_size: int, scale: float
) -> None:
    z, h = points(latent_size, 50, 4)
    for seed in range(20):
        moved, ladj = perturbed(flow(latent_size, context_size), scale, seed)(z, h)
        assert moved.isfinite().all()
        assert ladj.isfinite().all()


@every_flow
@every_context
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_one_dimension_keeps_its_order_under_large_parameters(
    flow: type[Flow], context_size: int, scale: float
) -> None:
    z, (h, *_) = torch.linspace(-6, 6, 2001).view(-1, 1, 1), torch.randn(3, 1, 3)
    for seed in range(20):
        moved = perturbed(flow(1, context_size), scale, seed)(z, h)[0].flatten()
        assert (moved.diff() >= -1e-12).all()  # injective: nothing folds over
        assert moved[-1] > moved[0]


@every_context
def test_planar_keeps_w_u_above_minus_one(context_size: int) -> None:
    h = torch.randn(40, 3)
    for seed in range(50):
        step = perturbed(Planar(4, context_size), 1.0, seed)
        _, w, b = step.parameters_of(h).expand(40, -1).split([4, 4, 1], dim=-1)
        # Where w.z + b = 0 the slope of tanh is 1 and the Jacobian's determinant is 1 + w.u_hat.
        on_the_plane = -b * w / w.square().sum(-1, keepdim=True)
        inputs = on_the_plane.detach().requires_grad_()
        moved = step(inputs, h)[0]
        rows = [torch.autograd.grad(moved[..., i].sum(), inputs, retain_graph=True)[0] for i in range(4)]
        assert (torch.linalg.det(torch.stack(rows, dim=-2)) > -1e-12).all()


def test_planar_knows_its_determinant_where_it_almost_vanishes() -> None:
    step = Planar(1, 0).float()
    with torch.no_grad():
        step.parameters_of.bias.copy_(torch.tensor([-40.0, 1.0, 0.0]))
    _, ladj = step(torch.zeros(1, 1).float(), torch.zeros(1, 0).float())
    assert ladj.item() == pytest.approx(-40 + math.log(math.e - 1), rel=1e-5)  # log softplus(w.u + c)


def test_radial_is_smooth_at_its_own_centre() -> None:
    step = perturbed(Radial(3, 0))
    z = step.parameters_of.bias[:3].detach().view(1, 3).requires_grad_()
    moved, ladj = step(z, torch.zeros(1, 3))
    (moved.sum() + ladj.sum()).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in step.parameters())


@every_flow
@every_size
@every_context
def test_every_parameter_learns(flow: type[Flow], latent_size: int, context_size: int) -> None:
    step = perturbed(flow(latent_size, context_size))
    moved, ladj = step(*points(latent_size, 5, 4))
    (moved.square().sum() + ladj.sum()).backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.numel() == 0 or parameter.grad.abs().max() > 0, name


@every_flow
@every_context
def test_it_can_be_differentiated_twice(flow: type[Flow], context_size: int) -> None:
    # Semi-amortised inference descends through a gradient step.
    step = perturbed(flow(2, context_size))
    z, h = points(2, 3)
    assert torch.autograd.gradgradcheck(lambda z: step(z, h), z.requires_grad_())


@every_flow
@every_context
def test_state_dict_and_precision_round_trip(flow: type[Flow], context_size: int) -> None:
    step, other = perturbed(flow(3, context_size)), perturbed(flow(3, context_size), seed=9)
    z, h = points(3, 2, 4)
    expected = step(z, h)
    assert not torch.equal(other(z, h)[0], expected[0])
    other.load_state_dict(copy.deepcopy(step.state_dict()))
    for ours, theirs in zip(other(z, h), expected, strict=True):
        assert torch.equal(ours, theirs)
    rough = copy.deepcopy(step).float()
    for ours, theirs in zip(rough(z.float(), h.float()), expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(copy.deepcopy(rough).double()(z, h), expected, strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@every_flow
def test_every_flow_has_a_short_name(flow: type[Flow]) -> None:
    assert flow.abbreviation
    assert sum(other.abbreviation == flow.abbreviation for other in FLOWS.values()) == 1


@every_flow
@every_length
@pytest.mark.parametrize("latent_size", [1, 3])
def test_chain_sums_ladj_of_steps_that_see_dimensions_reversed_in_turn(
    flow: type[Flow], k: int, latent_size: int
) -> None:
    chain = perturbed(Chain(lambda: flow(latent_size, 3), k), scale=0.2)
    z, h = points(latent_size, 2, 4)
    moved, ladj = chain(z, h)
    torch.testing.assert_close(ladj, slogdet(chain, z, h), rtol=1e-8, atol=1e-9)
    total = torch.zeros(2, 4)
    for index, step in enumerate(chain.steps):
        z = z.flip(-1) if index in {1, 3, 5, 7} else z
        z, own = step(z, h)
        z = z.flip(-1) if index in {1, 3, 5, 7} else z
        total += own
    torch.testing.assert_close(moved, z)
    torch.testing.assert_close(ladj, total)


@every_flow
@every_length
def test_chain_is_the_identity_at_initialisation(flow: type[Flow], k: int) -> None:
    z, h = points(3, 2, 4)
    moved, ladj = Chain(lambda: flow(3, 3), k)(z, h)
    torch.testing.assert_close(moved, z, rtol=0, atol=1e-11)
    torch.testing.assert_close(ladj, torch.zeros(2, 4), rtol=0, atol=1e-11)


@every_flow
@pytest.mark.parametrize("k", [1, 3])
def test_density_of_the_image_integrates_to_one(flow: type[Flow], k: int) -> None:
    # A fine grid goes through the chain; the density of each image times the area of its image cell is its probability.
    chain = perturbed(Chain(lambda: flow(2, 0), k), scale=0.2, seed=3)
    edges = torch.linspace(-6, 6, 301)
    corner = torch.cartesian_prod(edges, edges).view(301, 301, 2)
    centre = (corner[:-1, :-1] + corner[1:, 1:]) / 2
    h = torch.zeros(300, 3)
    with torch.no_grad():
        _, ladj = chain(centre, h)
        image, _ = chain(corner, torch.zeros(301, 3))
    log_density = -centre.square().sum(-1) / 2 - math.log(2 * math.pi) - ladj
    diagonal, other = image[1:, 1:] - image[:-1, :-1], image[:-1, 1:] - image[1:, :-1]
    area = (diagonal[..., 0] * other[..., 1] - diagonal[..., 1] * other[..., 0]) / 2
    inside = log_density > -20
    assert (area[inside] > 0).all()  # the image of the grid is not folded
    assert abs((log_density.exp() * area)[inside].sum().item() - 1) < 1e-3
    assert ladj.abs().max() > 0.05  # and it is not the identity


def test_a_conditioner_starts_at_its_bias_whatever_the_context() -> None:
    bias = torch.tensor([1.0, -2.0])
    conditioner = Conditioner(3, bias)
    torch.testing.assert_close(conditioner(torch.randn(4, 5)), bias.expand(4, 2))
    bias.fill_(0)
    assert conditioner.bias.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("context_size", [0, 3])
def test_iaf_agrees_with_zukos_autoregressive_transform(context_size: int) -> None:
    step = perturbed(IAF(4, context_size, hidden=16))
    z, h = points(4, 3, 5)

    def meta(origin: Tensor) -> AffineTransform:
        shift, log_scale = step.shift_and_log_scale(origin, h)
        return AffineTransform(shift, log_scale.exp())

    theirs = AutoregressiveTransform(meta, passes=4)
    moved, ladj = step(z, h)
    torch.testing.assert_close(theirs(z), moved)
    torch.testing.assert_close(theirs.log_abs_det_jacobian(z, moved).sum(-1), ladj)
    torch.testing.assert_close(theirs.inv(moved), step.inverse(moved, h)[0])


@pytest.mark.parametrize("flow", [IAF, NAF, NSF])
@pytest.mark.parametrize(("k", "above"), [(1, False), (2, True)])
def test_an_autoregressive_step_is_triangular_and_a_chain_of_two_is_not(flow: type[Flow], k: int, above: bool) -> None:
    chain = perturbed(Chain(lambda: flow(4, 0), k))
    jacobian = torch.autograd.functional.jacobian(lambda z: chain(z, torch.zeros(0))[0], torch.randn(4))
    seen = jacobian.abs() > 0
    assert seen.tril().equal(torch.ones(4, 4).bool().tril())
    assert seen.triu(1).any() == above


def test_steps_of_a_chain_are_their_own() -> None:
    chain = Chain(lambda: Planar(2, 0), 3)
    for one, other in itertools.combinations(chain.parameters(), 2):
        assert one is not other
    assert len(list(chain.parameters())) == 3 * len(list(Planar(2, 0).parameters()))


@pytest.mark.parametrize("context_size", [0, 3])
def test_real_nvp_agrees_with_zukos_coupling_transform(context_size: int) -> None:
    step = perturbed(RealNVP(5, context_size, hidden=16))
    z, h = points(5, 3, 4)

    def meta(kept: Tensor) -> DependentTransform:
        shift, log_scale = step.shift_and_log_scale(kept, h)
        return DependentTransform(AffineTransform(shift, log_scale.exp()), 1)

    theirs = CouplingTransform(meta, torch.tensor([True, True, False, False, False]))
    moved, ladj = step(z, h)
    torch.testing.assert_close(theirs(z), moved)
    torch.testing.assert_close(theirs.log_abs_det_jacobian(z, moved), ladj)
    torch.testing.assert_close(theirs.inv(moved), step.inverse(moved, h)[0])


@pytest.mark.parametrize("latent_size", [4, 5])
def test_one_step_of_real_nvp_keeps_a_half_and_two_move_everything(latent_size: int) -> None:
    z, h = points(latent_size, 3, 4)
    for k, kept in ((1, latent_size // 2), (2, 0)):
        moved = perturbed(Chain(lambda: RealNVP(latent_size, 3), k))(z, h)[0]
        assert moved[..., :kept].equal(z[..., :kept])
        assert (moved[..., kept:] != z[..., kept:]).all()


@pytest.mark.parametrize("context_size", [0, 3])
def test_real_nvp_is_affine_in_one_dimension(context_size: int) -> None:
    z, h = torch.linspace(-6, 6, 20).view(-1, 1, 1).expand(20, 4, 1), torch.randn(4, 3)
    moved, ladj = perturbed(RealNVP(1, context_size))(z, h)
    torch.testing.assert_close(moved.diff(dim=0), (z.diff(dim=0) * ladj[1:].exp().unsqueeze(-1)))
    assert (ladj.std(-1) > 1e-3).all() == bool(context_size)


def test_nsf_agrees_with_zukos_and_is_the_identity_far_from_the_origin() -> None:
    step = perturbed(NSF(3, 4, bins=5, hidden=16), scale=1.0)
    theirs = zuko.flows.NSF(3, 4, transforms=1, bins=5, hidden_features=(16,), activation=nn.ELU).transform.transforms[
        0
    ]
    theirs.load_state_dict(step.transform.state_dict())
    z, h = points(3, 6, 4)[0], torch.randn(4, 4)
    moved, ladj = step(z, h)
    theirs_moved, theirs_ladj = theirs(h.expand(6, 4, 4)).call_and_ladj(z)
    torch.testing.assert_close(theirs_moved, moved)
    torch.testing.assert_close(theirs_ladj, ladj)
    far = 5.01 + z.abs()
    assert step(far, h)[0].equal(far)
    assert step(far, h)[1].abs().max() == 0


def sigmoidal(scale: float, points: int = 40) -> tuple[Sigmoidal, list[Tensor]]:
    """A mixture of five for each point, and what it was made of."""
    raw = [(scale * torch.randn(points, 5)).requires_grad_() for _ in range(3)]
    return Sigmoidal(*raw), raw


def test_naf_is_the_logit_of_a_mixture_of_sigmoids() -> None:
    unit, (log_slope, shift, weight) = sigmoidal(1.0)
    z = torch.randn(40)
    own = torch.tensor([0.6, 0.8, 1.0, 1.2, 1.4])
    slope = (5 * torch.tanh(own * log_slope / 5)).exp()
    mixture = (weight.softmax(-1) * torch.sigmoid(slope * z.unsqueeze(-1) + own * shift)).sum(-1)
    torch.testing.assert_close(unit(z), mixture.logit(), rtol=1e-7, atol=1e-7)


def test_units_of_naf_part_at_the_first_step() -> None:
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        step = NAF(2, 0, units=4, hidden=8)
        descent = optimizer(step.parameters(), lr=0.1)
        z = torch.randn(100, 2)
        moved, ladj = step(z, z)
        (moved.square() + 3 * moved).mean().sub(ladj.mean()).backward()
        descent.step()
        phi = step.transform.hyper(torch.ones(1, 3)).view(2, 12)
        unit = Sigmoidal(*phi.chunk(3, dim=-1))
        for one, other in itertools.combinations(range(4), 2):
            assert (unit.shift[:, one] - unit.shift[:, other]).abs().min() > 1e-4
            assert (unit.log_slope[:, one] - unit.log_slope[:, other]).abs().min() > 1e-4


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_inverse_of_naf_is_the_root(scale: float) -> None:
    unit, _ = sigmoidal(scale)
    for y in (torch.randn(40), 1e3 * torch.randn(40)):
        torch.testing.assert_close(unit(unit.inv(y)), y, rtol=1e-6, atol=1e-6)


def test_inverse_of_naf_has_the_gradient_of_the_root() -> None:
    _, raw = sigmoidal(1.0, points=3)
    y = torch.randn(3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, *raw: Sigmoidal(*raw).inv(y), (y, *raw))


def matrices(step: Sylvester, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Q, R, S and b of each document, from the definition."""
    normals, square, diagonal, b = step.parameters_of(h).split(step.sizes, dim=-1)
    q = torch.eye(step.latent_size).expand(len(h), -1, -1)
    for normal in normals.unflatten(-1, (-1, step.latent_size)).unbind(1):
        outer = normal.unsqueeze(-1) * normal.unsqueeze(-2)
        q = q @ (torch.eye(step.latent_size) - 2 * outer / normal.square().sum(-1).view(-1, 1, 1))
    square = square.unflatten(-1, (step.width, step.width))
    r = square.triu(1) + torch.diag_embed(0.999 * square.diagonal(dim1=1, dim2=2).tanh())
    s = square.tril(-1).mT + torch.diag_embed(0.999 * diagonal.tanh())
    return q[..., : step.width], r, s, b


@pytest.mark.parametrize(("width", "m"), [(1, 1), (3, 3), (5, 5), (9, 5)])
def test_sylvester_is_its_definition(width: int, m: int) -> None:
    step = perturbed(Sylvester(5, 3, width=width, reflections=4))
    z, h = points(5, 4)
    q, r, s, b = matrices(step, h)
    assert q.shape == (4, 5, m)
    torch.testing.assert_close(q.mT @ q, torch.eye(m).expand(4, m, m))
    assert (r.diagonal(dim1=1, dim2=2) * s.diagonal(dim1=1, dim2=2) > -1).all()
    bent = torch.tanh((s @ q.mT @ z.unsqueeze(-1)).squeeze(-1) + b)
    torch.testing.assert_close(step(z, h)[0], z + (q @ r @ bent.unsqueeze(-1)).squeeze(-1))


def test_sylvester_of_width_one_is_planar() -> None:
    step, planar = perturbed(Sylvester(4, 0, width=1), scale=1.0), Planar(4, 0)
    q, r, s, b = (part[0] for part in matrices(step, torch.zeros(1, 0)))
    u_hat, w = (q @ r).squeeze(-1), (q @ s).squeeze(-1)
    with torch.no_grad():
        slope = 1 + (r * s).squeeze()
        along = slope.expm1().log() - math.log(math.e - 1)
        u = u_hat - (slope - 1 - along) * w / w.square().sum()
        planar.parameters_of.bias.copy_(torch.cat([u, w, b]))
    z = torch.randn(7, 4)
    for ours, theirs in zip(step(z, z), planar(z, z), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_as_many_reflections_as_directions_span_anything() -> None:
    wanted = torch.randn(6, 3)
    packed, _ = torch.geqrf(wanted)
    normals = nn.functional.normalize(packed.tril(-1) + torch.eye(6, 3), dim=0)
    q = reflect(torch.eye(6), normals.unbind(1))[:, :3]
    torch.testing.assert_close(q @ q.mT @ wanted, wanted)


def test_sylvester_is_finite_in_float32_where_its_diagonals_saturate() -> None:
    step = Sylvester(2, 0, reflections=2).float()
    with torch.no_grad():
        step.parameters_of.bias.copy_(torch.tensor([1.0, 0, 0, 1, -50, 0, 0, -50, 50, 50, 0, 0]))
    _, ladj = step(torch.zeros(1, 2).float(), torch.zeros(1, 0).float())
    assert ladj.item() == pytest.approx(2 * math.log(1 - 0.999**2), rel=1e-3)
