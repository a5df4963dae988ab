"""Invertible maps of latent space, one paper per file. Exporting a `Flow` here makes it a posterior by name."""

from flowsearch.catalogue import members
from flowsearch.flows._base import Conditioner, Flow
from flowsearch.flows.chain import Chain
from flowsearch.flows.iaf import IAF
from flowsearch.flows.planar import Planar
from flowsearch.flows.radial import Radial

__all__ = ["IAF", "Chain", "Conditioner", "Flow", "Planar", "Radial"]

FLOWS = members(globals(), Flow)
