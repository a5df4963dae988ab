"""Noise on what the decoder reads, so that it has to ask z."""

from __future__ import annotations

from dataclasses import replace

import torch

from flowsearch.errors import BadInput
from flowsearch.text.batches import Batch


class WordDropout:
    """Each input word, but not `<s>` or padding, becomes `unk` with probability `rate`; targets stay as they are.

    "Generating Sentences from a Continuous Space" (Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio, 2016). Training
    only: evaluation does not call it. `unk` is `Vocabulary.unk`. Random numbers come from `generator`, by default
    torch's global one of the batch's device; a rate of 0 draws none. Raises BadInput unless 0 <= rate <= 1.

    >>> tokens = torch.tensor([[1, 4, 5, 2]])
    >>> batch = Batch(tokens, torch.tensor([3]), torch.tensor([0]), tokens[:, :-1], padded=False)
    >>> WordDropout(1.0, 3)(batch).inputs
    tensor([[1, 3, 3]])
    """

    def __init__(self, rate: float, unk: int) -> None:
        if not 0 <= rate <= 1:
            raise BadInput(f"objective.word_dropout: {rate}; expected between 0 and 1")
        self.rate = rate
        self.unk = unk

    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        if not self.rate:
            return batch
        draws = torch.rand(batch.inputs.shape, device=batch.inputs.device, generator=generator)
        hidden = (draws < self.rate) & batch.mask
        hidden[:, 0] = False
        return replace(batch, inputs=batch.inputs.masked_fill(hidden, self.unk))
