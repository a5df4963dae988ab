"""Distributed hyperparameter search for text VAEs with normalizing-flow posteriors."""

__version__ = "0.1.0"
