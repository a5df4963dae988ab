"""Names for configurations, told apart by no more than what tells them apart.

A label is what the search wrote (`VAE + PF(k=4) + Annealing`). Where configurations of a study share one, the
parameters in which they differ follow in brackets, under the shortest ends of their dotted names that no other
parameter has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowsearch.report.tables import MISSING


def distinct(labels: Sequence[str], params: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels of configurations, with what tells them apart where they are equal.

    >>> distinct(["VAE", "VAE", "LM"], [{"o.beta": 0.4, "o.k": 1}, {"o.beta": 0.6, "o.k": 1}, {}])
    ['VAE [beta=0.4]', 'VAE [beta=0.6]', 'LM']
    """
    names = shortest({name for given in params for name in given})
    sharing: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        sharing.setdefault(label, []).append(place)
    result = list(labels)
    for label, places in sharing.items():
        for place, told in zip(places, _told_apart([params[place] for place in places], names), strict=True):
            result[place] = f"{label} [{told}]" if told else label
    return result


def shortest(names: Iterable[str]) -> dict[str, str]:
    """The shortest end of each dotted name that is the end of no other.

    >>> shortest(["model.posterior", "model.posterior.k", "prior.k"])
    {'model.posterior': 'posterior', 'model.posterior.k': 'posterior.k', 'prior.k': 'prior.k'}
    """
    ordered = sorted(names)
    counts: dict[str, int] = {}
    for name in ordered:
        for end in _ends(name):
            counts[end] = counts.get(end, 0) + 1
    return {name: next((end for end in _ends(name) if counts[end] == 1), name) for name in ordered}


def rounded(value: Any) -> str:
    """A parameter's value to three significant digits.

    >>> rounded(0.41666), rounded(1234567), rounded(None), rounded(True)
    ('0.417', '1234567', '–', 'true')
    """
    return f"{value:.3g}" if isinstance(value, float) else exact(value)


def exact(value: Any) -> str:
    """A parameter's value in full.

    >>> exact(0.41666)
    '0.41666'
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _told_apart(params: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    differing = [name for name in names if len({given.get(name) for given in params}) > 1]
    told = [_told(given, differing, names, rounded) for given in params]
    return told if len(set(told)) == len(told) else [_told(given, differing, names, exact) for given in params]


def _told(
    given: Mapping[str, Any], differing: Sequence[str], names: Mapping[str, str], write: Callable[[Any], str]
) -> str:
    return ", ".join(f"{names[name]}={write(given[name])}" for name in differing if name in given)


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
