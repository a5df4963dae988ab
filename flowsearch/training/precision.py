"""A faster float32 matrix product where it is still float32.

`torch.set_float32_matmul_precision("medium")` is a permission to use bfloat16. On processors without bfloat16 matrix
units it only chooses another library, about twice as fast on AMD's; elsewhere it costs accuracy. So it is tried and
measured against float64 at the start of a process, and kept only where the error stays a float32's.
"""

from __future__ import annotations

from functools import cache

import torch

TOLERANCE = 1e-5
"""Relative root-mean-square error that a float32 product of 256 terms may have; bfloat16's is about 3e-3."""


@cache
def fastest_float32(device: str) -> str:
    """Set the fastest accurate float32 matrix product for this process: `medium` or `highest`, which is returned."""
    torch.set_float32_matmul_precision("medium")
    if matmul_error(device) > TOLERANCE:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def matmul_error(device: str) -> float:
    """Relative root-mean-square error of a float32 matrix product against float64."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator).to(device) for _ in range(2))
    exact = left.double() @ right.double()
    error = (left @ right).double() - exact
    return (error.square().mean() / exact.square().mean()).sqrt().item()
