"""Encoders, posteriors, priors and decoders, and the VAE that they make."""

from flowsearch.catalogue import members
from flowsearch.models.decoders import Decoder, LSTMDecoder
from flowsearch.models.distributions import DiagonalGaussian, Distribution, Draw, Transported, gaussian_log_prob
from flowsearch.models.encoders import Encoder, LSTMEncoder, NoEncoder
from flowsearch.models.posteriors import POSTERIORS, Flowed, Gaussian, Posterior
from flowsearch.models.priors import Prior, StandardNormal
from flowsearch.models.vae import VAE

__all__ = [
    "POSTERIORS",
    "VAE",
    "Decoder",
    "DiagonalGaussian",
    "Distribution",
    "Draw",
    "Encoder",
    "Flowed",
    "Gaussian",
    "LSTMDecoder",
    "LSTMEncoder",
    "NoEncoder",
    "Posterior",
    "Prior",
    "StandardNormal",
    "Transported",
    "gaussian_log_prob",
]

ENCODERS = members(globals(), Encoder)
DECODERS = members(globals(), Decoder)
PRIORS = members(globals(), Prior)
