"""log p(x|z) from the decoder's states without ever holding [tokens, vocabulary] twice.

The logits are made a few hundred tokens at a time, and the gradients of linear layer and cross-entropy are made in the
same pass while a chunk is still in cache; the softmax is in float32 whatever the matrices are in, for bfloat16 loses
0.2 % of the loss there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowsearch.errors import Intractable

TWICE: ContextVar[bool] = ContextVar("twice", default=False)

CHUNK = 256
"""Tokens whose logits are held at once: the fastest of 256, 512 and 1280 on one core (benchmarks/training_step.py)."""


def log_likelihood(
    states: Float[Tensor, "T M H"],
    weight: Float[Tensor, "V H"],
    targets: Int[Tensor, "T M"],
    mask: Bool[Tensor, "T M"] | None,
) -> Float[Tensor, " M"]:
    """sum_t log softmax(weight states_t)[target_t] of each of M sequences, in nats; masked tokens count nothing.

    Args:
        states: [T, M, H].
        weight: [V, H].
        targets: [T, M].
        mask: [T, M], true where a token counts; None counts all.
    """
    if TWICE.get():
        logits, labels = (states @ weight.t()).flatten(0, 1), targets.flatten()
        nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none").view(targets.shape)
        return -(nll if mask is None else nll * mask).sum(0)
    dtype = (
        torch.get_autocast_dtype(states.device.type) if torch.is_autocast_enabled(states.device.type) else states.dtype
    )
    summed: Tensor = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states.to(dtype), weight, targets, mask, torch.is_grad_enabled()
    )
    return -summed


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """In this block a model's log p(x|z) has second derivatives, at the price of the fast kernels that have none.

    Those are the chunked likelihood's, cuDNN's LSTM, and fused attention.
    """
    token = TWICE.set(True)
    try:
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        TWICE.reset(token)


class ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of each sequence; gradients made with the forward pass, for a weight of 1 on every sequence.

    Backward scales them: exact for the states whatever the weights, exact for the layer's weight where all sequences
    weigh the same, as in any mean over documents; where they differ its gradient is made again. These gradients are no
    function of the states any more, so a second derivative, which would silently be wrong, is refused as Intractable.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, mask: Tensor | None, differentiate: bool
    ) -> Tensor:
        rows, labels = states.flatten(0, 1), targets.flatten()
        keep = None if mask is None else mask.flatten()
        ctx.learns = (differentiate and ctx.needs_input_grad[0], differentiate and ctx.needs_input_grad[1])
        nll, d_states, d_weight = chunks(rows, weight.to(states.dtype), labels, keep, None, ctx.learns)
        ctx.shape = targets.shape
        ctx.save_for_backward(states, weight, targets, mask, d_states, d_weight)
        return nll.view(targets.shape).sum(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise Intractable("the chunked likelihood has no second derivative")
        states, weight, targets, mask, d_states, d_weight = ctx.saved_tensors
        (outer,) = gradients
        if d_weight is not None:
            if bool((outer == outer[0]).all()):
                d_weight = d_weight * outer[0].to(d_weight.dtype)
            else:
                per_token = outer.expand(ctx.shape).flatten()
                keep = None if mask is None else mask.flatten()
                rows, labels = states.flatten(0, 1), targets.flatten()
                _, _, d_weight = chunks(rows, weight.to(states.dtype), labels, keep, per_token, (False, True))
        if d_states is not None:
            d_states = d_states.view(states.shape) * outer.to(states.dtype).unsqueeze(-1)
        return d_states, d_weight, None, None, None


def chunks(
    rows: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    labels: Int[Tensor, " N"],
    keep: Bool[Tensor, " N"] | None,
    outer: Float[Tensor, " N"] | None,
    learns: tuple[bool, bool],
) -> tuple[Float[Tensor, " N"], Tensor | None, Tensor | None]:
    """Cross-entropy of every token, and the gradients of its (weighted) sum to rows and weight where wanted."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    nll = torch.empty(len(rows), dtype=wide, device=rows.device)
    d_rows = torch.empty_like(rows) if learns[0] else None
    d_weight = torch.zeros(weight.shape, dtype=wide, device=rows.device) if learns[1] else None
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        target = labels[part].unsqueeze(1)
        logits = (rows[part] @ weight.t()).to(wide)
        top, chosen = logits.amax(1, keepdim=True), logits.gather(1, target)
        # One fused softmax passes over memory once. The likeliest word has p = 1 / sum exp(logit - top) >= 1 / V, so
        # its logarithm is safe where that of the target's own p may have underflowed.
        error = logits.softmax(1)
        nll[part] = (top - chosen - error.amax(1, keepdim=True).log()).squeeze(1)
        if d_rows is None and d_weight is None:
            continue
        error.scatter_add_(1, target, torch.full_like(top, -1.0))
        if keep is not None:
            error.mul_(keep[part].unsqueeze(1))
        if outer is not None:
            error.mul_(outer[part].unsqueeze(1))
        error = error.to(rows.dtype)
        if d_rows is not None:
            torch.mm(error, weight, out=d_rows[part])
        if d_weight is not None:
            d_weight.addmm_(error.t(), rows[part]) if wide == rows.dtype else d_weight.add_(error.t() @ rows[part])
    return nll if keep is None else nll * keep, d_rows, d_weight
