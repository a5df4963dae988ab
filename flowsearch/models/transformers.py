"""Transformers in the places of the LSTMs: one that reads a document both ways, one that sees only what was written.

Attention Is All You Need (Vaswani et al., 2017), with the normalisation before each sublayer (On Layer Normalization in
the Transformer Architecture, Xiong et al., 2020). The width is `heads * head_size`: no choice of the two is wrong.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from flowsearch.models.decoders import Decoder, choose, until_end
from flowsearch.models.encoders import Encoder
from flowsearch.models.likelihood import log_likelihood
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import BOS, EOS

Dropout = Annotated[float, Field(ge=0, lt=1)]


def sinusoids(places: Float[Tensor, "*T"], width: int) -> Float[Tensor, "*T W"]:
    """Sines and cosines of each place at `width / 2` wavelengths from 2 pi to 20,000 pi: no place is too far.

    >>> sinusoids(torch.tensor([0.0, 1000.0]), 4)[0]
    tensor([0., 0., 1., 1.])
    """
    half = (width + 1) // 2
    wavelengths = torch.arange(half, dtype=places.dtype, device=places.device) / half
    angles = places.unsqueeze(-1) * torch.exp(-math.log(10_000) * wavelengths)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]


class Layers(nn.Module):
    """Transformer layers over [M, T, W], normalised at the end.

    Args:
        layers: how many; each has a hidden layer of 4 W units (GELU).
        heads: of attention.
        head_size: units of each; W = heads * head_size.
        dropout: share of units dropped, in training.
    """

    def __init__(self, layers: int, heads: int, head_size: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.width = heads, heads * head_size
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                self.width, heads, 4 * self.width, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(self.width)

    def forward(
        self, x: Float[Tensor, "M T W"], *, padding: Bool[Tensor, "M T"] | None = None, causal: bool = False
    ) -> Float[Tensor, "M T W"]:
        """The states of all places; none looks at `padding`, and with `causal` none looks ahead."""
        ahead = nn.Transformer.generate_square_subsequent_mask(x.shape[1], x.device, x.dtype) if causal else None
        for layer in self.layers:
            x = layer(x, src_mask=ahead, src_key_padding_mask=padding, is_causal=causal)
        return self.norm(x)

    def step(self, x: Float[Tensor, "M 1 W"], seen: list[Tensor]) -> Float[Tensor, "M 1 W"]:
        """The state of one more place, as `forward` with `causal` gives it, without dropout.

        Args:
            x: the place.
            seen: keys and values of the places before, [M, heads, T, 2 head_size] of each layer; they are replaced by
                those that a next step needs.
        """
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.TransformerEncoderLayer)
            attention = layer.self_attn
            projected = nn.functional.linear(layer.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
            query, *more = projected.view(len(x), 1, 3, self.heads, -1).transpose(1, 3).unbind(2)
            seen[index] = torch.cat([seen[index], torch.cat(more, dim=-1)], dim=2)
            key, value = seen[index].chunk(2, dim=-1)
            attended = nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + attention.out_proj(attended.transpose(1, 2).flatten(2))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))
        return self.norm(x)

    def nothing_seen(self, documents: int) -> list[Tensor]:
        """What `step` is given first."""
        empty = self.norm.weight.new_empty(documents, self.heads, 0, 2 * self.width // self.heads)
        return [empty] * len(self.layers)


class TransformerEncoder(Encoder):
    """Every word sees every other; h is the mean of their states, `<s>` and `</s>` counted and padding not.

    Args:
        vocabulary_size: V.
        layers: of attention.
        heads: in each layer.
        head_size: units of each head; H = heads * head_size.
        dropout: share of units dropped, in training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        layers: PositiveInt,
        heads: PositiveInt,
        head_size: PositiveInt,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__(vocabulary_size)
        self.state_size = heads * head_size
        self.embed = nn.Embedding(vocabulary_size, self.state_size)
        self.layers = Layers(layers, heads, head_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Float[Tensor, "B H"]:
        words = self.embed(batch.tokens)
        place = torch.arange(words.shape[1], device=words.device)
        words = self.dropout(words + sinusoids(place.to(words.dtype), self.state_size))
        if not batch.padded:
            return self.layers(words).mean(1)
        padding = place > batch.lengths.unsqueeze(1)
        states = self.layers(words, padding=padding).masked_fill(padding.unsqueeze(-1), 0)
        return states.sum(1) / (batch.lengths + 1).unsqueeze(1)


class TransformerDecoder(Decoder):
    """Each word sees z, which stands before `<s>` and is added to every word, and the words before it.

    1. Documents of any length can be scored and written: places are sines and cosines, not a table.
    2. `latent_size` 0 leaves a constant before `<s>`: a language model.

    Args:
        vocabulary_size: V.
        latent_size: D.
        layers: of attention.
        heads: in each layer.
        head_size: units of each head; the width is heads * head_size.
        dropout: share of units dropped, in training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        latent_size: int,
        *,
        layers: PositiveInt,
        heads: PositiveInt,
        head_size: PositiveInt,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__(vocabulary_size, latent_size)
        self.width = heads * head_size
        self.embed = nn.Embedding(vocabulary_size, self.width)
        # Unit variance wherever z has it, so that z is as loud as a word.
        self.from_z = nn.Parameter(torch.randn(2 * self.width, latent_size) / math.sqrt(max(latent_size, 1)))
        self.layers = Layers(layers, heads, head_size, dropout)
        self.words = nn.Linear(self.width, vocabulary_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        samples, documents = z.shape[:2]
        first, everywhere = self.told(z.unsqueeze(2))
        sequence = torch.cat([first, self.embed(batch.inputs) + everywhere], dim=2)
        places = self.places(sequence.shape[2], z)
        states = self.layers(self.dropout(sequence + places).flatten(0, 1), causal=True)[:, 1:]
        targets = batch.targets.t().repeat(1, samples)
        mask = batch.mask.t().repeat(1, samples) if batch.padded else None
        return log_likelihood(states.transpose(0, 1), self.words.weight, targets, mask).view(samples, documents)

    def told(self, z: Float[Tensor, "*n D"]) -> tuple[Float[Tensor, "*n W"], Float[Tensor, "*n W"]]:
        """What z is as a word before `<s>`, and what it adds to every word."""
        first, everywhere = nn.functional.linear(z, self.from_z).chunk(2, dim=-1)
        return first, everywhere

    def places(self, count: int, like: Tensor) -> Float[Tensor, "T W"]:
        """The first `count` places."""
        return sinusoids(torch.arange(count, device=like.device, dtype=like.dtype), self.width)

    @torch.no_grad()
    def generate(self, z: Float[Tensor, "B D"], *, temperature: float, max_words: int) -> list[list[int]]:
        first, everywhere = self.told(z.unsqueeze(1))
        places = self.places(max_words + 1, z)
        seen = self.layers.nothing_seen(len(z))
        self.layers.step(first + places[0], seen)
        word = torch.full((len(z), 1), BOS, device=z.device)
        ended = torch.zeros_like(word, dtype=torch.bool)
        written = []
        for place in places[1:]:
            state = self.layers.step(self.embed(word) + everywhere + place, seen)
            word = choose(self.words(state[:, 0]), temperature).unsqueeze(1)
            written.append(word)
            ended |= word == EOS
            if ended.all():
                break
        return [until_end(document) for document in torch.cat(written, dim=1).tolist()]
