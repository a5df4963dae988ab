"""A reading: what was measured on one split of the data after one epoch of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SPLITS = ("train", "valid", "test")

UNITS: Mapping[str, str] = {
    "elbo": "nats per document, KL weight 1 (negative)",
    "reconstruction": "nats per document, -log p(x|z)",
    "kl": "nats per document, KL(q(z|x) || p(z))",
    "kl_is_bound": "0 where the KL is a critic's estimate from below, and elbo and ppl are no bounds",
    "ppl": "exp(-sum elbo / sum tokens), </s> counted, <s> not",
    "active_units": "latent dimensions with Var[E[z|x]] >= 0.01, at the last step of the flow",
    "active_units_base": "latent dimensions with Var[E[z_0|x]] >= 0.01, at the Gaussian base",
    "mutual_information": "nats, I(x; z_0) under the aggregate of the whole split, at most log(documents)",
    "mutual_information_reference": "nats, mean over batches as He et al. 2019, at most log(batch size)",
    "iw_nll": "nats per document, importance-weighted bound on -log p(x)",
    "iw_ppl": "exp(sum iw_nll / sum tokens)",
    "iw_samples": "importance samples per document",
    "elbo_refined": "nats per document, KL weight 1 (negative), q(z|x) refined on the document itself",
    "kl_refined": "nats per document, KL(q(z|x) || p(z)), q(z|x) refined",
    "ppl_refined": "exp(-sum elbo_refined / sum tokens)",
    "active_units_refined": "latent dimensions with Var[E[z|x]] >= 0.01, q(z|x) refined",
    "mutual_information_refined": "nats, I(x; z_0), q(z|x) refined",
    "iw_nll_refined": "nats per document, importance-weighted bound, proposals refined",
    "entropy": "nats per document, mean of the true -log p(x) of a synthetic corpus",
    "gap": "nats per document, -elbo minus the true -log p(x)",
    "gap_stderr": "nats per document, standard error of gap, paired per document",
    "kl_weight": "weight of the KL at the end of the epoch",
    "lr": "learning rate of the epoch",
    "steps": "decoder steps of the epoch, one per batch",
    "inner_steps": "encoder steps of the epoch's lagging phases",
    "aggressive": "1 while lagging inference is aggressive",
    "loss": "nats per document, as descended (KL weight of the moment)",
    "documents": "documents measured",
    "tokens": "tokens measured, </s> counted, <s> not",
    "seconds": "seconds of wall time",
    "tokens_per_second": "tokens through a training step per second of wall time",
    "peak_memory": "bytes, high-water mark of the process (CPU) or of the device (GPU)",
}
"""The unit of every metric that the package itself writes; a new metric adds its line."""


@dataclass(frozen=True)
class Reading:
    """The metrics of one split after one epoch.

    Args:
        epoch: epochs trained so far, from 1.
        split: one of `SPLITS`; `train` is the mean over the epoch while training, dropout on.
        values: metric name to value, in the units of `UNITS`.

    >>> Reading(1, "valid", {"elbo": -38.0}).values["elbo"]
    -38.0
    """

    epoch: int
    split: str
    values: Mapping[str, float]
