"""Encoders, posteriors, priors and decoders, and the VAE that they make."""

from collections.abc import Callable

from flowsearch.catalogue import members
from flowsearch.models.decoders import Decoder, LSTMDecoder
from flowsearch.models.distributions import DiagonalGaussian, Distribution, Draw, Transported, gaussian_log_prob
from flowsearch.models.encoders import Encoder, LSTMEncoder, NoEncoder
from flowsearch.models.flow_prior import FLOW_PRIORS, FlowPrior
from flowsearch.models.implicit import Implicit, Pushforward
from flowsearch.models.likelihood import twice_differentiable
from flowsearch.models.mixture import Mixture
from flowsearch.models.posteriors import FLOWED, Flowed, Gaussian, Posterior
from flowsearch.models.priors import Prior, StandardNormal
from flowsearch.models.sequence_flow import SequenceFlow
from flowsearch.models.transformers import TransformerDecoder, TransformerEncoder
from flowsearch.models.vae import VAE

__all__ = [
    "VAE",
    "Decoder",
    "DiagonalGaussian",
    "Distribution",
    "Draw",
    "Encoder",
    "FlowPrior",
    "Flowed",
    "Gaussian",
    "Implicit",
    "LSTMDecoder",
    "LSTMEncoder",
    "Mixture",
    "NoEncoder",
    "Posterior",
    "Prior",
    "Pushforward",
    "SequenceFlow",
    "StandardNormal",
    "TransformerDecoder",
    "TransformerEncoder",
    "Transported",
    "gaussian_log_prob",
    "twice_differentiable",
]

POSTERIORS: dict[str, Callable[..., Posterior]] = {"Gaussian": Gaussian, "Implicit": Implicit, **FLOWED}
ENCODERS = members(globals(), Encoder)
DECODERS = members(globals(), Decoder)
PRIORS: dict[str, Callable[..., Prior]] = {"StandardNormal": StandardNormal, "Mixture": Mixture, **FLOW_PRIORS}
