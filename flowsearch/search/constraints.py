"""What a search asks of a trial beside a good ELBO: limits that a model which ignores its documents cannot keep.

A collapsed model is often a good language model (He et al., ICLR 2019), so the ELBO alone rewards it. `search.require`
says what a validation reading must be: `{active_units: {min: 1}, kl: {min: 0.1}}`.

1. After the warm-up and `after` epochs more, a trial of the search that breaks a limit is PRUNED, with the limit as its
   reason; it is not at its last epoch, where there is nothing left to save.
2. Optuna is told by how much a trial breaks each limit: at its best epoch if it is COMPLETE, at its last if it was
   stopped. TPE takes its good trials from those that break none (Watanabe and Hutter, c-TPE, IJCAI 2023).
3. A metric that was not measured breaks no limit; one that is not a number breaks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, NonNegativeInt, model_validator

from flowsearch.errors import nearest
from flowsearch.results import UNITS
from flowsearch.training.component import Section, fault


class Limit(Section):
    """The least and the most that a metric may be, from `after` epochs after the warm-up on."""

    min: float | None = None
    max: float | None = None
    after: NonNegativeInt = 0

    @model_validator(mode="after")
    def limits(self) -> Limit:
        """A limit that nothing can break, or that nothing can keep, is a mistake."""
        if self.min is None and self.max is None:
            raise fault("expected {min: A}, {max: B} or both")
        if self.least > self.most:
            raise fault(f"expected min to be at most max, {self.most:g}", path=("min",), value=self.min)
        return self

    @property
    def least(self) -> float:
        """The least, perhaps minus infinity."""
        return -math.inf if self.min is None else self.min

    @property
    def most(self) -> float:
        """The most, perhaps infinity."""
        return math.inf if self.max is None else self.max

    def excess(self, value: float) -> float:
        """By how much a value breaks this; 0 or less where it does not.

        >>> Limit(min=1.0).excess(0.0), Limit(min=1.0).excess(3.0), Limit(max=2.0).excess(math.nan)
        (1.0, -2.0, inf)
        """
        return math.inf if math.isnan(value) else max(self.least - value, value - self.most)

    def spelled(self, name: str, value: float) -> str:
        """In words: `active_units >= 1`.

        >>> Limit(min=1.0, max=9.0).spelled("kl", 12.0)
        'kl <= 9'
        """
        return f"{name} <= {self.max:g}" if value > self.most else f"{name} >= {self.min:g}"


def metrics(value: Any) -> Any:
    """Refuse a name that is no metric."""
    for name in value if isinstance(value, Mapping) else ():
        if name not in UNITS:
            raise fault(f"unknown metric{nearest(str(name), UNITS)}", path=(name,), value=name)
    return value


Require = Annotated[dict[str, Limit], BeforeValidator(metrics)]


def excesses(require: Mapping[str, Limit], values: Mapping[str, float]) -> dict[str, float]:
    """By how much a reading breaks each limit; metrics that it does not have are left out."""
    return {name: limit.excess(values[name]) for name, limit in require.items() if name in values}


def broken(require: Mapping[str, Limit], values: Mapping[str, float], step: int | None = None) -> str | None:
    """The first limit that a reading breaks, in words; None if it keeps them all.

    Args:
        require: limits by metric.
        values: a validation reading.
        step: its epoch, counted from the end of the warm-up; None asks whatever the epoch.

    >>> broken({"kl": Limit(min=0.1, after=2)}, {"kl": 0.0}, step=3)
    'kl >= 0.1'
    """
    for name, excess in excesses(require, values).items():
        limit = require[name]
        if excess > 0 and (step is None or step > limit.after):
            return limit.spelled(name, values[name])
    return None
