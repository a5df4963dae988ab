"""What cut a trial short decides whether it is tried again."""

from __future__ import annotations

import pickle

import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from flowsearch.search.scheduler import is_of_node
from flowsearch.search.task import Crash, DiskRefused, OutOfMemory
from flowsearch.search.trainable import crash


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ActorDiedError(), False),
        (
            RayActorError(error_msg="The actor is dead because its worker process has died."),
            False,
        ),
        (RayActorError(error_msg="The actor died because its node has died. Node Id: 7f, ..."), True),
        (RayActorError(preempted=True), True),
        (ActorUnavailableError("Socket closed", b"\0" * 16), True),
    ],
)
def test_a_worker_that_went_with_its_node_is_not_to_blame(error: RayActorError, expected: bool) -> None:
    assert is_of_node(error) is expected


def test_memory_that_torch_could_not_get_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert type(crash(raised.value, "")) is OutOfMemory
    assert type(crash(torch.OutOfMemoryError("CUDA out of memory"), "")) is OutOfMemory
    assert type(crash(RuntimeError("no"), "")) is Crash


@pytest.mark.parametrize("number", [5, 28, 122])
def test_a_disk_that_refuses_a_worker_is_told_to_the_driver_with_its_number(number: int) -> None:
    told = pickle.loads(pickle.dumps(crash(OSError(number, "no"), "trace")))
    assert isinstance(told, DiskRefused)
    assert (told.number, told.trace) == (number, "trace")
    assert "no" in told.reason
    assert type(crash(FileNotFoundError(2, "gone"), "")) is Crash
