"""A decoder without autoregression: a flow over the whole sequence makes all words at once.

Categorical Normalizing Flows via Continuous Transformations (Lippe & Gavves, 2021) gives words continuous codes, and
FlowSeq: Non-Autoregressive Conditional Sequence Generation with Generative Flow (Ma et al., 2019) the couplings over a
sequence and the length that comes first. The wish for it: a purely flow model, as in Parallel WaveNet: Fast
High-Fidelity Speech Synthesis (van den Oord et al., 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowsearch.flows import Conditioner
from flowsearch.models.decoders import Decoder
from flowsearch.models.distributions import LOG_2PI, gaussian_log_prob
from flowsearch.models.likelihood import log_likelihood
from flowsearch.models.transformers import Layers, sinusoids
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import UNK

LOG_SCALE_BOUND = 3.0
LENGTHS = 4
"""Humps that the distribution of lengths may have."""


class SequenceFlow(Decoder):
    """p(x|z) = p(T|z) integral p(e|z, T) prod_t p(x_t|e_t) de, every place in parallel.

    A word has a Gaussian code q(e_t|x_t); a chain of couplings that depends on z and T carries the codes of all T words
    to N(0, I) and back; Bayes' rule over the vocabulary, p(w|e) ~ p(w) q(e|w), turns a code into a word again.

    1. `forward` is the logarithm of an unbiased one-sample estimate of p(x|z), the sample being e ~ q(e|x). On average
       it lies below log p(x|z), so an ELBO or an importance-weighted bound made with it is still a bound.
    2. T words are followed by `</s>`, which has no code; `<pad>`, `<s>` and `</s>` are never among the words.
    3. It reads no word before it writes the next: `batch.inputs`, and so word dropout, do not matter.
    4. Temperature t scales the base noise by t, and sharpens lengths and words as their logits / t; 0 is the mode of
       each in turn. Lengths are drawn given that they are at most `max_words`.

    Args:
        vocabulary_size: V.
        latent_size: D; 0 makes it a language model.
        code_size: E, the width of a word's code.
        couplings: steps of the chain; each moves half of every code, so at least 2 move all.
        layers: of attention in each coupling.
        heads: in each layer.
        head_size: units of each head.
    """

    def __init__(
        self,
        vocabulary_size: int,
        latent_size: int,
        *,
        code_size: Annotated[int, Field(ge=2)],
        couplings: Annotated[int, Field(ge=2)] = 4,
        layers: PositiveInt = 1,
        heads: PositiveInt,
        head_size: PositiveInt,
    ) -> None:
        super().__init__(vocabulary_size, latent_size)
        words = vocabulary_size - UNK
        self.means = nn.Parameter(torch.randn(words, code_size))
        self.log_scales = nn.Parameter(torch.full((words, code_size), -1.0))
        self.log_prior = nn.Parameter(torch.zeros(words))
        self.lengths = Lengths(latent_size)
        self.couplings = nn.ModuleList(
            Coupling(latent_size, code_size, layers, heads, head_size) for _ in range(couplings)
        )

    def forward(self, z: Float[Tensor, "n B D"], batch: Batch) -> Float[Tensor, "n B"]:
        noise = torch.randn(*z.shape[:2], batch.targets.shape[1], self.means.shape[1], dtype=z.dtype, device=z.device)
        return self.score(z, batch, noise)

    def score(self, z: Float[Tensor, "n B D"], batch: Batch, noise: Float[Tensor, "n B T E"]) -> Float[Tensor, "n B"]:
        """What `forward` returns when `noise` is drawn for the codes."""
        samples, documents, _, _ = noise.shape
        place = torch.arange(noise.shape[2], device=z.device)
        is_word = place < batch.lengths.unsqueeze(1) - 1
        word = (batch.targets - UNK).clamp(min=0)
        log_scales = self.log_scales[word]
        codes = (self.means[word] + log_scales.exp() * noise) * is_word.unsqueeze(-1)
        log_q = -(0.5 * (noise.square() + LOG_2PI) + log_scales).sum(-1)
        around = Around.of(z.flatten(0, 1), batch.lengths.repeat(samples), len(place), padded=batch.padded)
        base, ladj = self.normalise(codes.flatten(0, 1), around)
        log_p = gaussian_log_prob(base).view(log_q.shape)
        # The matrix of squares needs all of float32.
        with torch.autocast(z.device.type, enabled=False):
            features = codes.flatten(0, 1).transpose(0, 1)
            targets, mask = (items.t().repeat(1, samples) for items in (word, is_word))
            log_word = log_likelihood(bayes_features(features), self.bayes(), targets, mask).view(samples, documents)
            log_length = self.lengths(z, batch.lengths - 1)
        return log_length + ladj.view(samples, documents) + ((log_p - log_q) * is_word).sum(-1) + log_word

    def normalise(
        self, codes: Float[Tensor, "M T E"], around: Around
    ) -> tuple[Float[Tensor, "M T E"], Float[Tensor, " M"]]:
        """The base noise of these codes, and log |det| of the map; every second coupling sees a code reversed."""
        total = codes.new_zeros(len(codes))
        for coupling in self.couplings:
            codes, ladj = coupling(codes.flip(-1), around)
            total = total + ladj
        return codes, total

    def invert(self, base: Float[Tensor, "M T E"], around: Around) -> Float[Tensor, "M T E"]:
        """The codes of this base noise."""
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            base = coupling.inverse(base, around).flip(-1)
        return base

    def bayes(self) -> Float[Tensor, "V 2E+1"]:
        """log p(w) q(e|w) as a linear function of (e^2, e, 1), up to what all words share."""
        precision = (-2 * self.log_scales).exp()
        constant = self.log_prior - (0.5 * precision * self.means.square() + self.log_scales).sum(-1)
        return torch.cat([-0.5 * precision, precision * self.means, constant.unsqueeze(-1)], dim=-1)

    @torch.no_grad()
    def generate(self, z: Float[Tensor, "B D"], *, temperature: float, max_words: int) -> list[list[int]]:
        possible = torch.arange(max_words + 1, device=z.device)
        words = pick(self.lengths(z.unsqueeze(1).expand(-1, len(possible), -1), possible), temperature)
        around = Around.of(z, words + 1, int(words.max()) + 1, padded=True)
        base = temperature * torch.randn(len(z), around.is_word.shape[1], self.means.shape[1], device=z.device)
        codes = self.invert(base.to(z.dtype) * around.is_word.unsqueeze(-1), around)
        weight = self.bayes().t()
        # A document at a time: all logits at once may not fit.
        return [
            (UNK + pick(bayes_features(code[:count]) @ weight, temperature)).tolist()
            for code, count in zip(codes, words.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Around:
    """What couplings know of M documents beside their codes.

    Args:
        z: [M, D].
        before, after: [M, T], places before and behind each place, up to the document's ends.
        is_word: [M, T], where there is a code; at `</s>` there is none.
        padding: [M, T], what is behind `</s>`; None where nothing is.
    """

    z: Float[Tensor, "M D"]
    before: Float[Tensor, "M T"]
    after: Float[Tensor, "M T"]
    is_word: Bool[Tensor, "M T"]
    padding: Bool[Tensor, "M T"] | None

    @classmethod
    def of(cls, z: Float[Tensor, "M D"], lengths: Int[Tensor, " M"], places: int, *, padded: bool) -> Around:
        """Documents of `lengths` places each, `</s>` counted, and at most `places`."""
        before = torch.arange(places, device=z.device).expand(len(z), -1)
        after = lengths.unsqueeze(1) - 1 - before
        return cls(z, before.to(z.dtype), after.to(z.dtype), after > 0, after < 0 if padded else None)


class Coupling(nn.Module):
    """One half of every code is shifted and scaled by what the other halves of all places say.

    Density Estimation Using Real NVP (Dinh et al., 2017), over sequences. Attention runs over all places at once,
    `</s>` with them; the last layer starts at zero, which is the identity.
    """

    def __init__(self, latent_size: int, code_size: int, layers: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.kept = code_size // 2
        self.layers = Layers(layers, heads, head_size, dropout=0.0)
        self.read = nn.Linear(self.kept + latent_size + 2 * self.layers.width, self.layers.width)
        self.write = nn.Linear(self.layers.width, 2 * (code_size - self.kept))
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def shift_and_log_scale(
        self, kept: Float[Tensor, "M T K"], around: Around
    ) -> tuple[Float[Tensor, "M T E-K"], Float[Tensor, "M T E-K"]]:
        """What moves the other half; zero where there is no code."""
        ends = [sinusoids(place, self.layers.width) for place in (around.before, around.after)]
        z = around.z.unsqueeze(1).expand(-1, kept.shape[1], -1)
        states = self.layers(self.read(torch.cat([kept, z, *ends], dim=-1)), padding=around.padding)
        written = self.write(states).to(kept.dtype).masked_fill(~around.is_word.unsqueeze(-1), 0)
        shift, raw = written.chunk(2, dim=-1)
        return shift, LOG_SCALE_BOUND * torch.tanh(raw / LOG_SCALE_BOUND)

    def forward(
        self, codes: Float[Tensor, "M T E"], around: Around
    ) -> tuple[Float[Tensor, "M T E"], Float[Tensor, " M"]]:
        kept, moved = codes[..., : self.kept], codes[..., self.kept :]
        shift, log_scale = self.shift_and_log_scale(kept, around)
        return torch.cat([kept, shift + log_scale.exp() * moved], dim=-1), log_scale.sum((-2, -1))

    def inverse(self, codes: Float[Tensor, "M T E"], around: Around) -> Float[Tensor, "M T E"]:
        """The codes that `forward` maps to these."""
        kept, moved = codes[..., : self.kept], codes[..., self.kept :]
        shift, log_scale = self.shift_and_log_scale(kept, around)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=-1)


class Lengths(nn.Module):
    """p(T|z) for T = 0, 1, 2, ...: a mixture of logistics, each rounded to whole numbers and cut off below zero.

    It starts with centres from 1 to 200 words, whatever z is.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        centres = torch.linspace(0, math.log(200), LENGTHS)
        self.mixture = Conditioner(latent_size, torch.cat([torch.zeros(LENGTHS), centres, centres - 1]))

    def forward(self, z: Float[Tensor, "*n D"], words: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """log p(T|z) in nats."""
        share, log_centre, log_scale = self.mixture(z).chunk(3, dim=-1)
        rate = (-log_scale).exp()
        above = (words.unsqueeze(-1) + 0.5 - log_centre.exp()) * rate
        # log [sigmoid(above) - sigmoid(above - rate)], less the mass above -1/2
        inside = logsigmoid(above) + logsigmoid(rate - above) + torch.log(-torch.expm1(-rate))
        mass = logsigmoid((log_centre.exp() + 0.5) * rate)
        return (share.log_softmax(-1) + inside - mass).logsumexp(-1)


def bayes_features(codes: Float[Tensor, "*n E"]) -> Float[Tensor, "*n 2E+1"]:
    """(e^2, e, 1)."""
    return torch.cat([codes.square(), codes, torch.ones_like(codes[..., :1])], dim=-1)


def pick(logits: Float[Tensor, "N K"], temperature: float) -> Int[Tensor, " N"]:
    """One of K in each row: the likeliest at temperature 0, else from softmax(logits / temperature)."""
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1).squeeze(-1)
