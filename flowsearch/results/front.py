"""The Pareto front: what no other beats in everything at once."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other dominates: at least as much in every coordinate, and not the same point.

    1. Equal points share the front.

    Args:
        points: [N, M]; more is better.

    >>> front([(-330.0, 4.0), (-329.0, 0.0), (-331.0, 3.0), (-329.0, 0.0)])
    [True, True, False, True]
    """
    return [
        not any(
            tuple(other) != tuple(mine) and all(theirs >= own for theirs, own in zip(other, mine, strict=True))
            for other in points
        )
        for mine in points
    ]
