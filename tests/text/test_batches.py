"""Laws of batches and of word dropout, for whatever is exported."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import BadInput
from flowsearch.text import BOS, EOS, PAD, Batch, Batches, BucketAndPad, EqualLength, Split, WordDropout

KINDS = Batches.__subclasses__()


def split_of(lengths: list[int]) -> Split:
    """Documents of so many words, each word different from all others; read-only, as from a file."""
    offsets = np.cumsum([0, *(words + 2 for words in lengths)])
    tokens = np.arange(10, 10 + offsets[-1], dtype=np.int32)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = BOS, EOS
    tokens.flags.writeable = offsets.flags.writeable = False
    return Split(tokens, offsets)


SPLITS = st.lists(st.integers(0, 12), min_size=1, max_size=40).map(split_of)
ORDERS = st.none() | st.integers(0, 9)
MIXED = split_of([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3] * 20)


def order_of(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


def shown(batches: list[Batch]) -> list[list[int]]:
    return [batch.documents.tolist() for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
@given(split=SPLITS, size=st.integers(1, 7), seed=ORDERS)
def test_an_epoch_shows_every_document_once(kind: type[Batches], split: Split, size: int, seed: int | None) -> None:
    batches = kind(split, size)
    epoch = list(batches.epoch(order_of(seed)))
    assert len(epoch) == len(batches)
    assert sorted(chain.from_iterable(shown(epoch))) == list(range(len(split)))
    assert all(1 <= len(batch) <= size for batch in epoch)


@pytest.mark.parametrize("kind", KINDS)
@given(split=SPLITS, size=st.integers(1, 7), seed=ORDERS)
def test_a_batch_holds_its_documents(kind: type[Batches], split: Split, size: int, seed: int | None) -> None:
    for batch in kind(split, size).epoch(order_of(seed)):
        for row, document in enumerate(batch.documents.tolist()):
            tokens, length = batch.tokens[row].tolist(), int(batch.lengths[row])
            assert tokens[: length + 1] == split[document].tolist()
            assert tokens[length] == EOS
            assert set(tokens[length + 1 :]) <= {PAD}
            assert batch.targets[row].tolist() == tokens[1:]
            assert batch.inputs[row].tolist() == tokens[:-1]
            assert batch.mask[row].tolist() == [place < length for place in range(len(tokens) - 1)]
        assert batch.padded == bool((~batch.mask).any())
        assert batch.targets.shape[1] == int(batch.lengths.max())
        assert {batch.tokens.dtype, batch.inputs.dtype, batch.lengths.dtype, batch.documents.dtype} == {torch.int64}


@given(split=SPLITS, size=st.integers(1, 7), seed=ORDERS)
def test_equal_lengths_are_never_padded(split: Split, size: int, seed: int | None) -> None:
    batches = list(EqualLength(split, size).epoch(order_of(seed)))
    assert not any(batch.padded or (batch.tokens == PAD).any() for batch in batches)
    by_length = np.unique(split.lengths, return_counts=True)[1]
    assert len(batches) == sum(-(-count // size) for count in by_length)


def test_equal_lengths_keep_their_batches_and_permute_them() -> None:
    batches = EqualLength(MIXED, 8)
    fixed, permuted = shown(list(batches.epoch())), shown(list(batches.epoch(np.random.default_rng(0))))
    assert fixed != permuted
    assert sorted(fixed) == sorted(permuted)
    assert list(chain.from_iterable(fixed)) == np.argsort(MIXED.lengths, kind="stable").tolist()


@given(split=SPLITS, size=st.integers(1, 7), window=st.integers(1, 3), seed=ORDERS)
def test_all_padded_batches_but_one_are_full(split: Split, size: int, window: int, seed: int | None) -> None:
    batches = BucketAndPad(split, size, window=window)
    sizes = sorted(len(batch) for batch in batches.epoch(order_of(seed)))
    assert sizes[1:] == [size] * (len(sizes) - 1)


def test_windows_keep_padding_small_and_change_the_company() -> None:
    batches = BucketAndPad(MIXED, 8)
    one, two = (list(batches.epoch(np.random.default_rng(seed))) for seed in (0, 1))
    assert {frozenset(documents) for documents in shown(one)} != {frozenset(documents) for documents in shown(two)}
    padding = sum(int((~batch.mask).sum()) for batch in one)
    alone = sum(int((~batch.mask).sum()) for batch in BucketAndPad(MIXED, 8, window=1).epoch(np.random.default_rng(0)))
    assert padding < 0.1 * alone
    lengths = [int(batch.lengths.max()) for batch in batches.epoch()]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_is_a_function_of_the_generator(kind: type[Batches]) -> None:
    batches = kind(MIXED, 8)
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    epochs = [shown(list(batches.epoch(one))) for _ in range(2)]
    assert epochs == [shown(list(batches.epoch(two))) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert shown(list(islice(batches.random(one), 9))) == shown(list(islice(batches.random(two), 9)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_draws_its_order_when_it_is_asked_for(kind: type[Batches]) -> None:
    batches, rng = kind(MIXED, 8), np.random.default_rng(5)
    before = rng.bit_generator.state
    epoch = batches.epoch(rng)
    after = rng.bit_generator.state
    list(epoch)
    assert before != after == rng.bit_generator.state


@pytest.mark.parametrize("kind", KINDS)
def test_random_batches_are_uniform(kind: type[Batches]) -> None:
    batches = kind(split_of([1, 2, 3, 4]), 1)
    drawn = shown(list(islice(batches.random(np.random.default_rng(0)), 4_000)))
    counts = np.bincount(np.ravel(drawn), minlength=4)
    assert np.abs(counts - 1_000).max() < 4 * np.sqrt(750)


@pytest.mark.parametrize("kind", KINDS)
def test_nonsense_is_refused(kind: type[Batches]) -> None:
    with pytest.raises(BadInput, match=r"data\.batch_size: 0"):
        kind(MIXED, 0)
    with pytest.raises(BadInput, match="a split without documents"):
        kind(Split(np.array([], np.int32), np.array([0])), 8)


def test_a_batch_moves_as_a_whole() -> None:
    batch = next(BucketAndPad(MIXED, 8).epoch()).to("meta")
    assert {tensor.device.type for tensor in (batch.tokens, batch.inputs, batch.lengths, batch.mask)} == {"meta"}


BATCH = Batch.gather(split_of([50, 3, 40] * 50), np.arange(150))


def test_dropout_touches_words_in_the_inputs_only() -> None:
    before = BATCH.tokens.clone()
    noisy = WordDropout(1.0, 7)(BATCH)
    words = BATCH.mask.clone()
    words[:, 0] = False
    assert (noisy.inputs[words] == 7).all()
    assert torch.equal(noisy.inputs[~words], BATCH.inputs[~words])
    assert torch.equal(noisy.tokens, before)
    assert torch.equal(BATCH.inputs, before[:, :-1])
    assert torch.equal(noisy.targets, before[:, 1:])


def test_dropout_has_its_rate_and_keeps_the_other_words() -> None:
    noisy = WordDropout(0.3, 7)(BATCH, torch.Generator().manual_seed(0))
    words = int(BATCH.mask[:, 1:].sum())
    hidden = noisy.inputs == 7
    assert abs(int(hidden.sum()) / words - 0.3) < 4 * (0.3 * 0.7 / words) ** 0.5
    assert torch.equal(noisy.inputs[~hidden], BATCH.inputs[~hidden])


def test_dropout_draws_from_the_generator_and_a_rate_of_zero_draws_nothing() -> None:
    one, two, other = (WordDropout(0.5, 7)(BATCH, torch.Generator().manual_seed(s)).inputs for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    state = torch.random.get_rng_state()
    assert WordDropout(0.0, 7)(BATCH) is BATCH
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="expected between 0 and 1"):
        WordDropout(rate, 7)
