"""How much faster is our training step than the same step written plainly, and does it compute the same?

The plain step is the textbook's: batch-first tensors, all logits at once, one cross-entropy per token, Python loops
over the parameters to clip and to descend. Ours is `flowsearch.training.loop.descend` on the ELBO. Both have one thread
and the same batch, and take turns; time is the process' CPU time, for cores may be shared.

How fast a matrix product is in the same turns stands below: it is what either step could reach, and a core that shares
its units with a busy neighbour has less of it.

Loss and gradient are compared with the same noise and without dropout, against the plain step in float32; the
gradient's difference is |ours - plain| / |plain| over all parameters together.

Usage: python benchmarks/training_step.py [--rounds 15] [--embeddings 128] [--hidden 256] [--vocabulary 5000]
       [--documents 32] [--tokens 80] [--latent 32]
"""

from __future__ import annotations

import argparse
import itertools
from argparse import Namespace
from collections.abc import Callable

import torch
from _compare import Spread, interleaved, ratio, seconds
from torch import Tensor, nn

from flowsearch.models import VAE, Gaussian, LSTMDecoder, LSTMEncoder, StandardNormal
from flowsearch.objectives import ELBO, Phase
from flowsearch.objectives._base import EVERYTHING
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import BOS, EOS, SPECIALS
from flowsearch.training.clip import Joint
from flowsearch.training.loop import Tally, descend
from flowsearch.training.optimizers import SGD
from flowsearch.training.precision import fastest_float32

NORM, RATE = 5.0, 1.0


class PlainVAE(nn.Module):
    """The same model in its plainest form."""

    def __init__(self, size: Namespace, dropout: float) -> None:
        super().__init__()
        words, width, hidden, latent = size.vocabulary, size.embeddings, size.hidden, size.latent
        self.read = nn.Embedding(words, width)
        self.encoder = nn.LSTM(width, hidden, batch_first=True)
        self.to_latent = nn.Linear(hidden, 2 * latent, bias=False)
        self.write = nn.Embedding(words, width)
        self.to_state = nn.Linear(latent, hidden, bias=False)
        self.decoder = nn.LSTM(width + latent, hidden, batch_first=True)
        self.to_words = nn.Linear(hidden, words, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """-ELBO of each document."""
        _, (last, _) = self.encoder(self.read(tokens))
        mean, logvar = self.to_latent(last[0]).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        kl = 0.5 * (mean**2 + logvar.exp() - logvar - 1).sum(1)
        source, target = tokens[:, :-1], tokens[:, 1:]
        every_step = z.unsqueeze(1).expand(-1, source.shape[1], -1)
        cell = self.to_state(z).unsqueeze(0)
        states, _ = self.decoder(torch.cat([self.dropout(self.write(source)), every_step], 2), (cell.tanh(), cell))
        logits = self.to_words(self.dropout(states))
        per_token = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return per_token.view(target.shape).sum(1) + kl


def plain_step(model: PlainVAE, batch: Batch) -> Tensor:
    """Forward, backward, clip and descend, parameter by parameter."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = model(batch.tokens).mean()
    loss.backward()
    norm = sum(float((parameter.grad**2).sum()) for parameter in model.parameters()) ** 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= RATE * min(1.0, NORM / norm) * parameter.grad
    return loss.detach()


def ours(size: Namespace, dropout: float, *, bf16: bool = False) -> VAE:
    """Our model of that size."""
    widths = {"embedding_size": size.embeddings, "hidden_size": size.hidden}
    return VAE(
        LSTMEncoder(size.vocabulary, **widths),
        Gaussian(size.latent, size.hidden),
        StandardNormal(size.latent),
        LSTMDecoder(size.vocabulary, size.latent, **widths, dropout=dropout),
        bf16=bf16,
    )


def our_step(vae: VAE, batch: Batch) -> Callable[[], object]:
    """One step of the training loop, its optimisers made."""
    modules = {name: module for name, module in vae.named_children() if list(module.parameters())}
    rates = {name: SGD(module.parameters(), lr=RATE) for name, module in modules.items()}
    clip, phase, tally = Joint(NORM), Phase(EVERYTHING, ELBO(lambda step: 1.0, no_free_bits)), Tally(0)
    return lambda: descend(vae, phase, itertools.repeat(batch), rates, clip, tally)


def pairs(plain: PlainVAE, vae: VAE) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """The parameters of both models, matched."""
    modules = {
        plain.read: vae.encoder.embed, plain.encoder: vae.encoder.lstm, plain.to_latent: vae.posterior.linear,
        plain.write: vae.decoder.embed, plain.to_state: vae.decoder.start, plain.decoder: vae.decoder.lstm,
        plain.to_words: vae.decoder.words,
    }  # fmt: skip
    return [pair for left, right in modules.items() for pair in zip(left.parameters(), right.parameters(), strict=True)]


def a_batch(size: Namespace) -> Batch:
    """Random words between `<s>` and `</s>`."""
    tokens = torch.randint(len(SPECIALS), size.vocabulary, (size.documents, size.tokens + 1))
    tokens[:, 0], tokens[:, -1] = BOS, EOS
    lengths = torch.full((size.documents,), size.tokens)
    return Batch(tokens, lengths, torch.arange(size.documents), tokens[:, :-1], padded=False)


def difference(size: Namespace, batch: Batch, precision: str, *, bf16: bool) -> tuple[float, float]:
    """Largest relative difference of a document's loss, and the relative difference of the gradient."""
    plain, vae = PlainVAE(size, 0.0), ours(size, 0.0, bf16=bf16)
    matched = pairs(plain, vae)
    with torch.no_grad():
        for left, right in matched:
            left.copy_(4 * right)  # away from the start, where every word is as likely as every other
            right.mul_(4)
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(1)
    expected = plain(batch.tokens)
    expected.mean().backward()
    torch.set_float32_matmul_precision(precision)
    torch.manual_seed(1)
    q = vae.encode(batch)
    draw = q.draw(1)
    loss = (vae.prior.kl(q, draw) - vae.decode(draw.z, batch))[0]
    loss.mean().backward()
    error = sum(float((left.grad - right.grad).double().square().sum()) for left, right in matched)
    norm = sum(float(left.grad.double().square().sum()) for left, _ in matched)
    return float(((loss - expected) / expected).detach().abs().max()), (error / norm) ** 0.5


def main() -> None:
    """Compare the three steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options = {"rounds": 15, "embeddings": 128, "hidden": 256, "vocabulary": 5000}
    for name, default in (options | {"documents": 32, "tokens": 80, "latent": 32}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    precision = fastest_float32("cpu")
    batch = a_batch(size)

    def at(setting: str, work: Callable[[], object]) -> Callable[[], float]:
        timed = seconds(work)

        def variant() -> float:
            torch.set_float32_matmul_precision(setting)
            return timed()

        return variant

    plain = PlainVAE(size, 0.5)
    variants = {
        "plain fp32": at("highest", lambda: plain_step(plain, batch)),
        "ours fp32": at(precision, our_step(ours(size, 0.5), batch)),
        "ours bf16": at(precision, our_step(ours(size, 0.5, bf16=True), batch)),
    }
    square = torch.randn(1024, 1024)
    products = {
        "product of plain": at("highest", lambda: square @ square),
        "product of ours": at(precision, lambda: square @ square),
        "product in bf16": at(precision, lambda: square.bfloat16() @ square.bfloat16()),
    }
    times = interleaved(variants | products, size.rounds, warmup=2)
    print(f"float32 products of ours: {precision}; {size.documents} documents x {size.tokens} tokens")
    print(f"{'':12}{'ms (10 to 90 %)':>26}{'tokens/s':>10}{'times as fast':>22}{'loss':>10}{'gradient':>10}")
    for name, seen in ((name, times[name]) for name in variants):
        spread = Spread.of([1000 * second for second in seen])
        speed = 1000 * size.documents * size.tokens / spread.median
        same = ("", "") if name.startswith("plain") else tuple(
            f"{error:.0e}" for error in difference(size, batch, precision, bf16=name.endswith("bf16"))
        )  # fmt: skip
        faster = str(ratio(times["plain fp32"], seen))
        print(f"{name:12}{spread!s:>26}{speed:>10.0f}{faster:>22}{same[0]:>10}{same[1]:>10}")
    for name in products:
        print(f"{name:18}{Spread.of([2 * 1.024**3 / second for second in times[name]])} GFLOP/s")


if __name__ == "__main__":
    main()
