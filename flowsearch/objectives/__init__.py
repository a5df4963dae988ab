"""Objectives, and what they are composed from: weights of the KL, free bits, stops, lagging inference."""

from flowsearch.catalogue import members
from flowsearch.objectives import annealing, free_bits, lagging
from flowsearch.objectives._base import Loss, Objective, Phase, Terms
from flowsearch.objectives.elbo import ELBO
from flowsearch.objectives.implicit import Implicit
from flowsearch.objectives.lagging import Lagging
from flowsearch.objectives.semi_amortized import SemiAmortized
from flowsearch.objectives.stops import Stop, after, plateau

__all__ = [
    "ELBO",
    "Implicit",
    "Lagging",
    "Loss",
    "Objective",
    "Phase",
    "SemiAmortized",
    "Stop",
    "Terms",
    "after",
    "plateau",
]

LOSSES = members(globals(), Loss)
ANNEALINGS = members(vars(annealing), annealing.Annealing)
FREE_BITS = members(vars(free_bits), free_bits.FreeBits)
LAGGING_STOPS = members(vars(lagging), lagging.LaggingStop)
