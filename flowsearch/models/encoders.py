"""From a document to a state h that the posterior reads."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from flowsearch.text.batches import Batch


class Encoder(nn.Module, ABC):
    """Reads whole documents, `<s>` and `</s>` included.

    Args:
        vocabulary_size: V.
    """

    state_size: int
    """H, the width of what `forward` returns."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size

    @abstractmethod
    def forward(self, batch: Batch) -> Float[Tensor, "B H"]:
        """The state of each document."""


class LSTMEncoder(Encoder):
    """One LSTM layer; h is its hidden state after `</s>` (He et al., 2019). Uniform(-0.01, 0.01), embeddings 0.1.

    Args:
        vocabulary_size: V.
        embedding_size: width of the word embeddings.
        hidden_size: H.
    """

    def __init__(self, vocabulary_size: int, *, embedding_size: PositiveInt, hidden_size: PositiveInt) -> None:
        super().__init__(vocabulary_size)
        self.state_size = hidden_size
        self.embed = nn.Embedding(vocabulary_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size)
        for parameter in self.lstm.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(self, batch: Batch) -> Float[Tensor, "B H"]:
        states, (last, _) = self.lstm(self.embed(batch.tokens.t()))
        if not batch.padded:
            return last.squeeze(0)
        # </s> of a document with T targets stands at index T of `<s> w .. </s>`.
        return states[batch.lengths, torch.arange(len(batch.lengths), device=states.device)]


class NoEncoder(Encoder):
    """Reads nothing: with `model.latent_size: 0` the decoder alone is left, a language model (H = 0)."""

    state_size = 0

    def forward(self, batch: Batch) -> Float[Tensor, "B H"]:
        return torch.empty(len(batch), 0, device=batch.tokens.device)
