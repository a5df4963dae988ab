"""Documents to tensors: a batch is one numpy indexing of the flat tokens, and an epoch shows every document once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt
from torch import Tensor

from flowsearch.errors import BadInput
from flowsearch.text.corpus import Split
from flowsearch.text.vocabulary import PAD

Documents = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """B documents of at most T targets each.

    `tokens` [B, T + 1] int64: `<s> w1 .. wn </s>`, then `<pad>`; `lengths` [B]: targets per document, words + 1;
    `documents` [B]: where each stands in its split; `inputs` [B, T]: what the decoder reads, `tokens` without the last
    column unless noise has changed it; `padded`: whether any document has fewer than T targets.

    >>> split = Split(np.array([1, 4, 2, 1, 4, 5, 2], np.int32), np.array([0, 3, 7]))
    >>> batch = Batch.gather(split, np.array([1, 0]))
    >>> batch.tokens.tolist(), batch.targets.tolist(), batch.padded
    ([[1, 4, 5, 2], [1, 4, 2, 0]], [[4, 5, 2], [4, 2, 0]], True)
    """

    tokens: Tensor
    lengths: Tensor
    documents: Tensor
    inputs: Tensor
    padded: bool

    @classmethod
    def gather(cls, split: Split, documents: Documents) -> Batch:
        """The batch of these documents, in this order."""
        starts = split.offsets[documents]
        sizes = split.offsets[documents + 1] - starts
        column = np.arange(sizes.max())
        places = starts[:, None] + column
        padded = bool(sizes.min() < len(column))
        if padded:
            np.minimum(places, len(split.tokens) - 1, out=places)
        tokens = split.tokens[places].astype(np.int64)
        if padded:
            tokens[column >= sizes[:, None]] = PAD
        whole = torch.from_numpy(tokens)
        return cls(whole, torch.from_numpy(sizes - 1), torch.tensor(documents), whole[:, :-1], padded)

    @property
    def targets(self) -> Tensor:
        """What the decoder predicts [B, T]."""
        return self.tokens[:, 1:]

    @property
    def mask(self) -> Tensor:
        """Where there is a target [B, T] bool."""
        return torch.arange(self.inputs.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "lengths", "documents", "inputs")}
        return replace(self, **moved)

    def parts(self, count: int) -> list[Batch]:
        """The same documents, in order, in `count` batches; in as many as there are documents if that is fewer.

        1. One part is the batch itself.

        >>> split = Split(np.array([1, 2, 1, 2, 1, 2], np.int32), np.array([0, 2, 4, 6]))
        >>> [part.documents.tolist() for part in Batch.gather(split, np.array([2, 0, 1])).parts(2)]
        [[2, 0], [1]]
        """
        if count == 1:
            return [self]
        names = ("tokens", "lengths", "documents", "inputs")
        cut = [torch.tensor_split(getattr(self, name), min(count, len(self))) for name in names]
        return [replace(self, **dict(zip(names, part, strict=True))) for part in zip(*cut, strict=True)]


class Batches(ABC):
    """A split cut into batches of at most `batch_size` documents.

    Arguments: the split, documents per batch, then the knobs of the kind. Raises BadInput for an empty split or batch.
    """

    def __init__(self, split: Split, batch_size: int) -> None:
        if batch_size < 1:
            raise BadInput(f"data.batch_size: {batch_size}; expected at least 1 document")
        if not len(split):
            raise BadInput("batches: a split without documents; expected at least 1")
        self.split = split
        self.batch_size = batch_size
        self.fixed = self.plan(None)

    @abstractmethod
    def plan(self, order: np.random.Generator | None) -> Sequence[Documents]:
        """The documents of each batch of one epoch; None asks for the fixed order."""

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.fixed)

    def epoch(self, order: np.random.Generator | None = None) -> Iterator[Batch]:
        """Every document once, in an order drawn from `order` now, or in the fixed order."""
        plan = self.fixed if order is None else self.plan(order)
        return (Batch.gather(self.split, documents) for documents in plan)

    def random(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches of the fixed plan for ever, uniformly and with replacement."""
        while True:
            yield Batch.gather(self.split, self.fixed[int(rng.integers(len(self.fixed)))])


class EqualLength(Batches):
    """Documents of exactly equal length together, so nothing is padded; only the order of batches is random.

    "Lagging Inference Networks and Posterior Collapse in Variational Autoencoders" (He et al., 2019): batches are fixed
    once, and one that ends a length is smaller.

    >>> split = Split(np.array([1, 4, 2, 1, 4, 5, 2, 1, 5, 2], np.int32), np.array([0, 3, 7, 10]))
    >>> [batch.documents.tolist() for batch in EqualLength(split, 32).epoch()]
    [[0, 2], [1]]
    """

    def plan(self, order: np.random.Generator | None) -> Sequence[Documents]:
        if order is not None:
            return [self.fixed[batch] for batch in order.permutation(len(self.fixed)).tolist()]
        by_length = np.argsort(self.split.lengths, kind="stable")
        changes = np.flatnonzero(np.diff(self.split.lengths[by_length])) + 1
        return [batch for group in np.split(by_length, changes) for batch in _cut(group, self.batch_size)]


class BucketAndPad(Batches):
    """Documents of similar length together, padded to the longest; every batch but one is full.

    An epoch shuffles the documents, sorts each `window` batches of them by length and shuffles the batches. The fixed
    order is sorted by length throughout.

    >>> split = Split(np.array([1, 4, 2, 1, 4, 5, 2, 1, 5, 2], np.int32), np.array([0, 3, 7, 10]))
    >>> [batch.documents.tolist() for batch in BucketAndPad(split, 2).epoch()]
    [[0, 2], [1]]
    """

    def __init__(self, split: Split, batch_size: int, *, window: PositiveInt = 100) -> None:
        self.window = window
        super().__init__(split, batch_size)

    def plan(self, order: np.random.Generator | None) -> Sequence[Documents]:
        if order is None:
            return _cut(np.argsort(self.split.lengths, kind="stable"), self.batch_size)
        shuffled = order.permutation(len(self.split))
        windows = [self._sorted(part) for part in _cut(shuffled, self.window * self.batch_size)]
        batches = _cut(np.concatenate(windows), self.batch_size)
        return [batches[batch] for batch in order.permutation(len(batches)).tolist()]

    def _sorted(self, documents: Documents) -> Documents:
        return documents[np.argsort(self.split.lengths[documents], kind="stable")]


def _cut(documents: Documents, size: int) -> list[Documents]:
    """Pieces of `size`, the last as small as what is left."""
    return [documents[first : first + size] for first in range(0, len(documents), size)]
