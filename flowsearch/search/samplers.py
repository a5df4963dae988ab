"""Samplers choose the next configuration: thin builders over `optuna.samplers`, named in a space as `search.sampler`.

Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019. Every builder takes the seed
from the program and its knobs from the space. None of them warns about a parameter that it samples independently: in
a conditional space that is the ordinary case, not a mistake.

>>> type(SAMPLERS["TPE"](0, startup=5)).__name__
'TPESampler'
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler, TPESampler
from pydantic import PositiveInt


class Enumeration(RandomSampler):
    """Tries the points of the space in the order of the file; random only where `search.first` leaves a value open."""


class Unconstrained(CmaEsSampler):
    """CMA-ES that is told of constraints, which it does not use, without a warning at every trial."""

    def after_trial(self, *ended: Any) -> None:
        """Take in a trial that has ended."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constraints have been set")
            super().after_trial(*ended)


def CMAES(seed: int, *, startup: PositiveInt = 1) -> BaseSampler:
    """Covariance matrix adaptation (Hansen and Ostermeier, Evolutionary Computation, 2001) over the numeric parameters.

    1. Choices, and parameters inside a branch of a choice, are sampled at random.

    Args:
        seed: of the random numbers.
        startup: configurations drawn at random first.
    """
    return Unconstrained(
        seed=seed,
        n_startup_trials=startup,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
    )


def Grid(seed: int) -> BaseSampler:
    """Every point of the space once, conditional branches included, in the order of the file."""
    return Enumeration(seed=seed)


def QMC(seed: int, *, kind: Literal["sobol", "halton"] = "sobol") -> BaseSampler:
    """A scrambled low-discrepancy sequence (Bergstra and Bengio, JMLR 2012) over the numeric parameters; choices at
    random.

    Args:
        seed: of the scrambling.
        kind: `sobol` covers best when `search.trials` is a power of two; `halton` has no such preference.
    """
    with warnings.catch_warnings():  # "experimental" since Optuna 3.0; the version is pinned below its next major one
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(
            seed=seed,
            qmc_type=kind,
            scramble=True,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )


def Random(seed: int) -> BaseSampler:
    """Independent and uniform draws."""
    return RandomSampler(seed=seed)


def TPE(seed: int, *, startup: PositiveInt = 10, candidates: PositiveInt = 24) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al., NIPS 2011), its default form in Optuna 5: multivariate, and
    with running trials counted as poor ones so that parallel draws differ.

    Args:
        seed: of the random numbers.
        startup: configurations drawn at random first.
        candidates: draws from the good trials' density, of which the most promising is taken.
    """
    return TPESampler(seed=seed, n_startup_trials=startup, n_ei_candidates=candidates)


SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    builder.__name__: builder for builder in (CMAES, Grid, QMC, Random, TPE)
}
"""The samplers that `search.sampler` may name."""

SINGLE = frozenset({"CMAES"})
"""Those that can only seek one objective."""

CONSTRAINED = frozenset({"TPE"})
"""Those that learn from `search.require`; the others draw as if it were not there."""
