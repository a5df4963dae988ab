"""Invertible maps of latent space, one paper per file. Exporting a `Flow` here makes it a posterior by name."""

from flowsearch.catalogue import members
from flowsearch.flows._base import Conditioner, Flow
from flowsearch.flows.chain import Chain
from flowsearch.flows.iaf import IAF
from flowsearch.flows.naf import NAF
from flowsearch.flows.nsf import NSF
from flowsearch.flows.planar import Planar
from flowsearch.flows.radial import Radial
from flowsearch.flows.real_nvp import RealNVP
from flowsearch.flows.sylvester import Sylvester

__all__ = ["IAF", "NAF", "NSF", "Chain", "Conditioner", "Flow", "Planar", "Radial", "RealNVP", "Sylvester"]

FLOWS = members(globals(), Flow)
