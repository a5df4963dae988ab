"""From z to a distribution over documents: p(x|z) = prod_t p(x_t | x_<t, z)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from flowsearch.models.likelihood import log_likelihood
from flowsearch.models.linear import Linear
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import BOS, EOS, PAD


class Decoder(nn.Module, ABC):
    """Scores documents given z, and writes new ones.

    Args:
        vocabulary_size: V.
        latent_size: D.
    """

    def __init__(self, vocabulary_size: int, latent_size: int) -> None:
        super().__init__()
        self.vocabulary_size, self.latent_size = vocabulary_size, latent_size

    @abstractmethod
    def forward(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        """log p(x|z) in nats per document, `</s>` counted."""

    @abstractmethod
    def generate(self, z: Float[Tensor, "B D"], *, temperature: float, max_words: int) -> list[list[int]]:
        """One document per point: word ids without `<s>` and `</s>`; temperature 0 takes the likeliest word."""


class LSTMDecoder(Decoder):
    """One LSTM layer that z starts and that sees z again beside every input word (He et al., 2019).

    c_0 = W z, h_0 = tanh(c_0); inputs [dropout(embedding); z]; logits from a linear layer without bias on dropout(h_t).
    Uniform(-0.01, 0.01), embeddings 0.1.

    Args:
        vocabulary_size: V.
        latent_size: D.
        embedding_size: width of the word embeddings.
        hidden_size: H.
        dropout: share of units dropped from the embeddings and from the LSTM's outputs, in training.
        last_word_learns: False leaves the input embedding of the vocabulary's last word as it was initialised, as the
            reference code does (`padding_idx=-1` names that row, not "no padding").
    """

    def __init__(
        self,
        vocabulary_size: int,
        latent_size: int,
        *,
        embedding_size: PositiveInt,
        hidden_size: PositiveInt,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        last_word_learns: bool = True,
    ) -> None:
        super().__init__(vocabulary_size, latent_size)
        still = None if last_word_learns else vocabulary_size - 1
        self.embed = nn.Embedding(vocabulary_size, embedding_size, padding_idx=still)
        self.start = Linear(latent_size, hidden_size, bias=False)
        self.lstm = nn.LSTM(embedding_size + latent_size, hidden_size)
        self.words = nn.Linear(hidden_size, vocabulary_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        samples, documents = z.shape[:2]
        words = self.dropout(self.embed(batch.inputs.t())).unsqueeze(1)
        both = [words.expand(-1, samples, -1, -1), z.expand(len(words), -1, -1, -1)]
        first = self.first_state(z.reshape(samples * documents, self.latent_size))
        outputs, _ = self.lstm(torch.cat(both, dim=-1).flatten(1, 2), first)
        targets = batch.targets.t().repeat(1, samples)
        mask = batch.mask.t().repeat(1, samples) if batch.padded else None
        scores = log_likelihood(self.dropout(outputs), self.words.weight, targets, mask)
        return scores.view(samples, documents)

    def first_state(self, z: Float[Tensor, "M D"]) -> tuple[Float[Tensor, "1 M H"], Float[Tensor, "1 M H"]]:
        """h_0 and c_0."""
        cell = self.start(z).unsqueeze(0)
        return torch.tanh(cell), cell

    @torch.no_grad()
    def generate(self, z: Float[Tensor, "B D"], *, temperature: float, max_words: int) -> list[list[int]]:
        word = torch.full((len(z),), BOS, device=z.device)
        ended = torch.zeros_like(word, dtype=torch.bool)
        state, written = self.first_state(z), []
        for _ in range(max_words):
            step = torch.cat([self.embed(word), z], dim=-1).unsqueeze(0)
            output, state = self.lstm(step, state)
            word = choose(self.words(output[0]), temperature)
            written.append(word)
            ended |= word == EOS
            if ended.all():
                break
        return [until_end(document) for document in torch.stack(written, dim=1).tolist()]


def choose(logits: Float[Tensor, "B V"], temperature: float) -> Tensor:
    """A word of each row: the likeliest at temperature 0, else sampled from softmax(logits / temperature)."""
    logits = logits.float().index_fill(-1, torch.tensor([PAD, BOS], device=logits.device), -torch.inf)
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1).squeeze(-1)


def until_end(words: list[int]) -> list[int]:
    """The words before the first `</s>`."""
    return words[: words.index(EOS)] if EOS in words else words
